# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that isn't there: its QMP socket, and an agent that says that vusb_hcd is loaded already. So vusbd
loads the guest in mode `module`, and the case plays the module itself, on the host's mount."""

import base64
import json
import socket
import threading

AGENT_COMMANDS = ["guest-sync-delimited", "guest-info", "guest-exec", "guest-exec-status", "guest-file-open",
                  "guest-file-close", "guest-file-read", "guest-file-write", "guest-file-flush"]


class Machine:
    """Its sockets are in `directory`; `fields` are what a guest's declaration needs."""

    def __init__(self, directory):
        self.listeners, self.connections = [], []
        self.results = {}
        self.fields = {
            "connector": "qemu",
            "mode": "module",
            "qmp": self._listen(directory / "qmp.sock", self._serve_qmp),
            "agent": self._listen(directory / "agent.sock", self._serve_agent),
            "share": "virtiofs:vusb",
        }

    def close(self):
        for one in self.listeners + self.connections:
            try:
                # close alone wouldn't wake the thread in accept or recv.
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The other side has closed it.
            one.close()

    def _listen(self, path, serve):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()
        return str(path)

    def _accept(self, listener, serve):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._converse, args=(connection, serve), daemon=True).start()

    def _converse(self, connection, serve):
        try:
            with connection.makefile("rb") as lines:
                serve(connection, lines)
        except (OSError, ValueError):
            pass  # vusbd has gone.

    def _serve_qmp(self, connection, lines):
        def say(message):
            connection.sendall(json.dumps(message).encode() + b"\n")

        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        say({"QMP": {"version": version, "capabilities": []}})
        for line in lines:
            command = json.loads(line)
            running = {"status": "running", "running": True, "singlestep": False}
            say({"return": running if command["execute"] == "query-status" else {}, "id": command.get("id")})

    def _serve_agent(self, connection, lines):
        for line in lines:
            # 0xFF in front has the agent drop what it has half read.
            command = json.loads(line.split(b"\xff")[-1])
            name, arguments = command["execute"], command.get("arguments", {})
            mark = b"\xff" if name == "guest-sync-delimited" else b""
            connection.sendall(mark + json.dumps({"return": self._answer(name, arguments)}).encode() + b"\n")

    def _answer(self, name, arguments):
        if name == "guest-sync-delimited":
            return arguments["id"]
        if name == "guest-info":
            commands = [{"name": name, "enabled": True, "success-response": True} for name in AGENT_COMMANDS]
            return {"version": "7.2.0", "supported_commands": commands}
        if name == "guest-exec":
            self.results[len(self.results) + 1] = self._run(" ".join(arguments.get("arg", [])))
            return {"pid": len(self.results)}
        if name == "guest-exec-status":
            output = base64.b64encode(self.results[arguments["pid"]].encode()).decode()
            return {"exited": True, "exitcode": 0, "out-data": output}
        if name == "guest-file-open":
            return 1
        if name == "guest-file-read":
            boot = base64.b64encode(b"0123-4567\n").decode()
            return {"count": 10, "buf-b64": boot, "eof": True}
        return {}

    def _run(self, script):
        if "vusb-facts-1" in script:
            facts = ["vusb-facts-1", "release 6.1.0", "machine x86_64", "uid 0", "boot 0123-4567",
                     "module vusb_hcd 0 - Live", "path /vusb/hcd", "mount virtiofs vusb", "end 1"]
            return "\n".join(facts) + "\n"
        if "vusb-users-1" in script:
            return "vusb-users-1\nend 1\n"
        return ""

# SPDX-License-Identifier: Apache-2.0
"""qmp.py SOCKET COMMAND [KEY=VALUE...]   runs one QMP command; device_del waits for DEVICE_DELETED
qmp.py SOCKET --keys KEY...             presses and releases each key"""

import json
import socket
import sys

DEADLINE_SECONDS = 30


class QMP:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r")
        self.events = []
        json.loads(self.lines.readline())
        self.execute("qmp_capabilities", {})

    def next_message(self):
        line = self.lines.readline()
        if not line:
            sys.exit("QEMU closed the QMP connection")
        return json.loads(line)

    def execute(self, command, arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self.next_message()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                sys.exit(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_deleted(self, identifier):
        while not any(
            e["event"] == "DEVICE_DELETED" and e["data"].get("device") == identifier for e in self.events
        ):
            message = self.next_message()
            if "event" in message:
                self.events.append(message)


def press(qmp, key):
    for down in (True, False):
        event = {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": key}}}
        qmp.execute("input-send-event", {"events": [event]})


def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    qmp = QMP(sys.argv[1])
    command, rest = sys.argv[2], sys.argv[3:]
    if command == "--keys":
        for key in rest:
            press(qmp, key)
        return
    # Only numbers, true and false are taken as JSON; an id such as "1" must be quoted by the caller.
    arguments = {key: value(text) for key, text in (word.split("=", 1) for word in rest)}
    result = qmp.execute(command, arguments)
    if command == "device_del":
        qmp.wait_deleted(arguments["id"])
    if result:
        print(json.dumps(result))


main()

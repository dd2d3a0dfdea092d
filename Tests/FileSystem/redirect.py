# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that isn't there, for mode `redirect`: QMP as far as vusbd uses it, and the guest's side of the
usbredir protocol (usb-redirection-protocol.txt, 0.7; little-endian, packed), which the case plays."""

import json
import queue
import select
import socket
import struct
import threading

from harness import PATIENCE

HELLO, CONNECT, DISCONNECT, RESET, INTERFACES, ENDPOINTS, SET_CONFIGURATION = range(7)
SET_ALTERNATE, GET_ALTERNATE, ALTERNATE_STATUS = 9, 10, 11
START_ISO, STOP_ISO, ISO_STATUS, START_INTERRUPT, STOP_INTERRUPT, INTERRUPT_STATUS = range(12, 18)
ALLOCATE_STREAMS, FREE_STREAMS, STREAMS_STATUS, CANCEL, REJECT = range(18, 23)
START_BULK, STOP_BULK, BULK_STATUS = 25, 26, 27
CONTROL, BULK, ISO, INTERRUPT, BUFFERED = range(100, 105)

SUCCESS, CANCELLED, INVALID, IO_ERROR, STALL = range(5)

LONG_IDS = 5
# All of them, QEMU's too: streams, version, filter, acknowledged disconnect, packet sizes, long ids and lengths, ahead.
EVERYTHING = 0xFF


class Peer:
    """The guest's side of one connection."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.settimeout(PATIENCE)
        self.received = b""
        self.is_long = False

    def close(self):
        self.connection.close()

    def raw(self, data):
        """Sends, or finds the connection closed: then there is nobody to offend."""
        try:
            self.connection.sendall(data)
            return True
        except OSError:
            return False

    def packet(self, kind, body=b"", number=0, length=None):
        length = len(body) if length is None else length
        form = "<IIQ" if self.is_long else "<III"
        return struct.pack(form, kind, length, number) + body

    def say(self, kind, body=b"", number=0):
        return self.raw(self.packet(kind, body, number))

    def hello(self, capabilities=EVERYTHING, version=b"a peer of the tests"):
        return self.packet(HELLO, struct.pack("<64sI", version, capabilities))

    def greet(self, capabilities=EVERYTHING):
        """Says hello and takes what comes up to the device's own."""
        self.next()
        self.raw(self.hello(capabilities))
        self.is_long = capabilities >> LONG_IDS & 1 == 1
        return self.until(CONNECT)

    def _take(self, count):
        while len(self.received) < count:
            piece = self.connection.recv(1 << 16)
            if not piece:
                raise EOFError("vusbd has closed the connection")
            self.received += piece
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def next(self):
        """Kind, id and body of the next message; EOFError at the end."""
        kind, length = struct.unpack("<II", self._take(8))
        number = int.from_bytes(self._take(8 if self.is_long else 4), "little")
        return kind, number, self._take(length)

    def until(self, wanted):
        while True:
            message = self.next()
            if message[0] == wanted:
                return message

    def until_closed(self):
        """Reads to the end."""
        try:
            while self.connection.recv(1 << 20):
                pass
        except ConnectionError:
            pass  # It was closed before it had read all.

    def is_silent(self, seconds):
        return not self.received and not select.select([self.connection], [], [], seconds)[0]

    # Requests

    def control(self, number, request_type, request, value=0, index=0, length=0, data=b"", endpoint=None):
        endpoint = request_type & 0x80 if endpoint is None else endpoint
        body = struct.pack("<BBBBHHH", endpoint, request, request_type, 0, value, index, length)
        return self.packet(CONTROL, body + data, number)

    def descriptor(self, number):
        return self.control(number, 0x80, 6, 0x0100, 0, 18)

    def bulk(self, number, endpoint, length, data=b"", stream=0):
        return self.packet(BULK, self._bulk_header(endpoint, length, stream) + data, number)

    @staticmethod
    def _bulk_header(endpoint, length, stream):
        return struct.pack("<BBHIH", endpoint, 0, length & 0xFFFF, stream, length >> 16)

    def interrupt(self, number, endpoint, length, data=b""):
        return self.packet(INTERRUPT, struct.pack("<BBH", endpoint, 0, length) + data, number)

    def iso(self, number, endpoint, length, data=b""):
        return self.packet(ISO, struct.pack("<BBH", endpoint, 0, length) + data, number)

    def status_of(self, kind, body):
        """What an answer says, by its kind."""
        place = {CONTROL: 3, BULK: 1, INTERRUPT: 1, ISO_STATUS: 0, INTERRUPT_STATUS: 0, STREAMS_STATUS: 8,
                 BULK_STATUS: 5, ALTERNATE_STATUS: 0}[kind]
        return body[place]


class RedirectMachine:
    """QMP of a machine with an xHCI controller. What vusbd plugs in connects at once; `peers` has the connections."""

    OBJECTS = {
        "/machine": [("peripheral", "container")],
        "/machine/peripheral": [("xhci", "qemu-xhci")],
        "/machine/peripheral/xhci": [("xhci.0", "usb-bus")],
    }

    def __init__(self, directory):
        path = directory / "qmp.sock"
        self.fields = {"connector": "qemu", "qmp": str(path)}
        self.peers = queue.Queue()
        self.chardevs, self.devices, self.taken = {}, {}, set()
        self.lock = threading.Lock()
        self.connections = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for one in [self.listener, *self.connections]:
            try:
                # close alone wouldn't wake the thread in accept or recv.
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The other side has closed it.
            one.close()

    def peer(self):
        """The guest's side of what was plugged in last."""
        return Peer(self.peers.get(timeout=PATIENCE))

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        def say(message):
            connection.sendall(json.dumps(message).encode() + b"\n")

        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        try:
            say({"QMP": {"version": version, "capabilities": []}})
            with connection.makefile("rb") as lines:
                for line in lines:
                    command = json.loads(line)
                    with self.lock:
                        answer, event = self._answer(command["execute"], command.get("arguments", {}))
                    say({**answer, "id": command.get("id")})
                    if event:
                        say(event)
        except (OSError, ValueError):
            pass  # vusbd has gone.

    def _answer(self, name, arguments):
        """The answer, and the event that comes behind it."""
        call = getattr(self, "_" + name.replace("-", "_"), None)
        if not call:
            return {"return": {}}, None
        try:
            result = call(**arguments)
        except LookupError as error:
            return {"error": {"class": error.args[0], "desc": error.args[1]}}, None
        if name != "device_del":
            return {"return": result}, None
        stamp = {"seconds": 0, "microseconds": 0}
        return {"return": {}}, {"event": "DEVICE_DELETED", "data": {"device": result}, "timestamp": stamp}

    def _query_status(self):
        return {"status": "running", "running": True, "singlestep": False}

    def _qom_list(self, path):
        entries = list(self.OBJECTS.get(path, []))
        if path == "/machine/peripheral":
            entries += [(name, "usb-redir") for name in self.devices]
        return [{"name": name, "type": f"child<{kind}>"} for name, kind in entries]

    def _qom_get(self, path, property):
        if property in ("p2", "p3"):
            return 8
        raise LookupError("GenericError", f"no property {property}")

    def _query_chardev(self):
        return [{"label": name, "filename": "unix:", "frontend-open": True} for name in self.chardevs]

    def _chardev_add(self, id, backend):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(backend["data"]["addr"]["data"]["path"])
        self.chardevs[id] = connection
        self.peers.put(connection)
        return {}

    def _chardev_remove(self, id):
        if id not in self.chardevs:
            raise LookupError("GenericError", f"Chardev '{id}' not found")
        del self.chardevs[id]
        return {}

    def _device_add(self, driver, id, bus, port, **options):
        if port in self.devices.values():
            raise LookupError("GenericError", f"usb port {port} (bus {bus}) not found (in use?)")
        self.devices[id] = port
        return {}

    def _device_del(self, id):
        if id not in self.devices:
            raise LookupError("DeviceNotFound", f"Device '{id}' not found")
        del self.devices[id]
        return id

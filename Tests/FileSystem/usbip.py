# SPDX-License-Identifier: Apache-2.0
"""A client of the USB/IP protocol, version 1.1.1 (big-endian), which a case plays: one that is good, or means harm."""

import socket
import struct

from harness import PATIENCE

VERSION = 0x0111
SUBMIT, UNLINK, RET_SUBMIT, RET_UNLINK = range(1, 5)
REQUEST_LIST, REPLY_LIST, REQUEST_IMPORT, REPLY_IMPORT = 0x8005, 0x0005, 0x8003, 0x0003
NO_DEVICE = 4
BUSY = 2
# What the protocol's document says of a transfer that isn't isochronous; kernels say 0.
NO_PACKETS = 0xFFFF_FFFF
RECORD, INTERFACE = 312, 4


def operation(code, body=b"", version=VERSION):
    return struct.pack(">HHI", version, code, 0) + body


def request_import(busid="1-1"):
    busid = busid.encode() if isinstance(busid, str) else busid
    return operation(REQUEST_IMPORT, busid.ljust(32, b"\0"))


class Reply:
    """RET_SUBMIT or RET_UNLINK."""

    def __init__(self, kind, seqnum, status, data=b"", packets=()):
        self.kind, self.seqnum, self.status, self.data, self.packets = kind, seqnum, status, data, packets

    def __repr__(self):
        name = {RET_SUBMIT: "RET_SUBMIT", RET_UNLINK: "RET_UNLINK"}.get(self.kind, self.kind)
        return f"{name} {self.seqnum}: {self.status}, {len(self.data)} bytes, {len(self.packets)} packets"


class Importer:
    """One connection. What it has asked for it knows by the seqnum: a reply doesn't say which way data go."""

    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.device = 0
        self.asked = {}

    def close(self):
        self.connection.close()

    def reset(self):
        """Closes it with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def raw(self, data):
        """Sends, or finds the connection closed: then there is nobody to offend."""
        try:
            self.connection.sendall(data)
            return True
        except OSError:
            return False

    def _take(self, count):
        while len(self.received) < count:
            piece = self.connection.recv(1 << 18)
            if not piece:
                raise EOFError("vusbd has closed the connection")
            self.received += piece
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def until_closed(self):
        """Reads to the end; returns what came."""
        rest = self.received
        try:
            while piece := self.connection.recv(1 << 20):
                rest += piece
        except ConnectionError:
            pass  # It was closed before it had read all.
        return bytes(rest)

    # Requests

    def list(self):
        """The busids; it ends the connection."""
        self.raw(operation(REQUEST_LIST))
        version, code, status, count = struct.unpack(">HHII", self._take(12))
        assert (version, code, status) == (VERSION, REPLY_LIST, 0), (version, code, status)
        busids = []
        for _ in range(count):
            record = self._take(RECORD)
            self._take(INTERFACE * record[-1])
            busids.append(record[256:288].rstrip(b"\0").decode())
        assert self.until_closed() == b""
        return busids

    def take(self, busid="1-1"):
        """Imports; returns the status."""
        self.raw(request_import(busid))
        return self.take_reply()

    def take_reply(self):
        version, code, status = struct.unpack(">HHI", self._take(8))
        assert (version, code) == (VERSION, REPLY_IMPORT), (version, code)
        if status == 0:
            bus, number = struct.unpack(">II", self._take(RECORD)[288:296])
            self.device = bus << 16 | number
        return status

    # Commands

    def command(self, kind, seqnum, direction, endpoint, words, setup=bytes(8)):
        return struct.pack(">10I", kind, seqnum, self.device, direction, endpoint, *words) + setup

    def submit(self, seqnum, endpoint, length=0, data=b"", setup=bytes(8), flags=0, count=0):
        """Of an endpoint address; data go out, or `length` bytes come in."""
        is_in = endpoint & 0x80 != 0
        self.asked[seqnum] = is_in
        number = endpoint & 0x7F
        length = length if is_in or not data else len(data)
        return self.command(SUBMIT, seqnum, int(is_in), number, (flags, length, 0, count, 0), setup) + data

    def control(self, seqnum, setup, data=b""):
        length = struct.unpack("<H", setup[6:])[0]
        return self.submit(seqnum, setup[0] & 0x80, length, data, setup)

    def descriptor(self, seqnum):
        return self.control(seqnum, struct.pack("<BBHHH", 0x80, 6, 0x0100, 0, 18))

    def isochronous(self, seqnum, endpoint, lengths, data=b""):
        descriptors, offset = b"", 0
        for length in lengths:
            descriptors += struct.pack(">IIII", offset, length, 0, 0)
            offset += length
        return self.submit(seqnum, endpoint, offset, data, flags=2, count=len(lengths)) + descriptors

    def unlink(self, seqnum, target):
        return self.command(UNLINK, seqnum, 0, 0, (target, 0, 0, 0, 0))

    def next(self):
        """The next reply; EOFError at the end."""
        kind, seqnum, device, direction, endpoint, status, length, _, count, _ = struct.unpack(">5Ii4I", self._take(40))
        self._take(8)
        assert (device, direction, endpoint) == (0, 0, 0), (device, direction, endpoint)
        if kind == RET_UNLINK:
            return Reply(kind, seqnum, status)
        assert kind == RET_SUBMIT, kind
        data = self._take(length) if self.asked.pop(seqnum) else b""
        count = 0 if count == NO_PACKETS else count
        packets = [struct.unpack(">IIIi", self._take(16)) for _ in range(count)]
        return Reply(kind, seqnum, status, data, packets)

    def ask(self, frame):
        self.raw(frame)
        return self.next()

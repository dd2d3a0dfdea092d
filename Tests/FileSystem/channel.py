# SPDX-License-Identifier: Apache-2.0
"""Plays the guest's module on a file `hcd`: the records of kmod-shim/uapi/vusb_abi.h."""

import os
import struct

HELLO, ADDED, REMOVE, REMOVED, SUBMIT, COMPLETE, CANCEL, RESET, RESET_DONE = range(1, 10)
QUIESCE, QUIESCED, RESUME, RESUMED, WAIT, PING, PONG, BYE = range(10, 18)
CONTROL, ISOCHRONOUS, BULK, INTERRUPT = range(4)
HEAD = struct.Struct("<IHHQ")
# The file's size: reads and writes are never longer.
SIZE = 512 << 10


def record(kind, device=0, number=0, body=b"", payload=b""):
    size = 48 + len(payload)
    return HEAD.pack(size, kind, device, number) + body.ljust(32, b"\0") + payload + bytes(-size % 8)


def hello(wait=1_000_000, name=b"test 1", magic=0x42535556):
    """wait: microseconds that a read may take."""
    return record(HELLO, body=struct.pack("<IHHIIIII", magic, 1, 8, 3, 0, 0, 1 << 20, wait), payload=name)


def submit(device, number, endpoint, length, data=b"", transfer=BULK, flags=0, packets=0, setup=b""):
    fixed = struct.pack("<BBHIHHI", endpoint, transfer, flags, length, 0, packets, 0)
    return record(SUBMIT, device, number, fixed + setup.ljust(8, b"\0"), data)


def control(device, number, setup, data=b""):
    return submit(device, number, 0, struct.unpack_from("<H", setup, 6)[0], data, CONTROL, setup=setup)


class Record:
    def __init__(self, data):
        self.size, self.kind, self.device, self.number = HEAD.unpack_from(data)
        self.body, self.payload = data[16:48], data[48 : self.size]
        # Of a completion, and of a reset's answer.
        self.status, self.actual = struct.unpack_from("<iI", self.body)

    def __repr__(self):
        return f"type {self.kind} device {self.device} id {self.number:#x} {self.body[:12].hex()} {self.payload[:16]}"


class Channel:
    """An open `hcd`. Both directions are at offset 0, as exporters have it."""

    def __init__(self, path, flags=0):
        self.file = os.open(path, os.O_RDWR | flags)
        self.rest = b""
        self.devices = []

    def close(self):
        os.close(self.file)

    def write(self, data):
        return os.pwrite(self.file, data, 0)

    def read(self, size=SIZE):
        return os.pread(self.file, size, 0)

    def greet(self, wait=1_000_000):
        """Says hello; the answer."""
        self.write(hello(wait))
        answer = self.next()
        assert answer.kind == HELLO, answer
        return answer

    def next(self, size=SIZE):
        """The next record; waits through reads that return nothing."""
        while (whole := self._whole()) is None:
            self.rest += self.read(size)
        data, self.rest = self.rest[:whole], self.rest[whole:]
        return Record(data)

    def until(self, kind):
        """The next record of that kind; what comes before it is dropped."""
        while (answer := self.next()).kind != kind:
            pass
        return answer

    def _whole(self):
        if len(self.rest) < 48:
            return None
        size = HEAD.unpack_from(self.rest)[0]
        size += -size % 8
        return size if len(self.rest) >= size else None

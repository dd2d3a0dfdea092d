#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# gadget-adb.py DIRECTORY: a device for adb, by FunctionFS mounted in DIRECTORY: connects whoever asks, keeps what is
# pushed in memory and gives it back. Its shell knows `echo TEXT` and `sha256sum FILE`.
import errno
import hashlib
import queue
import struct
import sys
import threading

from functionfs import Function

VERSION = 0x01000001  # The first without sums over the data.
MAXIMUM = 256 * 1024
BANNER = b"device::ro.product.name=vusb;ro.product.model=vusb;ro.product.device=vusb;\0"

files = {}


class Closed(Exception):
    """The host wants no more of a stream."""


class Stream:
    """What the host has opened: a service's bytes both ways, for a thread of its own."""

    def __init__(self, device, number, host_number):
        self.device, self.number, self.host_number = device, number, host_number
        # None ends both.
        self.incoming, self.acknowledged = queue.SimpleQueue(), queue.SimpleQueue()
        self._unread = bytearray()

    def read(self, count):
        while len(self._unread) < count:
            self._unread += self._next(self.incoming)
            self.device.send(b"OKAY", self.number, self.host_number)
        data = bytes(self._unread[:count])
        del self._unread[:count]
        return data

    def write(self, data):
        for start in range(0, len(data), MAXIMUM):
            self.device.send(b"WRTE", self.number, self.host_number, data[start : start + MAXIMUM])
            self._next(self.acknowledged)

    def close(self):
        self.incoming.put(None)
        self.acknowledged.put(None)

    @staticmethod
    def _next(source):
        item = source.get()
        if item is None:
            raise Closed
        return item


def shell(stream, command):
    name, _, argument = command.partition(" ")
    if name == "echo":
        answer = argument
    elif name == "sha256sum" and argument in files:
        answer = hashlib.sha256(files[argument]).hexdigest()
    else:
        answer = f"{command}: not known here"
    stream.write(answer.encode() + b"\n")


def sync(stream, _):
    """`adb push` and `adb pull`: requests of four letters and a number, mostly of the bytes that follow."""
    while True:
        request, count = struct.unpack("<4sI", stream.read(8))
        argument = stream.read(count).decode()
        if request == b"STAT":
            data = files.get(argument)
            stream.write(struct.pack("<4s3I", request, *((0, 0, 0) if data is None else (0o100644, len(data), 0))))
        elif request == b"SEND":
            files[argument.rpartition(",")[0]] = pushed(stream)
            stream.write(struct.pack("<4sI", b"OKAY", 0))
        elif request == b"RECV":
            give(stream, files[argument])
        else:
            return


def pushed(stream):
    data = bytearray()
    while True:
        kind, count = struct.unpack("<4sI", stream.read(8))
        # Of DONE it's a time.
        if kind == b"DONE":
            return bytes(data)
        data += stream.read(count)


def give(stream, data):
    part = 64 * 1024
    pieces = [data[start : start + part] for start in range(0, len(data), part)]
    stream.write(b"".join(struct.pack("<4sI", b"DATA", len(piece)) + piece for piece in pieces))
    stream.write(struct.pack("<4sI", b"DONE", 0))


SERVICES = {"shell": shell, "sync": sync}


class Device:
    def __init__(self, function):
        self._function = function
        self._sending = threading.Lock()
        self._streams = {}
        self._last_number = 0

    def send(self, command, first, second, data=b""):
        magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        with self._sending:
            self._function.write(struct.pack("<4s5I", command, first, second, len(data), 0, magic))
            if data:
                self._function.write(data)

    def serve(self):
        """Until the host goes."""
        try:
            while True:
                command, first, second, count, _, _ = struct.unpack("<4s5I", self._function.read(24))
                self._take(command, first, second, self._function.read(count))
        except OSError as error:
            if error.errno != errno.ESHUTDOWN:
                raise
        finally:
            self._forget()

    def _take(self, command, first, second, data):
        stream = self._streams.get(second)
        if command == b"CNXN":
            self._forget()
            self.send(b"CNXN", VERSION, MAXIMUM, BANNER)
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode())
        elif stream is None:
            pass
        elif command == b"OKAY":
            stream.acknowledged.put(True)
        elif command == b"WRTE":
            stream.incoming.put(data)
        elif command == b"CLSE":
            stream.close()

    def _open(self, host_number, service):
        name, _, argument = service.partition(":")
        if name not in SERVICES:
            self.send(b"CLSE", 0, host_number)
            return
        self._last_number += 1
        stream = Stream(self, self._last_number, host_number)
        self._streams[stream.number] = stream
        threading.Thread(target=self._run, args=(stream, SERVICES[name], argument), daemon=True).start()

    def _run(self, stream, service, argument):
        try:
            self.send(b"OKAY", stream.number, stream.host_number)
            service(stream, argument)
            self.send(b"CLSE", stream.number, stream.host_number)
        except (Closed, OSError):
            # The host has closed it, or is gone.
            pass
        self._streams.pop(stream.number, None)

    def _forget(self):
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()


device = Device(Function(sys.argv[1], 0x42, 0x01, "ADB Interface"))
while True:
    device.serve()

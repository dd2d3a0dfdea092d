# SPDX-License-Identifier: Apache-2.0
#
# functionfs.py: a USB function served by a program, by the kernel's FunctionFS: one vendor-specific interface with a
# bulk OUT and a bulk IN endpoint, in this order. Read by gadget-*.py.
import os
import struct

# The kernel wants memory in one piece for a read or write.
PART = 16384


def descriptors(subclass, protocol):
    def at_speed(packet):
        interface = struct.pack("<9B", 9, 4, 0, 0, 2, 0xFF, subclass, protocol, 1)
        return interface + b"".join(struct.pack("<4BHB", 7, 5, address, 2, packet, 0) for address in (0x01, 0x82))

    body = at_speed(64) + at_speed(512)
    # FUNCTIONFS_DESCRIPTORS_MAGIC_V2; flags: for full and high speed; three descriptors for each.
    return struct.pack("<5I", 3, 20 + len(body), 3, 3, 3) + body


def strings(name):
    body = struct.pack("<H", 0x0409) + name.encode() + b"\0"
    # FUNCTIONFS_STRINGS_MAGIC; one string in one language.
    return struct.pack("<4I", 2, 16 + len(body), 1, 1) + body


class Function:
    """In `directory` FunctionFS is mounted. The gadget can be plugged in once `ready` is printed."""

    def __init__(self, directory, subclass, protocol, name):
        # The function lasts as long as this is open.
        self._control = os.open(f"{directory}/ep0", os.O_RDWR)
        os.write(self._control, descriptors(subclass, protocol))
        os.write(self._control, strings(name))
        self._out = os.open(f"{directory}/ep1", os.O_RDONLY)
        self._in = os.open(f"{directory}/ep2", os.O_WRONLY)
        print("ready", flush=True)

    def packet(self, limit=512):
        """What the host sends next. Waits for a host; `OSError` when one has gone."""
        return os.read(self._out, limit)

    def read(self, count):
        """So many bytes. Packets without any, which end transfers, say nothing."""
        data = bytearray()
        while len(data) < count:
            data += self.packet(min(PART, count - len(data)))
        return bytes(data)

    def write(self, data):
        """Whole packets but for the last one."""
        for start in range(0, len(data), PART):
            os.write(self._in, data[start : start + PART])

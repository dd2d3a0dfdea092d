#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""read-sector.py DEVICE-DIRECTORY SECTOR: one sector of a USB disk, by nothing but open, read and write.

DEVICE-DIRECTORY is the disk's place in a guest's tree, such as /vusb/guests/web1/devices/1-1. A USB stick speaks the
bulk-only transport: a command goes out, data comes in, then a status. Each write(2) and each read(2) is one USB
transfer. The sector's bytes go to standard output."""

import os
import struct
import sys

SECTOR_SIZE = 512
# Bulk-only transport 1.0, section 5: command wrapper with signature USBC, status wrapper with USBS.
COMMAND_WRAPPER = struct.Struct("<4sIIBBB16s")
STATUS_WRAPPER = struct.Struct("<4sIIB")


def read_ten(sector, count):
    """SCSI READ(10)."""
    return struct.pack(">BBIBHB", 0x28, 0, sector, 0, count, 0)


def endpoints(directory):
    """The files of the disk's bulk endpoints: bit 7 of the address says that it is IN."""
    addresses = [int(name, 16) for name in os.listdir(f"{directory}/ep") if name != "00"]
    find = lambda bit: next(f"{directory}/ep/{a:02x}" for a in sorted(addresses) if a & 0x80 == bit)
    return find(0x80), find(0)


def main():
    directory, sector = sys.argv[1], int(sys.argv[2])
    in_file, out_file = endpoints(directory)
    in_endpoint = os.open(in_file, os.O_RDONLY)
    out_endpoint = os.open(out_file, os.O_WRONLY)

    tag = 1
    command = read_ten(sector, 1)
    wrapper = COMMAND_WRAPPER.pack(b"USBC", tag, SECTOR_SIZE, 0x80, 0, len(command), command)
    os.write(out_endpoint, wrapper)
    data = os.read(in_endpoint, SECTOR_SIZE)
    signature, answered, residue, status = STATUS_WRAPPER.unpack(os.read(in_endpoint, STATUS_WRAPPER.size))

    if (signature, answered, status) != (b"USBS", tag, 0):
        sys.exit(f"the disk answered with status {status}")
    sys.stdout.buffer.write(data[: SECTOR_SIZE - residue])


main()

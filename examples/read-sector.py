#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads sectors of a USB stick with plain file I/O: no driver, no library, only the files in its ep/ directory.

    read-sector.py /vusb/guests/NAME/devices/1-1            the names in its root directory
    read-sector.py /vusb/guests/NAME/devices/1-1 FILE.TXT   that file's first sector

A stick speaks the bulk-only protocol (USB Mass Storage Class, Bulk-Only Transport 1.0): the host writes a command block
wrapper (CBW) of 31 bytes to the OUT endpoint, data come from the IN endpoint, then a command status wrapper (CSW) of
13 bytes. In the CBW is a SCSI command, here READ(10). Each write and each read below is one USB transfer.
"""

import glob
import os
import struct
import sys


class Stick:
    def __init__(self, device):
        # The file's name is the endpoint's address: bit 7 means IN, 00 is the control endpoint.
        addresses = {int(os.path.basename(path), 16): path for path in sorted(glob.glob(f"{device}/ep/*"))}
        self.bulk_in = os.open(next(addresses[number] for number in addresses if number & 0x80), os.O_RDONLY)
        self.bulk_out = os.open(next(addresses[number] for number in addresses if 0 < number < 0x80), os.O_WRONLY)
        self.tag = 0

    def read_sectors(self, first, count=1):
        read10 = struct.pack(">BBIBHB", 0x28, 0, first, 0, count, 0)  # SCSI is big-endian ...
        return self.command(read10, count * 512)

    def command(self, block, length):
        self.tag += 1
        # ... and USB little-endian: signature, tag, bytes of data, direction (0x80 is IN), unit 0, command's length.
        wrapper = struct.pack("<4sIIBBB16s", b"USBC", self.tag, length, 0x80, 0, len(block), block)
        os.write(self.bulk_out, wrapper)
        data = os.read(self.bulk_in, length)
        signature, tag, residue, status = struct.unpack("<4sIIB", os.read(self.bulk_in, 13))
        if (signature, tag, status) != (b"USBS", self.tag, 0):
            sys.exit(f"the stick failed the command: status {status}")
        return data


def main(device, wanted=None):
    stick = Stick(device)
    # A FAT file system's first sector tells where the rest is (all in sectors but the number of directory entries).
    boot = stick.read_sectors(0)
    if boot[510:512] != b"\x55\xaa":
        sys.exit("sector 0 has no boot signature")
    per_cluster, reserved, fats, entries = struct.unpack_from("<BHBH", boot, 13)
    fat_size = struct.unpack_from("<H", boot, 22)[0]
    root = reserved + fats * fat_size
    data = root + entries * 32 // 512
    print(f"sector 0: a FAT file system made by {boot[3:11].decode().strip()}, its root directory is sector {root}")

    # Entries of 32 bytes: name, extension, attributes (8 is the label), ..., first cluster, size.
    directory = stick.read_sectors(root)
    for offset in range(0, 512, 32):
        name, extension, attributes, cluster, size = struct.unpack_from("<8s3sB14xHI", directory, offset)
        if name[0] in (0, 0xE5) or attributes & 8:
            continue
        full_name = f"{name.decode().strip()}.{extension.decode().strip()}".rstrip(".")
        first = data + (cluster - 2) * per_cluster
        print(f"sector {root}: {full_name}, {size} bytes, from sector {first} on")
        if full_name == wanted:
            print(stick.read_sectors(first)[:size].decode(), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""make bench: mode redirect against QEMU's own usb-storage, and against usbredirect (README.md)."""

import sys

from vm import Failure, conclude, table

# As of issue "QEMU guests with no software in them": of QEMU's own throughput, and of usbredirect's.
LEAST_OF_QEMU = 0.8
LEAST_OF_REFERENCE = 1.0

# What is measured: for people, whether it's a throughput (bytes by seconds) or a time of one request, and the bar.
DISK = {
    "read-128K": ("disk, sequential read, 128 KiB", "throughput", LEAST_OF_QEMU),
    "write-128K": ("disk, sequential write, 128 KiB", "throughput", LEAST_OF_QEMU),
    "random-4K": ("disk, random read, 4 KiB", "latency", LEAST_OF_QEMU),
}
ZERO = {
    "usbtest-9": ("usbtest 9, control", "latency", LEAST_OF_REFERENCE),
    "usbtest-27": ("usbtest 27, bulk out, 32 x 1 KiB", "latency", LEAST_OF_REFERENCE),
    "usbtest-28": ("usbtest 28, bulk in, 32 x 1 KiB", "latency", LEAST_OF_REFERENCE),
}


def main():
    try:
        disk, bars = table(
            "redirect-disk", {"rounds": 5, "megabytes": 256, "requests": 1000}, DISK, "redirect", "qemu",
            "Redirected disk, against QEMU's own usb-storage")
        zero, more = table(
            "redirect-zero", {"rounds": 5, "iterations": 50}, ZERO, "vusbd", "reference",
            "Redirected gadget of one machine in another, against usbredirect")
    except Failure as failure:
        print(f"redirect.py: {failure}", file=sys.stderr)
        return 2
    bars += more
    return conclude("redirect", {"disk": disk, "zero": zero}, bars)


if __name__ == "__main__":
    sys.exit(main())

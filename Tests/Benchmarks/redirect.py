# SPDX-License-Identifier: Apache-2.0
"""make bench: mode redirect against QEMU's own usb-storage, and against usbredirect (README.md)."""

import statistics
import sys

from vm import Failure, boot, conclude, samples, spread, value

# As of issue "QEMU guests with no software in them": of QEMU's own throughput, and of usbredirect's.
LEAST_OF_QEMU = 0.8
LEAST_OF_REFERENCE = 1.0

# What is measured: for people, and whether it's a throughput (bytes by seconds) or a time of one request.
DISK = {
    "read-128K": ("disk, sequential read, 128 KiB", "throughput"),
    "write-128K": ("disk, sequential write, 128 KiB", "throughput"),
    "random-4K": ("disk, random read, 4 KiB", "latency"),
}
ZERO = {
    "usbtest-9": ("usbtest 9, control", "latency"),
    "usbtest-27": ("usbtest 27, bulk out, 32 x 1 KiB", "latency"),
    "usbtest-28": ("usbtest 28, bulk in, 32 x 1 KiB", "latency"),
}


def speeds(kind, ways, way, yardstick):
    """How fast `way` is by `yardstick`, round by round: above 1 is better, for a time as well."""
    rounds = sorted(ways[way].keys() & ways[yardstick].keys())
    pairs = [(value(kind, ways[way][number]), value(kind, ways[yardstick][number])) for number in rounds]
    return [mine / other if kind == "throughput" else other / mine for mine, other in pairs]


def spent(results, where):
    """Seconds of processor time, in a column; a dash where they weren't taken."""
    seconds = [result[where] for result in results.values() if where in result]
    return f"{statistics.median(seconds):>8.2f}" if seconds else f"{'-':>8}"


def row(name, kind, ways, way, yardstick, limit):
    """Prints one line; returns its bar."""
    by_yardstick = speeds(kind, ways, way, yardstick)
    median = statistics.median(by_yardstick)
    met = median >= limit
    figures = "".join(
        f"{statistics.median(value(kind, result) for result in ways[one].values()):>11.1f}" for one in (yardstick, way))
    times = "".join(spent(ways[one], where) for where in ("cpu", "host") for one in (yardstick, way))
    verdict = "ok" if met else f"MISSED (>= {limit})"
    print(f"  {name:<34}{figures}  {spread(by_yardstick):<19}{times}  {verdict}", flush=True)
    return {"name": name, "value": median, "limit": limit, "atLeast": True, "met": met}


def table(case, configuration, tests, way, yardstick, limit, title):
    """Measures, prints a table; returns samples and bars."""
    found = samples(boot(case, configuration))
    print(f"\n{title} (MB/s, or us a request or iteration; speed: more is better)")
    print(f"  {'':<34}{yardstick:>11}{way:>11}  {'speed':<19}"
          f"{'CPU s in the guest, on the host: ' + yardstick + ', ' + way:<21}", flush=True)
    bars = []
    for test, (name, kind) in tests.items():
        ways = found.get(test, {})
        if set(ways) != {way, yardstick}:
            raise Failure(f"{test} was measured for {sorted(ways)} only")
        bars.append(row(name, kind, ways, way, yardstick, limit))
    return found, bars


def main():
    try:
        disk, bars = table(
            "redirect-disk", {"rounds": 5, "megabytes": 256, "requests": 1000}, DISK, "redirect", "qemu", LEAST_OF_QEMU,
            "Redirected disk, against QEMU's own usb-storage")
        zero, more = table(
            "redirect-zero", {"rounds": 5, "iterations": 50}, ZERO, "vusbd", "reference", LEAST_OF_REFERENCE,
            "Redirected gadget of one machine in another, against usbredirect")
    except Failure as failure:
        print(f"redirect.py: {failure}", file=sys.stderr)
        return 2
    bars += more
    return conclude("redirect", {"disk": disk, "zero": zero}, bars)


if __name__ == "__main__":
    sys.exit(main())

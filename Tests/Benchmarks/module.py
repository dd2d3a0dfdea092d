# SPDX-License-Identifier: Apache-2.0
"""make bench: the guest's module against USB/IP and against native use, in one virtual machine (README.md)."""

import statistics
import sys

from vm import Failure, boot, conclude, samples, spread, value

# As of issue "The per-guest USB module".
LEAST_OF_USBIP = 1.3
LEAST_OF_NATIVE = 0.7
MOST_LATENCY_OF_USBIP = 0.8

# What is measured: a name for people, and whether it is a throughput (bytes by seconds) or a time of one request.
TESTS = {
    "read-1024K": ("disk, sequential read, 1 MiB", "throughput"),
    "write-1024K": ("disk, sequential write, 1 MiB", "throughput"),
    "read-64K": ("disk, sequential read, 64 KiB", "throughput"),
    "random-4K": ("disk, random read, 4 KiB", "latency"),
    "control-9": ("usbtest 9, control", "latency"),
    "bulk-27": ("usbtest 27, bulk out, 32 x 1 KiB", "latency"),
    "bulk-28": ("usbtest 28, bulk in, 32 x 1 KiB", "latency"),
}
WAYS = ("native", "usbip", "module")


def ratios(kind, ways, yardstick):
    """The module's value by the yardstick's, round by round."""
    rounds = sorted(ways["module"].keys() & ways[yardstick].keys())
    return [value(kind, ways["module"][number]) / value(kind, ways[yardstick][number]) for number in rounds]


def row(test, ways, bars):
    """Prints one line, notes its bars."""
    name, kind = TESTS[test]
    medians = {way: statistics.median(value(kind, result) for result in ways[way].values()) for way in WAYS}
    cpu = {way: statistics.median(result.get("cpu", 0.0) for result in ways[way].values()) for way in WAYS}
    by_usbip, by_native = ratios(kind, ways, "usbip"), ratios(kind, ways, "native")
    if kind == "throughput":
        checks = [("usbip", by_usbip, LEAST_OF_USBIP, True), ("native", by_native, LEAST_OF_NATIVE, True)]
    else:
        checks = [("usbip", by_usbip, MOST_LATENCY_OF_USBIP, False)]
    verdicts = []
    for yardstick, numbers, limit, at_least in checks:
        median = statistics.median(numbers)
        met = median >= limit if at_least else median <= limit
        bars.append({"name": f"{name}, by {yardstick}", "value": median, "limit": limit, "atLeast": at_least, "met": met})
        verdicts.append("ok" if met else f"MISSED ({yardstick} {'>=' if at_least else '<='} {limit})")
    figures = "".join(f"{medians[way]:>9.1f}" for way in WAYS)
    times = "".join(f"{cpu[way]:>7.2f}" for way in WAYS)
    print(f"  {name:<34}{figures}  {spread(by_usbip):<19}{spread(by_native):<19}{times}  {', '.join(verdicts)}", flush=True)


def module(configuration):
    """Measures, prints the table; returns figures and bars for the file."""
    found = samples(boot("module", configuration))
    bars = []
    print("\nModule, against USB/IP on loopback and native use (MB/s, or us a request or iteration)")
    print(f"  {'':<34}{'native':>9}{'usbip':>9}{'module':>9}  {'module/usbip':<19}{'module/native':<19}"
          f"{'CPU s: native, usbip, module':<21}", flush=True)
    for test in TESTS:
        ways = found.get(test, {})
        if set(ways) != set(WAYS):
            raise Failure(f"{test} was measured for {sorted(ways)} only")
        row(test, ways, bars)
    return found, bars


def main():
    try:
        found, bars = module({"rounds": 5, "megabytes": 32, "requests": 400, "iterations": 200})
    except Failure as failure:
        print(f"module.py: {failure}", file=sys.stderr)
        return 2
    return conclude("module", found, bars)


if __name__ == "__main__":
    sys.exit(main())

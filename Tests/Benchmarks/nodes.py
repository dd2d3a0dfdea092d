# SPDX-License-Identifier: Apache-2.0
"""make bench: a guest's character node against the device's own usbfs node, by one libusb program (README.md)."""

import statistics
import sys

from vm import Failure, boot, conclude, samples, spread, value

# As of issue "Unmodified programs", of native throughput at 256 KiB with 8 in flight.
LEAST_OF_NATIVE = 0.5
BARRED = ("in-262144-8", "out-262144-8")
TESTS = {
    f"{direction}-{size}-{depth}": (f"bulk {direction}, {size >> 10} KiB, {depth} in flight", "throughput")
    for direction in ("in", "out")
    for size in (16384, 262144)
    for depth in (1, 8)
} | {"control": ("control, GET_STATUS", "latency"), "empty": ("an ioctl that does nothing", "latency")}


def row(test, ways):
    """Prints one line; returns its bar, if it has one."""
    name, kind = TESTS[test]
    rounds = sorted(ways["node"].keys() & ways["native"].keys())
    ratios = [value(kind, ways["node"][number]) / value(kind, ways["native"][number]) for number in rounds]
    median = statistics.median(ratios)
    figures = "".join(
        f"{statistics.median(value(kind, result) for result in ways[way].values()):>10.1f}" for way in ("native", "node"))
    times = "".join(
        f"{statistics.median(result['cpu'] for result in ways[way].values()):>7.2f}" for way in ("native", "node"))
    met = median >= LEAST_OF_NATIVE
    verdict = "" if test not in BARRED else "  ok" if met else f"  MISSED (>= {LEAST_OF_NATIVE})"
    print(f"  {name:<34}{figures}  {spread(ratios):<19}{times}{verdict}", flush=True)
    if test not in BARRED:
        return None
    return {"name": name, "value": median, "limit": LEAST_OF_NATIVE, "atLeast": True, "met": met}


def main():
    try:
        found = samples(boot("nodes", {"rounds": 5, "mebibytes": 8, "requests": 500}))
        print("\nCharacter node, against the device's own usbfs node (MB/s, or us a request; node/native)")
        print(f"  {'':<34}{'native':>10}{'node':>10}  {'node/native':<19}{'CPU s: native, node':<14}", flush=True)
        for test in TESTS:
            if set(found.get(test, {})) != {"native", "node"}:
                raise Failure(f"{test} was measured for {sorted(found.get(test, {}))} only")
        bars = [bar for bar in (row(test, found[test]) for test in TESTS) if bar]
    except Failure as failure:
        print(f"nodes.py: {failure}", file=sys.stderr)
        return 2
    return conclude("nodes", found, bars)


if __name__ == "__main__":
    sys.exit(main())

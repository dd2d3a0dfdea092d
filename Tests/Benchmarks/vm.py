# SPDX-License-Identifier: Apache-2.0
"""What benchmarks in virtual machines share: they boot a case of Tests/VM/benches and read what it prints."""

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "Tests" / "VM"
# Without the instructions that copy memory byte by byte under emulation, and fast on any real processor that has them.
PROCESSOR = "max,-erms,-fsrm"


class Failure(Exception):
    """It couldn't be measured."""


def samples(log):
    """The lines that the guest printed, by test, way and round; the round that warms up is left out."""
    found = {}
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("BENCH "):
            continue
        sample = json.loads(line.removeprefix("BENCH "))
        if sample["round"] > 0:
            # What the host has spent meanwhile, where the case asked.
            result = sample["result"] | ({"host": sample["host"]} if "host" in sample else {})
            found.setdefault(sample["test"], {}).setdefault(sample["way"], {})[sample["round"]] = result
    return found


def value(kind, result):
    """MB/s for a throughput, microseconds for a latency."""
    if kind == "throughput":
        return result["bytes"] / result["seconds"] / 1e6
    return result["p50"] if "p50" in result else result["seconds"] / result["iterations"] * 1e6


def spread(numbers):
    return f"{statistics.median(numbers):5.2f} ({min(numbers):.2f}-{max(numbers):.2f})"


def boot(case, configuration):
    """Runs the measurement `case` in a guest; returns its log."""
    with tempfile.TemporaryDirectory(prefix="vusb-bench-") as directory:
        image = Path(directory) / "image"
        extra = Path(directory) / "bench.conf"
        extra.write_text("".join(f"{key}={number}\n" for key, number in configuration.items()))
        environment = {"VUSB_CPU": PROCESSOR} | os.environ
        environment |= {"VUSB_CASES": str(VM / "benches"), "VUSB_BENCH_CONF": str(extra)}
        subprocess.run([VM / "image.sh", "--out", image], check=True, env=environment, stdout=subprocess.DEVNULL)
        work = Path(directory) / "work"
        work.mkdir()
        log = ROOT / "out" / "bench" / f"{case}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(
            [VM / "host" / "run-case.sh", case, image, work, log], env=environment, check=False,
            stdout=subprocess.PIPE, text=True,
        )
        if result.returncode != 0:
            raise Failure(result.stdout.strip())
        return log


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
    verdict = "ok" if met else f"MISSED (>= {limit:.2f})"
    print(f"  {name:<34}{figures}  {spread(by_yardstick):<19}{times}  {verdict}", flush=True)
    return {"name": name, "value": median, "limit": limit, "atLeast": True, "met": met}


def table(case, configuration, tests, way, yardstick, title):
    """Measures, prints a table; returns samples and bars. `tests` maps names to (name for people, kind, least speed)."""
    found = samples(boot(case, configuration))
    print(f"\n{title} (MB/s, or us a request or iteration; speed: more is better)")
    print(f"  {'':<34}{yardstick:>11}{way:>11}  {'speed':<19}"
          f"{'CPU s in the guest, on the host: ' + yardstick + ', ' + way:<21}", flush=True)
    bars = []
    for test, (name, kind, limit) in tests.items():
        ways = found.get(test, {})
        if set(ways) != {way, yardstick}:
            raise Failure(f"{test} was measured for {sorted(ways)} only")
        bars.append(row(name, kind, ways, way, yardstick, limit))
    return found, bars


def conclude(name, found, bars):
    """Keeps what was found, says how many bars were met; returns the exit code."""
    path = ROOT / "out" / f"bench-{name}.json"
    path.write_text(json.dumps({"samples": found, "bars": bars}, indent=1) + "\n")
    met = sum(bar["met"] for bar in bars)
    print(f"  {met} of {len(bars)} bars met; all samples in {path.relative_to(ROOT)}")
    return 0 if met == len(bars) else 1

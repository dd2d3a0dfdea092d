# SPDX-License-Identifier: Apache-2.0
"""make bench: an endpoint file of an emulated device against a FUSE file that does nothing (README.md)."""

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from arbiter import arbiter
from measure import Row, Spread, allocations, compare, extend
from memory import DEVICES, GUESTS, memory
from servers import CPUS, Failure, NullFile, Vusbd

ROUNDS = 11
READERS = (1, 2, 4)
OPERATIONS = ("read", "write")
CLIENTS = (1, 8)
FORMS = (True, False)
LATENCY_SIZE = 64
SIZES = (4 << 10, 64 << 10, 512 << 10)
# As of issue "The spine".
LEAST_THROUGHPUT = 0.85
BARRED_SIZES = (64 << 10, 512 << 10)
MOST_LATENCY = 1.25
# Fewer than these in 100,000 transfers are not the transfers' own.
MOST_ALLOCATIONS = 10 / 100_000
MOST_UPKEEP = 0.01
MOST_IDLE_KIB = 60 << 10
MOST_DEVICE_KIB = 64

EMULATED = ["zero,name=high,speed=high", "zero,name=full,speed=full"]
GUEST = {"bench": ["emu-high", "emu-full"]}


class Report:
    """What is printed, kept for the file, and held against the bars."""

    def __init__(self):
        self.json = {}
        self.bars = []

    def bar(self, name, value, limit, at_least=False):
        """Notes whether `value` keeps to `limit`, and says so in a word."""
        met = value >= limit if at_least else value <= limit
        self.bars.append({"name": name, "value": value, "limit": limit, "atLeast": at_least, "met": met})
        return "ok" if met else "MISSED"

    @staticmethod
    def title(text):
        print(f"\n{text}", flush=True)

    @staticmethod
    def line(*columns):
        widths = (29, 25, 25, 19, 15, 7)
        print("  " + "".join(f"{text:<{width}} " for text, width in zip(columns, widths)).rstrip(), flush=True)

    def compared(self, section, comparisons):
        self.json[section] = [comparison.json() for comparison in comparisons]


def start_bench_daemon(stack, directory, name="vusb", **options):
    daemon = Vusbd(directory, name=name, emulate=EMULATED, guests=GUEST, **options)
    stack.callback(daemon.close)
    daemon.load("bench")
    return daemon


def start_null(stack, directory, programs, **options):
    null = NullFile(directory, programs, **options)
    stack.callback(null.close)
    return null


def cpu_text(comparison):
    null, mine = (comparison.spread(server, "cpu").median for server in ("null", "vusb"))
    return f"{null:.1f} {mine:.1f}"


def compare_until_met(programs, servers, rows, is_met):
    """Compares, and has a row that misses its bar measured twice more at most; all its pairs count then."""
    comparisons = compare(programs, servers, rows, ROUNDS)
    for _ in range(2):
        extend(programs, servers, [comparison for comparison in comparisons if not is_met(comparison)], ROUNDS)
    return comparisons


def throughput(report, programs, servers):
    report.title(f"Throughput in MB/s: median of {ROUNDS} (least-most); ratio of vusb to the null file, pair by pair")
    report.line("", "null file", "vusb", "ratio", "CPU us/URB", f">= {LEAST_THROUGHPUT}")
    rows = [Row(operation, size, clients, pinned) for size in SIZES for operation in OPERATIONS
            for clients in CLIENTS for pinned in FORMS]
    value = "bytes_per_second"
    comparisons = compare_until_met(
        programs, servers, rows,
        lambda one: one.row.size not in BARRED_SIZES or one.ratio(value).median >= LEAST_THROUGHPUT)
    for comparison in comparisons:
        ratio = comparison.ratio(value)
        verdict = ""
        if comparison.row.size in BARRED_SIZES:
            verdict = report.bar(f"throughput, {comparison.row.name}", ratio.median, LEAST_THROUGHPUT, at_least=True)
        report.line(comparison.row.name.replace(" client", "").replace("s,", ","),
                    comparison.spread("null", value).text(0, 1e6), comparison.spread("vusb", value).text(0, 1e6),
                    ratio.text(2), cpu_text(comparison), verdict)
    report.compared("throughput", comparisons)


def latency(report, programs, servers):
    report.title(f"Latency in us of {LATENCY_SIZE} bytes: median of {ROUNDS} (least-most); ratio as above")
    report.line("", "null file", "vusb", "ratio", "CPU us/URB", f"<= {MOST_LATENCY}")
    rows = [Row(operation, LATENCY_SIZE, clients, pinned) for clients in CLIENTS for operation in OPERATIONS
            for pinned in FORMS]
    comparisons = compare_until_met(
        programs, servers, rows, lambda one: one.ratio("p50").median <= MOST_LATENCY)
    for comparison in comparisons:
        for value in ("p50", "p99"):
            ratio = comparison.ratio(value)
            verdict = ""
            if value == "p50":
                verdict = report.bar(f"latency, {comparison.row.name}", ratio.median, MOST_LATENCY)
            report.line(f"{value} {comparison.row.operation}, {comparison.row.clients}, {comparison.row.form}",
                        comparison.spread("null", value).text(1), comparison.spread("vusb", value).text(1),
                        ratio.text(2), cpu_text(comparison) if value == "p50" else "", verdict)
    report.compared("latency", comparisons)


def readers(report, programs, directory):
    """What more reader threads would bring: no bar, but the reason for the default."""
    report.title("Reader threads of vusbd, free form: thousands of transfers a second, p50/p99 in us, CPU us/URB")
    rows = [Row(operation, size, clients, False) for size in (LATENCY_SIZE, 64 << 10) for operation in OPERATIONS
            for clients in CLIENTS]
    with contextlib.ExitStack() as stack:
        daemons = [start_bench_daemon(stack, directory, name=f"readers{number}", readers=number)
                   for number in READERS]
        comparisons = compare(programs, daemons, rows, ROUNDS)
    report.line("", *(f"{number} reader{'s' * (number > 1)}" for number in READERS))
    for comparison in comparisons:
        cells = []
        for number in READERS:
            samples = comparison.samples[f"readers{number}"]
            rate = Spread(sample.bytes_per_second / comparison.row.size for sample in samples)
            p50, p99, cpu = (comparison.spread(f"readers{number}", value).median for value in ("p50", "p99", "cpu"))
            cells.append(f"{rate.median / 1e3:.1f}  {p50:.1f}/{p99:.0f}  {cpu:.1f}")
        report.line(comparison.row.name.replace(", free", ""), *cells)
    report.compared("readers", comparisons)


def count_allocations(report, programs, directory):
    report.title("Allocations a URB in steady state (all that were counted)")
    report.line("", "null file: libfuse", "vusb: libfuse", "vusb: its own", "other threads", f"<= {MOST_ALLOCATIONS}")
    rows = [(Row(operation, size, clients, True), least) for size, clients, least in
            ((LATENCY_SIZE, 1, 100_000), (64 << 10, 8, 25_000)) for operation in OPERATIONS]
    counter = Path(programs) / "malloccount.so"
    found = []
    with contextlib.ExitStack() as stack:
        null = start_null(stack, directory, programs, malloccount=counter)
        daemon = start_bench_daemon(stack, directory, malloccount=counter)
        for row, least in rows:
            null_total, null_counts = allocations(programs, null, row, least)
            total, counts = allocations(programs, daemon, row, least)
            verdict = report.bar(f"allocations, {row.name}", counts[1] / total, MOST_ALLOCATIONS)
            # The daemon's upkeep allocates a few times a second; a task for each transfer would show here.
            others = report.bar(f"allocations of other threads, {row.name}", counts[2] / total, MOST_UPKEEP)
            cells = [f"{count / of:.3f} ({count})"
                     for count, of in zip([null_counts[0], *counts], [null_total] + [total] * 3)]
            report.line(row.name.replace(", pinned", ""), *cells, verdict if verdict != "ok" else others)
            found.append({"row": row.name, "null": [null_total, *null_counts], "vusb": [total, *counts]})
    report.json["allocations"] = found


def resident_memory(report, directory):
    report.title(f"Resident memory of vusbd; {DEVICES} devices on {GUESTS} guests")
    steps = memory(directory)
    report.line("", "MiB", "of it anonymous", "KiB a device", "", "")
    idle = steps[0]
    for before, step in zip([idle] + steps, steps):
        verdict, each = "", ""
        if step is idle:
            verdict = report.bar("memory, idle, KiB", idle["all"], MOST_IDLE_KIB)
            limit = f"< {MOST_IDLE_KIB >> 10} MiB"
        elif step["attached"] == DEVICES:
            value = (step["all"] - idle["all"]) / DEVICES
            each, limit = f"{value:.1f}", f"< {MOST_DEVICE_KIB} KiB"
            verdict = report.bar(f"memory, {step['what']}, KiB a device", value, MOST_DEVICE_KIB)
        else:
            limit = ""
        if step["attached"] > before["attached"]:
            further = (step["all"] - before["all"]) / (step["attached"] - before["attached"])
            each = f"{each} (further {further:.1f})".strip()
        report.line(step["what"][:27], f"{step['all'] / 1024:.1f}", f"{step['anonymous'] / 1024:.1f}", each, limit,
                    verdict)
    report.json["memory"] = steps


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpus": len(CPUS), "model": model, "kernel": platform.release(), "load": os.getloadavg()[0]}


def run(report, sections, programs, directory):
    with contextlib.ExitStack() as stack:
        if {"throughput", "latency"} & sections:
            servers = [start_null(stack, directory, programs), start_bench_daemon(stack, directory)]
            if "throughput" in sections:
                throughput(report, programs, servers)
            if "latency" in sections:
                latency(report, programs, servers)
    if "readers" in sections:
        readers(report, programs, Path(directory) / "readers")
    if "allocations" in sections:
        count_allocations(report, programs, Path(directory) / "allocations")
    if "memory" in sections:
        resident_memory(report, Path(directory) / "memory")
    if "arbiter" in sections:
        arbiter(report, programs, Path(directory) / "arbiter")


def conclude(report, path, begun):
    missed = [bar for bar in report.bars if not bar["met"]]
    report.json |= {"bars": report.bars, "seconds": round(time.monotonic() - begun, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.json, indent=1) + "\n")
    print(f"\n{len(report.bars) - len(missed)} of {len(report.bars)} bars met in {report.json['seconds']:.0f} s; "
          f"load {os.getloadavg()[0]:.1f}; figures in {path}")
    for bar in missed:
        print(f"MISSED: {bar['name']}: {bar['value']:.3f}, not {'>=' if bar['atLeast'] else '<='} {bar['limit']}")
    return 1 if missed else 0


def main():
    every = ["throughput", "latency", "readers", "allocations", "memory", "arbiter"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, help="where nullfile, fileclient and malloccount.so are")
    parser.add_argument("--json", required=True, type=Path, help="where the figures go")
    parser.add_argument("section", nargs="*", default=every, help=f"of {' '.join(every)}; default all")
    options = parser.parse_args()
    if unknown := set(options.section) - set(every):
        parser.error(f"no section {' '.join(unknown)}; there are {' '.join(every)}")
    # So that servers are ended and mounts go away then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    begun, report = time.monotonic(), Report()
    report.json["machine"] = machine()
    about = report.json["machine"]
    print(f"{about['model']}, {about['cpus']} CPUs, Linux {about['kernel']}, load {about['load']:.1f}")
    if about["load"] > 1.2:
        print("The machine is busy: ratios hold roughly, absolute figures don't.")
    print("pinned: client and server share one CPU; free: the scheduler places them. "
          "CPU us/URB: the server's processor time, null file and vusb.")
    with tempfile.TemporaryDirectory(prefix="vusb-bench-") as directory:
        try:
            run(report, set(options.section), options.programs, directory)
        except Failure as failure:
            print(f"bench: {failure}", file=sys.stderr)
            for log in Path(directory).glob("**/log"):
                sys.stderr.write(f"{log.parent.name}: {log.read_text(errors='replace')[-2000:]}\n")
            return 2
    return conclude(report, options.json, begun)


if __name__ == "__main__":
    sys.exit(main())

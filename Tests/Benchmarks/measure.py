# SPDX-License-Identifier: Apache-2.0
"""One measurement, and many of them in pairs."""

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field

from servers import CPUS, PINNED_CPU, Failure

# Each measurement's own time; the alternation makes up for its shortness.
SECONDS = 0.15


@dataclass(frozen=True)
class Row:
    """What is measured: transfers of `size` bytes by `clients` threads of one process."""
    operation: str
    size: int
    clients: int
    pinned: bool

    @property
    def size_name(self):
        return f"{self.size >> 10} KiB" if self.size >= 1024 else f"{self.size} B"

    @property
    def form(self):
        return "pinned" if self.pinned else "free"

    @property
    def name(self):
        return f"{self.size_name} {self.operation}, {self.clients} client{'s' * (self.clients > 1)}, {self.form}"


@dataclass
class Sample:
    bytes_per_second: float
    operations: int
    p50: float
    p99: float
    cpu: float
    """Microseconds of the server's processor time for each transfer."""


def client_command(programs, server, row, seconds):
    return [f"{programs}/fileclient", str(server.file(row.operation, row.size)), row.operation, str(row.size),
            str(row.clients), str(seconds)]


def start_client(programs, server, row, seconds):
    """Starts a client on the CPUs of the row's form, and has the server run there."""
    cpus = {PINNED_CPU} if row.pinned else CPUS
    server.pin(cpus)
    return subprocess.Popen(client_command(programs, server, row, seconds), stdout=subprocess.PIPE, text=True,
                            preexec_fn=lambda: os.sched_setaffinity(0, cpus))


def finish_client(client, row):
    output, _ = client.communicate(timeout=60)
    if client.returncode != 0:
        raise Failure(f"{row.name}: the client ended with {client.returncode}")
    return output.split()


def measure(programs, server, row, seconds=SECONDS):
    before = server.cpu_seconds()
    fields = finish_client(start_client(programs, server, row, seconds), row)
    cpu = server.cpu_seconds() - before
    operations = int(fields[0])
    if operations == 0:
        raise Failure(f"{row.name}: {server.name} did nothing")
    return Sample(int(fields[1]) / float(fields[2]), operations, float(fields[3]), float(fields[4]),
                  cpu * 1e6 / operations)


@dataclass
class Spread:
    """A median and what it lies in."""
    median: float
    least: float
    most: float

    def __init__(self, values):
        values = list(values)
        self.median, self.least, self.most = statistics.median(values), min(values), max(values)

    def text(self, digits, scale=1):
        return (f"{self.median / scale:.{digits}f} "
                f"({self.least / scale:.{digits}f}-{self.most / scale:.{digits}f})")


@dataclass
class Comparison:
    """The samples of one row on each server, in their order, and what came out."""
    row: Row
    samples: dict = field(default_factory=dict)

    def spread(self, server, value):
        return Spread(getattr(sample, value) for sample in self.samples[server])

    def ratio(self, value):
        """vusb's to the null file's, pair by pair: each pair saw the same machine."""
        return Spread(getattr(mine, value) / max(getattr(null, value), 1e-9)
                      for null, mine in zip(self.samples["null"], self.samples["vusb"]))

    def json(self):
        return {"operation": self.row.operation, "size": self.row.size, "clients": self.row.clients,
                "form": self.row.form, "samples": {
                    server: [sample.__dict__ for sample in samples] for server, samples in self.samples.items()}}


def compare(programs, servers, rows, rounds):
    """Measures each row on each server in turn, `rounds` times."""
    comparisons = [Comparison(row, {server.name: [] for server in servers}) for row in rows]
    extend(programs, servers, comparisons, rounds)
    return comparisons


def extend(programs, servers, comparisons, rounds):
    """Adds samples; each round begins with another server."""
    for number in range(rounds):
        order = servers[number % len(servers):] + servers[:number % len(servers)]
        for comparison in comparisons:
            for server in order:
                comparison.samples[server.name].append(measure(programs, server, comparison.row))


def allocations(programs, server, row, least):
    """Allocations in at least `least` transfers of a client that has been running for a while.

    Returns (transfers, [libfuse's, those of threads that carry transfers, those of other threads])."""
    total, counts = 0, [0, 0, 0]
    while total < least:
        warm_up, window, rest = 0.3, 1.0, 0.2
        client = start_client(programs, server, row, warm_up + window + rest)
        time.sleep(warm_up)
        begun, before = time.monotonic(), server.allocations()
        time.sleep(window)
        after, ended = server.allocations(), time.monotonic()
        fields = finish_client(client, row)
        total += int(int(fields[0]) * (ended - begun) / float(fields[2]))
        counts = [so_far + late - early for so_far, late, early in zip(counts, after, before)]
    return total, counts

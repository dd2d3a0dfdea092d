# SPDX-License-Identifier: Apache-2.0
"""What it takes to give a device to another guest, and what priorities bring and cost where guests share a bus."""

import contextlib
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from measure import Row, Spread, finish_client, measure
from servers import NullFile, Vusbd, wait_for

SWITCHES = 200
SWITCHED = "emu-switched"
FLOODS = (("81", "read", 64 << 10), ("02", "write", 64 << 10), ("81", "read", 512 << 10), ("02", "write", 512 << 10))
URGENT = Row("read", 64, 1, False)
FLOOD = Row("flood", 64 << 10, 1, False)
FOR_EVER = 3600
ROUNDS = 13
# The default, which the bars are for, and with less in front of a request.
READERS = (1, 4)
COST_ROUNDS = 41
SECONDS = 0.5
# What an interrupt endpoint's driver does, and reads that find the endpoint's interval of 1 ms over.
PERIODS = {"pending": 0, "each 2.5 ms": 2500}
ALTERNATE_2 = bytes([0x01, 0x0B, 2, 0, 0, 0, 0, 0])
# The bars: p99 by that alone, throughput by that without priorities, us a URB.
MOST_LATENCY = 2.0
LEAST_THROUGHPUT = 0.9
MOST_COST = 0.3

EMULATED = ["zero,name=switched,speed=high", "zero,name=urgent,speed=full",
            *(f"zero,name=flood-{number},speed=full" for number in range(len(FLOODS)))]
LOW = [f"low{number}" for number in range(len(FLOODS))]
PEERS = [f"peer{number}" for number in range(len(FLOODS))]
GUESTS = ({"first": [SWITCHED], "second": [], "urgent": ["emu-urgent"]}
          | {guest: [f"emu-flood-{number}"] for number, guest in enumerate(LOW)} | {guest: [] for guest in PEERS})
PRIORITIES = {"urgent": 90} | {guest: 10 for guest in LOW} | {guest: 90 for guest in PEERS}


def start_daemon(stack, directory, readers):
    daemon = Vusbd(directory, name=f"readers{readers}", emulate=EMULATED, guests=GUESTS, priorities=PRIORITIES,
                   readers=readers)
    stack.callback(daemon.close)
    for guest in GUESTS:
        daemon.load(guest)
    return daemon


def give_floods(daemon, guests):
    """Gives the flooded devices to these guests."""
    for number, guest in enumerate(guests):
        if not daemon.request("GET", f"/v1/guests/{guest}")["attachments"]:
            daemon.switch(f"emu-flood-{number}", guest)


# Switching


def beyond_reset(operation):
    """Milliseconds of a switch from where the guest that has it can't use it any more, without the device's reset."""
    steps = operation["steps"]
    names = [step["name"] for step in steps]
    times = [step["atMilliseconds"] for step in steps]
    reset = names.index(f"reset {SWITCHED}")
    return times[-1] - times[names.index("draining")] - (times[reset] - times[reset - 1])


def has_been_used(daemon, guest):
    return daemon.attachment(guest)["urbs"] > 0


def start_reader(programs, daemon, guest):
    """Reads the guest's device whenever it has it, until it's ended."""
    file = daemon.mount / "guests" / guest / "devices" / "1-1" / "ep" / "81"
    return subprocess.Popen([f"{programs}/fileclient", file, "reread", "512", "1", str(FOR_EVER)], stdout=subprocess.DEVNULL)


def end(process):
    process.kill()
    process.wait()


def switch_often(daemon, is_used):
    """The operations of all switches."""
    operations = []
    for number in range(SWITCHES):
        holder, target = ("first", "second") if number % 2 == 0 else ("second", "first")
        if is_used:
            wait_for(f"{holder}'s reading", lambda: has_been_used(daemon, holder))
        operations.append(daemon.switch(SWITCHED, target, deadlineSeconds=0, onDeadline="cancel"))
    return operations


def with_step(operations, text):
    return sum(any(text in step["name"] for step in operation["steps"]) for operation in operations)


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def switching(report, programs, daemon):
    report.title(f"Switching a device, ms from draining to the end without the device's reset; {SWITCHES} times")
    report.line("", "p50", "p99", "most", "in use")
    report.json["switching"] = {}
    for name, is_used in (("idle", False), ("both guests read", True)):
        with contextlib.ExitStack() as stack:
            for guest in ("first", "second") if is_used else ():
                stack.callback(end, start_reader(programs, daemon, guest))
            operations = switch_often(daemon, is_used)
        times = [beyond_reset(operation) for operation in operations]
        report.line(name, *(f"{value:.2f}" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times))),
                    f"{with_step(operations, 'in use yet')}")
        report.json["switching"][name] = times


# An urgent guest beside others


@dataclass
class Round:
    """One measurement of the urgent guest's endpoint, with what went on beside it."""
    reads: dict
    flood: float
    """Bytes a second of all flooding guests."""
    idle: float
    """Of the machine's processor time."""
    daemon: float
    """vusbd's processor time, of one processor's."""


def processor_ticks():
    """(idle, all) of the machine so far."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def client(programs, file, operation, size, seconds, *period):
    command = [f"{programs}/fileclient", file, operation, size, 1, seconds, *period]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def has_worked(process):
    """Whether its client's thread has had processor time for more than its start."""
    threads = Path(f"/proc/{process.pid}/task").glob("[0-9]*/schedstat")
    return any(int(thread.read_text().split()[0]) > 5_000_000 for thread in threads)


@contextlib.contextmanager
def flood(programs, files):
    """Clients that are all at it within; yields a list that has the bytes a second of each afterwards."""
    rates = []
    with contextlib.ExitStack() as stack:
        clients = [client(programs, file, operation, size, FOR_EVER)
                   for file, (_, operation, size) in zip(files, FLOODS)]
        for each in clients:
            stack.callback(end, each)
        for each in clients:
            wait_for("the flood", lambda: has_worked(each), process=each)
        yield rates
        for each in clients:
            each.terminate()
        for each in clients:
            fields = finish_client(each, FLOOD)
            rates.append(int(fields[1]) / float(fields[2]))


def read_urgent(programs, file, period):
    fields = finish_client(client(programs, file, "read", URGENT.size, SECONDS, period), URGENT)
    return {"count": int(fields[0]), "p50": float(fields[3]), "p99": float(fields[4])}


def measure_round(programs, daemon, file, flooded):
    """Reads the urgent endpoint in each form while clients flood the other files."""
    with flood(programs, flooded) as rates:
        (idle, ticks), spent = processor_ticks(), daemon.cpu_seconds()
        reads = {form: read_urgent(programs, file, period) for form, period in PERIODS.items()}
        spent, (idle_after, ticks_after) = daemon.cpu_seconds() - spent, processor_ticks()
    return Round(reads, sum(rates), (idle_after - idle) / (ticks_after - ticks), spent / (SECONDS * len(PERIODS)))


def flooded_files(daemon, null, name):
    """What is flooded in this situation; the guests have their devices then."""
    give_floods(daemon, PEERS if name == "peers" else LOW)
    if name == "null":
        return [null.file(operation, size) for _, operation, size in FLOODS]
    guests = {"alone": [], "low": LOW, "peers": PEERS}[name]
    return [daemon.endpoint(guest, address) for guest, (address, *_) in zip(guests, FLOODS)]


# The same flood at another server's file takes as much processor time, and nothing of the bus.
SITUATIONS = {"alone": "alone", "low": "priority 10", "peers": "priority 90", "null": "null file"}


def measure_rounds(programs, daemon, null):
    """The rounds of each situation, taken in turn."""
    rounds = {name: [] for name in SITUATIONS}
    with open(daemon.endpoint("urgent", "00"), "r+b", buffering=0) as control:
        control.write(ALTERNATE_2)
    file = daemon.endpoint("urgent", "85")
    names = list(SITUATIONS)
    for number in range(ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            rounds[name].append(measure_round(programs, daemon, file, flooded_files(daemon, null, name)))
    return rounds


def latency(report, rounds, readers):
    for form in PERIODS:
        for name, found in rounds.items():
            p50, p99 = (Spread(one.reads[form][value] for one in found) for value in ("p50", "p99"))
            ratio = Spread(one.reads[form]["p99"] / alone.reads[form]["p99"]
                           for one, alone in zip(found, rounds["alone"]))
            processors = (f"{statistics.median(one.idle for one in found):.0%}, "
                          f"{statistics.median(one.daemon for one in found):.0%}")
            verdict = ""
            if name == "low" and readers == READERS[0]:
                verdict = report.bar(f"interrupt p99 beside a flood, {form}", ratio.median, MOST_LATENCY)
            report.line(f"{form}, {SITUATIONS[name]}", p50.text(0), p99.text(0), ratio.text(2), processors, verdict)


def throughput(report, rounds, readers):
    low, peers = ([one.flood for one in rounds[name]] for name in ("low", "peers"))
    ratio = Spread(mine / other for mine, other in zip(low, peers))
    # Where others take processor time too, this says more: bytes by vusbd's processor time.
    by_time = statistics.median(mine.flood / mine.daemon / (other.flood / other.daemon)
                                for mine, other in zip(rounds["low"], rounds["peers"]))
    verdict = ""
    if readers == READERS[0]:
        verdict = report.bar("flood's throughput with priorities", ratio.median, LEAST_THROUGHPUT, at_least=True)
    report.line("MB/s of the four together", Spread(peers).text(0, 1e6), Spread(low).text(0, 1e6), ratio.text(2),
                f"{by_time:.2f}", verdict)


def urgent(report, programs, daemon, null, readers):
    rounds = measure_rounds(programs, daemon, null)
    text = f"{readers} reader{'s' * (readers > 1)}; median of {ROUNDS} (least-most)"
    report.title(f"64 bytes of an interrupt endpoint for a guest of priority 90, us: {text}")
    report.line("", "p50", "p99", "p99 by alone", "idle, vusbd", f"<= {MOST_LATENCY:g}")
    latency(report, rounds, readers)
    report.title(f"Four flooding guests beside it: {text}")
    report.line("", "all of priority 90", "of priority 10", "ratio", "by CPU time", f">= {LEAST_THROUGHPUT}")
    throughput(report, rounds, readers)
    report.json[f"urgent, {readers}"] = {name: [one.__dict__ for one in found] for name, found in rounds.items()}


# What it costs where nobody competes


def cost(report, programs, daemon):
    """The same reads of one guest, with and without an idle guest of another priority on its bus."""
    report.title(f"Cost of counting a URB where nobody competes, us: median of {COST_ROUNDS} pairs (least-most)")
    report.line("", "priorities are equal", "priorities differ", "difference", "", f"< {MOST_COST}")
    row = Row("read", 64, 1, True)
    samples = {"equal": [], "differ": []}
    daemon.files["12"] = daemon.endpoint("urgent", "81").parent
    for number in range(COST_ROUNDS):
        kinds = (("equal", PEERS), ("differ", LOW))
        for kind, guests in kinds if number % 2 == 0 else reversed(kinds):
            give_floods(daemon, guests)
            samples[kind].append(measure(programs, daemon, row))
    for name, value in (("vusbd's processor time", "cpu"), ("p50 of a read", "p50")):
        equal, differ = ([getattr(sample, value) for sample in samples[kind]] for kind in ("equal", "differ"))
        difference = Spread(mine - other for mine, other in zip(differ, equal))
        verdict = report.bar("cost of the scheduler, us", difference.median, MOST_COST) if value == "cpu" else ""
        report.line(name, Spread(equal).text(2), Spread(differ).text(2), difference.text(2), "", verdict)
    report.json["cost"] = {kind: [sample.__dict__ for sample in found] for kind, found in samples.items()}


def arbiter(report, programs, directory):
    with contextlib.ExitStack() as stack:
        null = NullFile(directory, programs)
        stack.callback(null.close)
        daemons = {readers: start_daemon(stack, directory, readers) for readers in READERS}
        daemon = daemons[READERS[0]]
        switching(report, programs, daemon)
        cost(report, programs, daemon)
        for readers in READERS:
            urgent(report, programs, daemons[readers], null, readers)

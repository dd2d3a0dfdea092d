# SPDX-License-Identifier: Apache-2.0
"""make bench: mode usbip against an echo server on loopback, and against usbip-host in a virtual machine (README.md)."""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import servers
import vm
from servers import CPUS, PINNED_CPU, Vusbd
from vm import ROOT, conclude, spread, table

# As of issue "USB/IP, both ways".
MOST_ECHOES = 3.0
LEAST_ECHO_RATE = 1.0
LEAST_OF_KERNEL = 1.0
MOST_CONTROL_OF_KERNEL = 1.5

SECONDS = 0.15
FIXTURES = ROOT / "Tests" / "Fixtures" / "usbip-tls"
# Who is measured on loopback: the echo server, and clients of vusbd's with a device each.
WAYS = ("echo", "tcp", "unix", "tls", "disk")
# What: its name for people, as the client has it, bytes, in flight.
CONTROL = (("control, 1 in flight", "control", 18, 1), ("control, 32 in flight", "control", 18, 32))
BULK = tuple(
    (f"bulk {direction}, {name}, {depth} in flight", direction, size, depth)
    for size, name, depth in ((4 << 10, "4 KiB", 32), (64 << 10, "64 KiB", 8), (1 << 20, "1 MiB", 2))
    for direction in ("in", "out")
)
DISK = tuple(
    (f"disk {kind}, {name}", kind, size, 1)
    for size, name in ((4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"))
    for kind in ("read", "write")
)
# One beside each of the control transfers.
ECHO = tuple((f"echo {index}", "echo", 48, 1) for index in range(len(CONTROL)))
TESTS = {"echo": ECHO, "tcp": CONTROL + BULK, "unix": CONTROL + BULK, "tls": CONTROL + BULK, "disk": CONTROL + DISK}

# In the machine: its name for people, what it is, and how fast vusbd is to be at least by the kernel's own server.
MACHINE = {
    "read-128K": ("disk, sequential read, 128 KiB", "throughput", LEAST_OF_KERNEL),
    "write-128K": ("disk, sequential write, 128 KiB", "throughput", LEAST_OF_KERNEL),
    "random-4K": ("disk, random read, 4 KiB", "latency", LEAST_OF_KERNEL),
    "control-9": ("usbtest 9, control", "latency", 1 / MOST_CONTROL_OF_KERNEL),
    "bulk-27": ("usbtest 27, bulk out, 32 x 1 KiB", "latency", LEAST_OF_KERNEL),
    "bulk-28": ("usbtest 28, bulk in, 32 x 1 KiB", "latency", LEAST_OF_KERNEL),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """The client program, with a connection that lasts."""

    def __init__(self, stack, programs, *arguments):
        self.process = stack.enter_context(
            subprocess.Popen([f"{programs}/usbip-client", *map(str, arguments)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True))
        stack.callback(self.process.terminate)

    def measure(self, test):
        _, kind, size, depth = test
        try:
            print(kind, size, depth, SECONDS, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise servers.Failure(f"{test[0]}: the client has ended")
        return json.loads(answer)


def start_echo(stack, programs, port):
    # A session of its own, as vusbd has: the kernel may share the processors out by sessions.
    echo = stack.enter_context(subprocess.Popen([f"{programs}/usbip-echo", str(port)], start_new_session=True))
    stack.callback(echo.terminate)

    def answers():
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    servers.wait_for("the echo server", answers, process=echo)
    return echo


def start_vusbd(stack, directory):
    """vusbd with four guests, and where each is: arguments of the client."""
    image = Path(directory) / "disk.img"
    image.write_bytes(bytes(32 << 20))
    ports = {way: free_port() for way in ("tcp", "disk", "tls")}
    path = Path(directory) / "usbip.sock"
    guests = {"tcp": ["emu-tcp"], "unix": ["emu-unix"], "tls": ["emu-tls"], "disk": ["emu-disk"]}
    files = {key: str(FIXTURES / name) for key, name in
             (("certificate", "host.pem"), ("key", "host.key"), ("authority", "ca.pem"))}
    settings = {
        "usbip": [{"listen": f"tcp:127.0.0.1:{ports['tls']}"} | files],
        "guests": {
            "tcp": {"listen": [f"tcp:{ports['tcp']}"]}, "disk": {"listen": [f"tcp:{ports['disk']}"]},
            "unix": {"listen": [f"unix:{path}"]}, "tls": {"clients": ["certificate:web1"]},
        },
    }
    vusbd = Vusbd(directory, emulate=[f"zero,name={way},speed=high" for way in ("tcp", "unix", "tls")]
                  + [f"disk={image},speed=high"], guests=guests, settings=settings)
    stack.callback(vusbd.close)
    for guest in guests:
        vusbd.load(guest)
    busid = {guest: vusbd.attachment(guest)["path"] for guest in guests}
    tls = [FIXTURES / name for name in ("ca.pem", "web1.pem", "web1.key")]
    return vusbd, {
        "tcp": (ports["tcp"], busid["tcp"]), "disk": (ports["disk"], busid["disk"]),
        "unix": (path, busid["unix"]), "tls": (ports["tls"], busid["tls"], *tls),
    }


def pin(cpus, vusbd, *processes):
    vusbd.pin(cpus)
    for process in processes:
        os.sched_setaffinity(process.pid, cpus)


def measure(found, form, number, order, clients, vusbd):
    """One round: the echo server is beside each of the control transfers that it's compared with. Round 0 warms up and
    isn't counted."""
    for index in range(max(len(tests) for tests in TESTS.values())):
        for way in order:
            tests = TESTS[way]
            if index >= len(tests):
                continue
            test = tests[index]
            before = vusbd.cpu_seconds()
            result = clients[way].measure(test)
            result["server"] = vusbd.cpu_seconds() - before
            if number > 0:
                found.setdefault(form, {}).setdefault(test[0], {}).setdefault(way, {})[number] = result


def loopback_samples(programs, directory, rounds):
    found = {}
    with contextlib.ExitStack() as stack:
        port = free_port()
        echo = start_echo(stack, programs, port)
        vusbd, places = start_vusbd(stack, directory)
        clients = {way: Client(stack, programs, *places[way]) for way in places}
        clients["echo"] = Client(stack, programs, port)
        for form, cpus in (("pinned", {PINNED_CPU}), ("free", CPUS)):
            pin(cpus, vusbd, echo, *(client.process for client in clients.values()))
            for number in range(rounds + 1):
                turn = number % len(WAYS)
                measure(found, form, number, WAYS[turn:] + WAYS[:turn], clients, vusbd)
    return found


def rate(result):
    return result["count"] / result["seconds"]


def p50(result):
    return result["p50"]


def median(results, figure):
    return statistics.median(figure(result) for result in results.values())


def costs(results, divisor):
    """Processor time of vusbd and of the client, in two columns."""
    return "".join(f"{statistics.median(result[who] / divisor(result) for result in results.values()):>8.2f}"
                   for who in ("server", "client"))


def bar(bars, name, found, limit, at_least):
    """Notes whether `found` keeps to `limit`, and says so."""
    met = found >= limit if at_least else found <= limit
    bars.append({"name": name, "value": found, "limit": limit, "atLeast": at_least, "met": met})
    return "ok" if met else f"MISSED ({'>=' if at_least else '<='} {limit})"


def control_row(form_name, form, index, way, bars):
    """One line: by the echoes' beside it, round by round."""
    name, at_least = CONTROL[index][0], index == 1
    results, echoes = form[name][way], form[f"echo {index}"]["echo"]
    figure, limit = (rate, LEAST_ECHO_RATE) if at_least else (p50, MOST_ECHOES)
    ratios = [figure(results[number]) / figure(echoes[number]) for number in results]
    verdict = ""
    if way in ("tcp", "disk"):
        verdict = bar(bars, f"{way}, {name}, {form_name}", statistics.median(ratios), limit, at_least)
    print(f"  {way + ', ' + name:<34}{figures(results)}  {spread(ratios):<19}"
          f"{costs(results, lambda result: result['count'] / 1e6)}  {verdict}", flush=True)


def figures(results):
    return f"{median(results, p50):>8.1f}{median(results, lambda result: result['p99']):>8.1f}{median(results, rate):>10.0f}"


def control_rows(form_name, form, bars):
    print(f"\nUSB/IP on loopback, {form_name}: control transfers against echoes of 48 bytes (time with 1, rate with 32)")
    print(f"  {'':<34}{'p50 us':>8}{'p99 us':>8}{'a second':>10}  {'by echo':<19}{'CPU us/URB: vusbd, client'}", flush=True)
    for index in range(len(CONTROL)):
        print(f"  {'echo':<34}{figures(form[f'echo {index}']['echo'])}", flush=True)
        for way in WAYS[1:]:
            control_row(form_name, form, index, way, bars)


def bulk_rows(form_name, form):
    print(f"\nUSB/IP on loopback, {form_name}: MB/s, and seconds of processor time for a GB")
    print("  " + " " * 34 + "".join(f"{way:>8}{'vusbd':>8}{'client':>8}  " for way in WAYS[1:-1]), flush=True)
    for name, *_ in BULK + DISK:
        cells = "".join(f"{median(results, lambda result: result['bytes'] / result['seconds'] / 1e6):>8.0f}"
                        f"{costs(results, lambda result: result['bytes'] / 1e9)}  "
                        for results in (form[name][way] for way in WAYS if way in form[name]))
        print(f"  {name:<34}{cells}", flush=True)


def loopback(programs, rounds, bars):
    with tempfile.TemporaryDirectory(prefix="vusb-bench-") as directory:
        try:
            found = loopback_samples(programs, directory, rounds)
        except servers.Failure:
            for log in Path(directory).glob("**/log"):
                sys.stderr.write(log.read_text(errors="replace")[-2000:])
            raise
    for name, form in found.items():
        control_rows(name, form, bars)
        bulk_rows(name, form)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, help="where usbip-client and usbip-echo are")
    parser.add_argument("--rounds", type=int, default=11, help="on loopback")
    parser.add_argument("part", nargs="*", default=["loopback", "machine"], help="of loopback, machine; default both")
    options = parser.parse_args()
    # So that servers are ended and mounts go away then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found, bars = {}, []
    try:
        if "loopback" in options.part:
            found["loopback"] = loopback(options.programs, options.rounds, bars)
        if "machine" in options.part:
            found["machine"], more = table(
                "usbip", {"rounds": 3, "megabytes": 16, "requests": 300, "iterations": 100}, MACHINE, "vusbd", "kernel",
                "Imported by vhci-hcd in one machine, from vusbd and from usbip-host")
            bars += more
    except (servers.Failure, vm.Failure) as failure:
        print(f"usbip.py: {failure}", file=sys.stderr)
        return 2
    return conclude("usbip", found, bars)


if __name__ == "__main__":
    sys.exit(main())

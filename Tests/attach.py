#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""attach.py: vusb-attach against servers that lie, with a directory in the place of vhci-hcd's, under AddressSanitizer.

Prints `N passed, N failed` at the end. With real kernels it's Tests/VM's cases usbip-load and usbip-vsock.
"""
import glob
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import tty

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../kmod-shim/attach")
STATUS = """hub port sta spd dev      sockfd local_busid
hs  0000 006 000 00000000 000000 0-0
hs  0001 004 000 00000000 000000 0-0
ss  0008 004 000 00000000 000000 0-0
"""
LIMIT = 120

# vusb-attach's pump alone, between two descriptors: the kernel's side and the port. It says when it waits in poll(), and ends
# where it never does. As a virtio port does, one that has hung up takes nothing more.
PUMP = r'''
#include <poll.h>
#include <signal.h>
#include <unistd.h>
static int counted_poll(struct pollfd *entries, nfds_t count, int limit)
{
    static int calls;
    int ready = poll(entries, count, 0);
    if (ready == 0 && limit) {
        calls = 0;
        if (write(1, "waits\n", 6) != 6)
            _exit(4);
        ready = poll(entries, count, limit);
    }
    if (++calls > 1000)
        _exit(3);
    if (count == 2 && entries[1].revents & POLLHUP)
        entries[1].revents &= ~POLLOUT;
    return ready;
}
#define poll counted_poll
#include PUMP
int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int kernel = atoi(argv[1]), port = atoi(argv[2]);
    fcntl(kernel, F_SETFL, O_NONBLOCK);
    fcntl(port, F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    pump(kernel, &(struct server){.fd = port, .is_serial = 1, .name = "port"});
    return 0;
}
'''


def reply(code, status=0, version=0x0111):
    return struct.pack(">HHI", version, code, status)


def record(busid=b"1-1", bus=1, address=2, speed=3, interfaces=1):
    """A device as both replies have it, 312 bytes."""
    return (
        b"/p".ljust(256, b"\0") + busid.ljust(32, b"\0") + struct.pack(">III", bus, address, speed)
        + struct.pack(">HHH", 0x0525, 0xA4A5, 1) + bytes([0, 0, 0, 1, 1, interfaces])
    )


def listing(count, *records):
    return reply(5) + struct.pack(">I", count) + b"".join(records)


class Doled(list):
    """Pieces that come a second apart, as long as somebody listens."""


# What the server says, how vusb-attach ends, what it says or writes to vhci-hcd.
IMPORTS = {
    "a device is given to the first free port": (reply(3) + record(), 0, "1 3 65538 3"),
    "one of super speed to a port for that": (reply(3) + record(speed=5), 0, "8 3 65538 5"),
    "a faster one as well": (reply(3) + record(speed=6), 0, "8 3 65538 5"),
    "in use": (reply(3, 2), 4, "it's in use"),
    "not there": (reply(3, 4), 1, "there is no such device"),
    "another status": (reply(3, 0xFFFFFFFF), 1, "status 4294967295"),
    "another version": (reply(3, 0, 0x0110) + record(), 1, "doesn't speak USB/IP"),
    "another reply": (reply(5) + record(), 1, "doesn't speak USB/IP"),
    "a reply that breaks off": (reply(3) + record()[:311], 1, "is cut short"),
    "no reply": (b"", 1, "has closed the connection"),
    "another device": (reply(3) + record(b"1-2"), 1, "another device"),
    "a busid without an end": (reply(3) + record(b"1" * 32), 1, "another device"),
    "no bus": (reply(3) + record(bus=0), 1, "numbers or a speed"),
    "a bus too great": (reply(3) + record(bus=0x10000), 1, "numbers or a speed"),
    "an address too great": (reply(3) + record(address=0xFFFFFFFF), 1, "numbers or a speed"),
    "no speed": (reply(3) + record(speed=0), 1, "numbers or a speed"),
    "a speed that there isn't": (reply(3) + record(speed=7), 1, "numbers or a speed"),
}
LISTS = {
    "two devices, one with letters for a terminal": (
        listing(2, record(), b"abcd", record(b"1-2\x1b[2J", interfaces=0)), 0, "1-2?[2J\t0525:a4a5\thigh\t/p"),
    "none": (listing(0), 0, ""),
    "fewer than announced": (listing(1024, record(), b"abcd"), 1, "is cut short"),
    "more than a server has": (listing(1025, record(), b"abcd"), 1, "more devices than a server has"),
    "as many as can be announced": (listing(0xFFFFFFFF, record(), b"abcd"), 1, "more devices than a server has"),
    "all come, but longer than a list may take": (
        Doled([listing(10, record(), b"abcd")] + [record() + b"abcd"] * 9), 1, "is cut short"),
    "texts without an end": (listing(1, b"\xff" * 311 + b"\0"), 0, "?" * 31 + "\tffff:ffff\t?"),
    "interfaces that don't come": (listing(1, record(interfaces=255)), 1, "is cut short"),
}
# Streams that can't be, and the remedy that is named.
PORT = "write one from 1 to 65535"
ADDRESS = "write one, such as tcp:127.0.0.1:3240"
NUMBER = "write a number, such as vsock:2:3240"
KIND = "write tcp:ADDRESS:PORT, vsock:CID:PORT, unix:PATH or serial:PATH"
WRONG = {
    "tcp:localhost:1": ADDRESS, "tcp:127.0.0.1": PORT, "tcp:127.0.0.1:": PORT, "tcp:127.0.0.1:0": PORT,
    "tcp:127.0.0.1:65536": PORT, "tcp:127.0.0.1:1x": PORT, "tcp:[::1:1": ADDRESS, "tcp:::1:1": ADDRESS, "tcp:[]:1": ADDRESS,
    "tcp:[127.0.0.1]:1": ADDRESS, "tcp::1": ADDRESS, "tcp:" + "1" * 60 + ":1": ADDRESS, "vsock:1": NUMBER, "vsock:x:1": NUMBER,
    "vsock:1:2:3": NUMBER, "vsock:4294967295:1": NUMBER, "vsock:1:4294967295": NUMBER, "unix:": "write one, such as unix:",
    "unix:" + "/x" * 60: "use a shorter one", "serial:port": "write that of a port, such as serial:/dev/",
    "udp:1:1": KIND, "": KIND,
}


class Bench:
    def __init__(self, directory):
        self.directory = directory
        self.program = os.path.join(directory, "vusb-attach")
        self.pump = os.path.join(directory, "pump")
        self.passed = self.failed = 0
        os.mkdir(os.path.join(directory, "vhci"))
        with open(os.path.join(directory, "vhci/status"), "w") as file:
            file.write(STATUS)
        sources = glob.glob(SOURCES + "/*.c")
        self.build(self.program, f'-DVHCI="{directory}/vhci/"', *sources)
        with open(self.pump + ".c", "w") as file:
            file.write(PUMP)
        others = [source for source in sources if os.path.basename(source) not in ("main.c", "pump.c")]
        self.build(self.pump, f"-I{SOURCES}", f'-DPUMP="{SOURCES}/pump.c"', self.pump + ".c", *others)

    @staticmethod
    def build(program, *arguments):
        subprocess.run(
            ["cc", "-std=gnu11", "-g", "-fsanitize=address,undefined", "-Wall", "-Wextra", "-Werror", "-o", program,
             *arguments], check=True)

    def check(self, name, is_right, shown):
        self.passed += is_right
        self.failed += not is_right
        print(("ok   " if is_right else "FAIL ") + name + ("" if is_right else f": {shown}"))

    def call(self, *arguments):
        environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
        return subprocess.run(
            [self.program, *arguments], capture_output=True, timeout=LIMIT, env=environment, check=False)

    def run(self, *arguments):
        """Its status, and all that it said and wrote to vhci-hcd."""
        attach = os.path.join(self.directory, "vhci/attach")
        open(attach, "w").close()
        result = self.call(*arguments)
        with open(attach) as file:
            return result.returncode, (result.stdout + result.stderr).decode() + file.read()

    def beside(self, name, answer, *arguments):
        """As run, with a thread that answers; one that doesn't end is a failure, and is left behind."""
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        result = self.run(*arguments)
        thread.join(LIMIT)
        if thread.is_alive():
            self.check(name, False, f"vusb-attach ended with {result}, but what answers it waits yet")
        return result

    def serve(self, name, said, status, text, *arguments):
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(LIMIT / 2)

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.settimeout(LIMIT / 2)
                peer.recv(100)
                if not isinstance(said, Doled):
                    return peer.sendall(said)
                for piece in said:
                    peer.sendall(piece)
                    if select.select([peer], [], [], 1)[0]:
                        return None

        stream = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        result = self.beside(name, answer, *[stream if argument == "STREAM" else argument for argument in arguments])
        server.close()
        self.check(name, result[0] == status and text in result[1], result)

    def nobody(self):
        """A port that was somebody's: nobody listens there."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            stream = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        result = self.run("-l", stream)
        expected = f"vusb-attach: {stream}: Connection refused: see whether a USB/IP server listens there\n"
        self.check("nobody listens", result == (1, expected), result)

    def serial(self):
        """A port with something left by somebody before: asked again, and told of the end by zeros."""
        host, port = os.openpty()
        tty.setraw(port)
        request = reply(0x8003) + b"1-1".ljust(32, b"\0")
        heard = []

        def read(count):
            data = b""
            while len(data) < count:
                if not select.select([host], [], [], LIMIT / 2)[0]:
                    raise TimeoutError(f"{len(data)} of {count} bytes have come")
                data += os.read(host, count - len(data))
            heard.append(data)

        def answer():
            read(40)
            os.write(host, b"\xff" * 20)
            read(40)
            os.write(host, reply(3) + record())
            read(48)

        result = self.beside("a serial port", answer, "serial:" + os.ttyname(port), "1-1")
        self.check("a serial port with remains", result == (0, "port 1\n1 4 65538 3\n"), result)
        self.check("the end is told", heard == [request, request, bytes(48)], heard)

    def hang_up(self, name, frame):
        """A port that has hung up while the kernel's side takes nothing: it's waited for, and what came before isn't lost."""
        kernel, inner = socket.socketpair()
        host, port = socket.socketpair()
        with kernel, host:
            # Less than what comes from the port.
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            kernel.sendall(frame)
            said = bytes(range(256)) * 400
            host.sendall(said)
            host.close()
            descriptors = (inner.fileno(), port.fileno())
            with subprocess.Popen(
                [self.pump, *map(str, descriptors)], stdout=subprocess.PIPE, pass_fds=descriptors,
                env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0")) as pump:
                inner.close()
                port.close()
                watch = threading.Timer(LIMIT, pump.kill)
                watch.start()
                waits = pump.stdout.readline()
                got = b""
                while piece := kernel.recv(65536):
                    got += piece
                pump.stdout.read()
                status = pump.wait()
                watch.cancel()
        self.check(name, (waits, status, got == said) == (b"waits\n", 0, True), (waits, status, len(got)))


def main():
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory)
        for name, (said, status, text) in IMPORTS.items():
            bench.serve("import: " + name, said, status, text, "STREAM", "1-1")
        for name, (said, status, text) in LISTS.items():
            bench.serve("list: " + name, said, status, text, "-l", "STREAM")
        for stream, remedy in WRONG.items():
            status, said = bench.run(stream, "1-1")
            is_told = said.startswith(f"vusb-attach: {stream}: ") and remedy in said and said.count("\n") == 1
            bench.check(f"no stream: '{stream[:30]}'", status == 2 and is_told, (status, said))
        bench.nobody()
        stream = "tcp:127.0.0.1:1"
        for arguments in ([], ["-l"], [stream], [stream, ""], [stream, "1" * 32], ["-x"], ["--x"]):
            result = bench.call(*arguments)
            is_right = (result.returncode, result.stdout) == (2, b"") and b"usage:" in result.stderr
            bench.check(f"usage: {arguments}", is_right, result)
        for arguments in (["-h"], ["--help"], ["-l", "-h"]):
            result = bench.call(*arguments)
            is_right = (result.returncode, result.stderr) == (0, b"") and result.stdout.startswith(b"usage:")
            bench.check(f"help: {arguments}", is_right, result)
        bench.serial()
        bench.hang_up("a hang-up while the kernel takes nothing", b"")
        bench.hang_up("a hang-up while a frame waits as well", struct.pack(">I", 2) + bytes(44))
        print(f"{bench.passed} passed, {bench.failed} failed")
        return bench.failed != 0


if __name__ == "__main__":
    sys.exit(main())

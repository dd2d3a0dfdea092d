# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured: the null file and vusbd, each on a mount of its own, and what they use."""

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

CPUS = os.sched_getaffinity(0)
# Client and server share this one in the pinned form; not the first, which serves most interrupts.
PINNED_CPU = max(CPUS)
START_SECONDS = 20


class Failure(Exception):
    """The benchmark can't be run."""


def wait_for(what, condition, seconds=START_SECONDS, process=None):
    """Waits until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        if process and process.poll() is not None:
            raise Failure(f"{what}: the program ended with {process.returncode}")
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def is_mounted(path):
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return any(line.split()[1] == str(path) for line in mounts)


class Server:
    """A process that serves a mount, ended and unmounted by `close`."""

    def __init__(self, name, directory, malloccount=None):
        self.name = name
        self.directory = Path(directory) / name
        self.mount = self.directory / "mount"
        self.mount.mkdir(parents=True)
        self.log = self.directory / "log"
        self.environment = dict(os.environ)
        self.counts = None
        if malloccount:
            self.counts = self.directory / "allocations"
            self.environment |= {"LD_PRELOAD": str(malloccount), "MALLOCCOUNT": str(self.counts)}
        self.process = None

    def start(self, command):
        with open(self.log, "wb") as log:
            # A session of its own: an interrupt from the keyboard is ours to pass on, after which we unmount.
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.environment, start_new_session=True)
        try:
            wait_for(f"{self.name}'s mount", lambda: is_mounted(self.mount), process=self.process)
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise

    def wait_until_ready(self):
        """Returns when it can do more than be mounted."""

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if is_mounted(self.mount):
            subprocess.run(["fusermount3", "-u", "-z", self.mount], check=False)

    def pin(self, cpus):
        """Has all its threads run on `cpus` only."""
        for thread in self.threads():
            try:
                os.sched_setaffinity(thread, cpus)
            except ProcessLookupError:
                pass  # it has just ended

    def threads(self):
        return [int(name) for name in os.listdir(f"/proc/{self.process.pid}/task")]

    def cpu_seconds(self):
        """Processor time so far, in the kernel and outside, also of threads that have ended."""
        # clock_getcpuclockid(3).
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def allocations(self):
        """How often it has allocated so far: (libfuse, its threads that carry transfers, its other threads)."""
        return struct.unpack("QQQ", self.counts.read_bytes())

    def memory(self):
        """Resident memory in KiB: all, and of it what belongs to no file."""
        found = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return {name: int(found[key].split()[0]) for name, key in (("all", "VmRSS"), ("anonymous", "RssAnon"))}


class NullFile(Server):
    def __init__(self, directory, programs, malloccount=None):
        super().__init__("null", directory, malloccount)
        self.start([Path(programs) / "nullfile", self.mount])

    def file(self, operation, size):
        return self.mount / "null"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Vusbd(Server):
    """vusbd with emulated devices; `guests` maps names to the devices that they get when they are loaded, `priorities`
    names to priorities; `settings` are what vusb.yaml has besides guests, or more of these."""

    def __init__(self, directory, name="vusb", emulate=(), guests=None, priorities=None, settings=None, readers=None,
                 malloccount=None):
        super().__init__(name, directory, malloccount)
        self.socket = self.directory / "socket"
        config = self.directory / "vusb.yaml"
        entries = {guest: {"devices": devices} for guest, devices in (guests or {}).items()}
        for guest, priority in (priorities or {}).items():
            entries[guest]["priority"] = priority
        settings = dict(settings or {})
        for guest, more in settings.pop("guests", {}).items():
            entries[guest] |= more
        config.write_text(json.dumps({"guests": entries} | settings))
        command = [os.environ["VUSBD"], "--config", config, "--mount", self.mount, "--socket", self.socket,
                   "--state", self.directory / "state", "--no-host", "--log-level", "warning"]
        for specification in emulate:
            command += ["--emulate", specification]
        if readers:
            command += ["--readers", readers]
        self.files = {}
        self.start(command)

    def wait_until_ready(self):
        wait_for(f"{self.name}'s control socket", self.is_answering, process=self.process)

    def is_answering(self):
        try:
            return bool(self.request("GET", "/v1/status"))
        except OSError:
            return False

    def request(self, method, path, body=None):
        connection = UnixConnection(self.socket)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"null")
        finally:
            connection.close()
        if response.status >= 300:
            raise Failure(f"{method} {path}: {response.status} {answer}")
        return answer

    def carry_out(self, path, body=None):
        """Begins an operation and returns it when it's done."""
        operation = self.request("POST", path, body)
        end = time.monotonic() + 60
        while operation["state"] == "running" and time.monotonic() < end:
            operation = self.request("GET", f"/v1/operations/{operation['id']}?wait=10")
        if operation["state"] != "succeeded":
            raise Failure(f"{path}: {operation}")
        return operation

    def load(self, guest):
        """Loads a guest with its devices and returns when that's done."""
        self.carry_out(f"/v1/guests/{guest}/load")

    def switch(self, device, guest, **options):
        """Gives a device to a guest, from whoever has it."""
        return self.carry_out(f"/v1/devices/{device}/switch", {"guest": guest} | options)

    def attachment(self, guest):
        """What a guest that has one device has."""
        return self.request("GET", f"/v1/guests/{guest}")["attachments"][0]

    def endpoint(self, guest, address):
        return self.mount / "guests" / guest / "devices" / self.attachment(guest)["path"] / "ep" / address

    def devices(self, guest):
        return sorted((self.mount / "guests" / guest / "devices").iterdir())

    def file(self, operation, size):
        """The endpoint file of guest `bench` for transfers of `size`: the one whose packets aren't larger."""
        speed = "12" if size < 512 else "480"
        if speed not in self.files:
            for device in self.devices("bench"):
                self.files[(device / "speed").read_text().strip()] = device / "ep"
        return self.files[speed] / ("81" if operation == "read" else "02")

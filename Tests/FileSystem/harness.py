# SPDX-License-Identifier: Apache-2.0
"""What the cases have in common: a vusbd of their own, its control interface, and helpers to wait for events.

Run as a program, it runs all test_*.py beside it (or those that are named) and counts.
"""

import fcntl
import http.client
import importlib.util
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

VUSBD = os.environ["VUSBD"]
VUSBCTL = os.environ["VUSBCTL"]
ROOT = pathlib.Path(os.environ["VUSB_TEST_DIR"])
# Only matters to a case that fails: then it is how long it takes to fail.
PATIENCE = 20.0
# The largest transfer by file, in bytes.
LIMIT = 524288

SET_ZERO_ALTERNATE = {n: struct.pack("<BBHHH", 0x01, 0x0B, n, 0, 0) for n in (0, 1, 2)}


def setup(request_type, request, value=0, index=0, length=0):
    """A setup packet (USB 2.0, table 9-2)."""
    return struct.pack("<BBHHH", request_type, request, value, index, length)


def get_descriptor(kind, length, index=0):
    return setup(0x80, 6, kind << 8 | index, 0, length)


class Problem(Exception):
    """What the control interface answered instead of success."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        super().__init__(f"{status}: {body.get('detail')}")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE * 2)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class NotReady(Exception):
    """vusbd ended instead of becoming ready; its standard error is the message."""

    def __init__(self, code, text):
        self.code, self.text = code, text
        super().__init__(f"vusbd ended with {code}: {text}")


class Vusbd:
    """A vusbd with a mount, a socket and a state directory of its own."""

    count = 0

    def __init__(self, *arguments, directory=None):
        if directory is None:
            Vusbd.count += 1
            directory = ROOT / f"d{Vusbd.count}"
            directory.mkdir(mode=0o755)
        self.directory = directory
        self.mount = directory / "vusb"
        self.socket = directory / "vusb.sock"
        self.state = directory / "state"
        self.log = directory / "log"
        self.arguments = list(arguments)
        self.process = None
        self.notifications = []

    # Life

    def command(self, *arguments):
        places = ["--mount", self.mount, "--socket", self.socket, "--state", self.state]
        return [str(word) for word in [VUSBD, *places, "--no-host", *self.arguments, *arguments]]

    def start(self, *arguments, wrapper=(), **popen):
        """Returns once vusbd has said READY=1; raises NotReady where it ends instead."""
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(path))
        environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
        log = open(self.log, "ab")
        command = [*wrapper, *self.command(*arguments)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        self.process = subprocess.Popen(command, env=environment, **streams, **popen)
        log.close()
        with open(ROOT / "pids", "a") as pids:
            print(self.process.pid, file=pids)
        self.notify = notify
        self._wait_ready()
        return self

    def _wait_ready(self):
        ended = os.pidfd_open(self.process.pid)
        try:
            while True:
                ready, _, _ = select.select([self.notify, ended], [], [], PATIENCE * 2)
                if self.notify in ready:
                    self.notifications += self.notify.recv(4096).decode().splitlines()
                    if "READY=1" in self.notifications:
                        return
                elif ended in ready:
                    code = self.process.wait()
                    raise NotReady(code, self.log.read_text(errors="replace"))
                else:
                    raise AssertionError(f"vusbd says nothing: {self.log.read_text(errors='replace')}")
        finally:
            os.close(ended)

    def notified(self, word):
        """Waits for a line of sd_notify's protocol."""
        self.notify.settimeout(PATIENCE)
        while word not in self.notifications:
            self.notifications += self.notify.recv(4096).decode().splitlines()

    @property
    def pid(self):
        return self.process.pid

    def stop(self, number=signal.SIGTERM, timeout=PATIENCE):
        """Asks vusbd to stop; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def kill9(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def discard(self):
        """Leaves nothing, however the case ended."""
        if self.process and self.process.poll() is None:
            self.kill9()
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.mount], check=False)
        if self.process:
            self.notify.close()
        # What a killed one leaves in /run; the next one at the same place would take it over.
        name = "-".join(part for part in self.mount.parts if part != "/")
        pathlib.Path(f"/run/vusb/mount-{name}.lock").unlink(missing_ok=True)

    @property
    def is_mounted(self):
        return str(self.mount) in [line.split()[4] for line in open("/proc/self/mountinfo")]

    # Control

    def request(self, method, path, body=None):
        """The status and the answer, whatever it is."""
        connection = UnixConnection(self.socket)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def ctl(self, method, path, body=None):
        """The answer; raises Problem for any other."""
        status, answer = self.request(method, path, body)
        if status >= 400:
            raise Problem(status, answer)
        return answer

    def wait(self, operation):
        """Follows a long operation to its end; raises Problem where it failed."""
        deadline = time.monotonic() + PATIENCE * 2
        while operation["state"] == "running" and time.monotonic() < deadline:
            operation = self.ctl("GET", f"/v1/operations/{operation['id']}?wait=10")
        if operation["state"] != "succeeded":
            raise Problem(operation.get("error", {}).get("status", 0), operation.get("error", operation))
        return operation

    @staticmethod
    def device_path(device, verb=""):
        return "/v1/devices/" + urllib.parse.quote(device, safe="") + verb

    def add_guest(self, name, **fields):
        return self.ctl("POST", "/v1/guests", {"name": name, **fields})

    def load(self, guest):
        return self.wait(self.ctl("POST", f"/v1/guests/{guest}/load", {}))

    def unload(self, guest, **release):
        return self.wait(self.ctl("POST", f"/v1/guests/{guest}/unload", release))

    def attach(self, device, guest):
        return self.wait(self.ctl("POST", self.device_path(device, "/attach"), {"guest": guest}))["attachment"]

    def detach(self, device, **release):
        return self.wait(self.ctl("POST", self.device_path(device, "/detach"), release))

    def emulate(self, specification):
        return self.ctl("POST", "/v1/devices", {"specification": specification})["id"]

    def unplug(self, device):
        self.ctl("DELETE", self.device_path(device))

    def in_flight(self):
        return self.ctl("GET", "/v1/status")["urbsInFlight"]

    def until_in_flight(self, count):
        """A URB's begin and end have no event of their own: asks until it is so."""
        until(lambda: self.in_flight() == count, lambda: f"{self.in_flight()} URBs in flight, not {count}")

    def vusbctl(self, *arguments):
        """Runs vusbctl on this daemon's socket; returns what subprocess.run does."""
        command = [VUSBCTL, "--socket", str(self.socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)

    # Files

    def guest(self, name, *parts):
        return self.mount.joinpath("guests", name, *parts)

    def endpoint(self, name, address, path="1-1"):
        return self.guest(name, "devices", path, "ep", address)


def until(condition, describe=lambda: "it never came true"):
    """For what has no event to wait for: asks again and again, and fails when patience is over."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(describe())
        os.sched_yield()
        select.select([], [], [], 0.005)


class Case(unittest.TestCase):
    """A case with daemons that are gone when it ends."""

    def daemon(self, *arguments, start=True, **options):
        vusbd = Vusbd(*arguments, **options)
        self.addCleanup(vusbd.discard)
        return vusbd.start() if start else vusbd

    def open(self, path, flags):
        file = os.open(path, flags)
        self.addCleanup(close_quietly, file)
        return file

    def assertErrno(self, number, call, *arguments):
        with self.assertRaises(OSError) as caught:
            call(*arguments)
        self.assertEqual(errno_name(caught.exception.errno), errno_name(number))

    def assertProblem(self, status, kind, call, *arguments, mentions=()):
        """The problem's detail and remedy have all of `mentions` in them: a clear error names the object."""
        with self.assertRaises(Problem) as caught:
            call(*arguments)
        problem = caught.exception
        self.assertEqual((problem.status, problem.body.get("type")), (status, f"urn:vusb:problem:{kind}"), problem.body)
        self.assertTrue(problem.body.get("remedy"), f"no remedy: {problem.body}")
        for word in mentions:
            self.assertIn(word, problem.body["detail"])
        return problem.body

    def transfer_in(self, file, packet, size=4096):
        """A control transfer with an IN data stage on an open ep/00."""
        self.assertEqual(os.write(file, packet), 8)
        data = os.read(file, size)
        self.assertEqual(os.read(file, size), b"")
        return data


class SharedDaemon(Case):
    """Cases that use one daemon, whose arguments and guests the class says. At each one's end nothing is in flight."""

    arguments = ()
    guests = {}

    @classmethod
    def setUpClass(cls):
        cls.vusbd = Vusbd(*cls.arguments)
        cls.addClassCleanup(cls.vusbd.discard)
        cls.vusbd.start()
        cls.addClassCleanup(cls.stop_cleanly)
        for name, fields in cls.guests.items():
            cls.vusbd.add_guest(name, **fields)
            cls.vusbd.load(name)

    @classmethod
    def stop_cleanly(cls):
        if cls.vusbd.process.poll() is None and (code := cls.vusbd.stop()) != 0:
            raise AssertionError(f"vusbd stopped with {code}: {cls.vusbd.log.read_text(errors='replace')[-4000:]}")

    def run(self, result=None):
        # What is added first comes last: after the cleanups that close the files.
        self.addCleanup(self.nothing_left)
        return super().run(result)

    def nothing_left(self):
        if self.vusbd.process.poll() is not None:
            self.fail(f"vusbd has ended: {self.vusbd.log.read_text(errors='replace')[-4000:]}")
        self.vusbd.until_in_flight(0)


def close_quietly(file):
    try:
        os.close(file)
    except OSError:
        pass  # The case closed it.


def errno_name(number):
    import errno

    return errno.errorcode.get(number, number)


class Background:
    """A call in a thread of its own; `result` waits for it."""

    def __init__(self, call, *arguments):
        self.value, self.error = None, None
        self.thread = threading.Thread(target=self._run, args=(call, arguments), daemon=True)
        self.thread.start()

    def _run(self, call, arguments):
        try:
            self.value = call(*arguments)
        except Exception as error:
            self.error = error

    @property
    def is_running(self):
        return self.thread.is_alive()

    def result(self):
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            raise AssertionError("the call is stuck")
        if self.error:
            raise self.error
        return self.value


class Child:
    """A Python program in a process of its own, perhaps another user's. It gets `arguments` and prints lines."""

    def __init__(self, program, *arguments, uid=None, gid=None):
        def become():
            if gid is not None:
                os.setgroups([])
                os.setresgid(gid, gid, gid)
            if uid is not None:
                os.setresuid(uid, uid, uid)

        command = [sys.executable, "-c", program, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=become
        )

    def line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        if not ready:
            raise AssertionError("the child says nothing")
        return self.process.stdout.readline().rstrip("\n")

    def end(self):
        """Everything else that it printed, once it has ended; its errors are ours."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        if self.process.returncode > 0:
            raise AssertionError(f"the child ended with {self.process.returncode}: {errors}")
        return output

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def set_nonblocking(file, is_nonblocking=True):
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_NONBLOCK if is_nonblocking else flags & ~os.O_NONBLOCK)


def wait_state(process_id):
    """Where a process is, as proc(5) says: 'S' while it sleeps in a read, 'D' where it can't be interrupted."""
    return open(f"/proc/{process_id}/stat").read().rpartition(")")[2].split()[0]


class Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        if (seconds := time.monotonic() - self.began) > 3:
            self.stream.writeln(f"    ({seconds:.1f} s)")


def main(names):
    # A stuck case must not hang the run: its threads' stacks, then the end.
    import faulthandler

    faulthandler.dump_traceback_later(280, exit=True)
    here = pathlib.Path(__file__).parent
    # The cases import this file by its name: there is to be one of it only.
    sys.path.insert(0, str(here))
    sys.modules["harness"] = sys.modules[__name__]
    files = [here / name for name in names] or sorted(here.glob("test_*.py"))
    suite = unittest.TestSuite()
    for file in files:
        specification = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    # A class whose daemon doesn't start is an error without a case that was run.
    print(f"{max(0, result.testsRun - failed)} passed, {failed} failed", flush=True)
    # Threads that a failed case left in a read must not keep the process.
    os._exit(1 if failed or not result.testsRun else 0)


if __name__ == "__main__":
    main(sys.argv[1:])

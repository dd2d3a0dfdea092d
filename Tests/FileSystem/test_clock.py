# SPDX-License-Identifier: Apache-2.0
"""`clock`: real time for guests that have none. The rows are those of Clock.md.

Time is the host's, and the host may be late: so what a line says is compared with the bounds of what it may say, never
with a time that something should take."""

import errno
import os
import pathlib
import resource
import select
import signal
import stat
import time

from harness import Background, Case, Child, SharedDaemon, close_quietly, set_nonblocking, until, wait_state

# Of openers at once, in one guest.
LIMIT = 1024
MINUTE = 60_000_000


class Timer:
    """An open clock, and what its lines have said of the periods since the last write."""

    def __init__(self, case, path, period=None, flags=os.O_RDWR):
        self.case, self.file = case, case.open(path, flags)
        if period:
            self.set(period)

    def set(self, period):
        self.period, self.told = period * 1000, 0
        self.earliest = time.monotonic_ns()
        self.case.assertEqual(os.write(self.file, b"%d\n" % period), len(b"%d\n" % period))
        self.latest = time.monotonic_ns()

    def read(self):
        return self.take(os.read(self.file, 64))

    def take(self, data):
        """Checks a line; returns its time and how many periods were missed."""
        text = data.decode("ascii")
        self.case.assertRegex(text, r"\A[0-9]+ -1 [0-9]+\n\Z")
        now, _, missed = map(int, text.split())
        self.case.assertLessEqual(now, time.monotonic_ns())
        self.told += missed + 1
        self.assertOnGrid(now)
        return now, missed

    def assertOnGrid(self, now):
        """The grid begins at some moment of the write; all periods that had ended by `now` are told by now."""
        least, most = (now - self.latest) // self.period, (now - self.earliest) // self.period
        self.case.assertTrue(least <= self.told <= most, f"{self.told} periods told, not {least} to {most}")

    def until_ended(self, count):
        until(lambda: time.monotonic_ns() > self.latest + count * self.period)

    def poll(self, milliseconds=0):
        poller = select.poll()
        poller.register(self.file, select.POLLIN)
        return [events for _, events in poller.poll(milliseconds)]


class Clock(SharedDaemon):
    guests = {"web1": {}}

    def path(self):
        return self.vusbd.guest("web1", "clock")

    def timer(self, period=None, flags=os.O_RDWR):
        return Timer(self, self.path(), period, flags)

    def test_it_is_a_file_of_the_guest(self):
        self.assertIn("clock", os.listdir(self.vusbd.guest("web1")))
        status = self.path().stat()
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertTrue(stat.S_ISREG(status.st_mode))

    def test_k1_without_a_period_a_read_is_refused(self):
        timer = self.timer()
        self.assertErrno(errno.EINVAL, os.read, timer.file, 64)
        timer.set(100)
        timer.read()
        os.write(timer.file, b"0")
        self.assertErrno(errno.EINVAL, os.read, timer.file, 64)

    def test_k2_what_is_no_period_is_refused_and_changes_nothing(self):
        timer = self.timer(1000)
        for text in (b"99", b"60000001", b"-1000", b"+1000", b" 1000", b"1000 ", b"1000\n\n", b"1e3", b"x", b"\n"):
            self.assertErrno(errno.EINVAL, os.write, timer.file, text)
        self.assertErrno(errno.EINVAL, os.write, timer.file, b"0" * 5000)
        timer.read()

    def test_the_bounds_are_periods(self):
        timer = self.timer(100)
        timer.read()
        timer.set(MINUTE)
        set_nonblocking(timer.file)
        self.assertErrno(errno.EAGAIN, os.read, timer.file, 64)

    def test_k3_each_read_waits_for_the_next_end_on_the_grid(self):
        timer = self.timer(5000)
        for _ in range(100):
            timer.read()

    def test_k3_the_shortest_period(self):
        timer = self.timer(100)
        for _ in range(2000):
            timer.read()

    def test_k4_a_read_behind_ends_that_nobody_read_is_answered_at_once(self):
        timer = self.timer(1000)
        set_nonblocking(timer.file)
        for count in (5, 35, 20):
            timer.until_ended(timer.told + count)
            _, missed = timer.read()
            self.assertGreaterEqual(missed, count - 1)

    def test_k6_another_period_counts_for_who_waits(self):
        timer = self.timer(MINUTE)
        reader = Background(os.read, timer.file, 64)
        # Whether it waits already or comes later: it gets the end of a millisecond.
        timer.set(1000)
        timer.take(reader.result())
        timer.until_ended(20)
        timer.set(1000)
        timer.read()

    def test_k7_a_stop_refuses_who_waits(self):
        timer = self.timer(MINUTE)
        reader = Background(os.read, timer.file, 64)
        os.write(timer.file, b"0\n")
        self.assertErrno(errno.EINVAL, reader.result)

    def test_k8_nonblocking(self):
        timer = self.timer(MINUTE, os.O_RDWR | os.O_NONBLOCK)
        self.assertErrno(errno.EAGAIN, os.read, timer.file, 64)
        timer.set(1000)
        self.assertEqual(timer.poll(20000), [select.POLLIN])
        timer.read()

    def test_k9_poll_tells_of_an_end_until_it_is_read(self):
        timer = self.timer(MINUTE)
        self.assertEqual(timer.poll(), [])
        waiting = Background(timer.poll, 20000)
        timer.set(2000)
        self.assertEqual(waiting.result(), [select.POLLIN])
        self.assertEqual(timer.poll(), [select.POLLIN])
        for _ in range(50):
            timer.read()
            self.assertEqual(timer.poll(20000), [select.POLLIN])

    def test_k9_epoll_by_edges_and_select(self):
        timer = self.timer(2000, os.O_RDWR | os.O_NONBLOCK)
        with select.epoll() as epoll:
            epoll.register(timer.file, select.EPOLLIN | select.EPOLLET)
            for _ in range(50):
                self.assertEqual(epoll.poll(20), [(timer.file, select.EPOLLIN)])
                # A wake-up may be of an end that the read before has taken.
                try:
                    timer.read()
                except BlockingIOError:
                    pass
        self.assertEqual(select.select([timer.file], [], [], 20)[0], [timer.file])
        timer.read()

    def test_k9_a_clock_can_be_written_to_while_a_poll_waits(self):
        timer = self.timer()
        waiting = Background(timer.poll, 20000)
        timer.set(1000)
        self.assertEqual(waiting.result(), [select.POLLIN])

    def test_k10_a_read_too_small_takes_nothing(self):
        timer = self.timer(MINUTE)
        self.assertErrno(errno.EINVAL, os.read, timer.file, 8)
        timer.set(1000)
        timer.until_ended(3)
        for _ in range(3):
            self.assertErrno(errno.EINVAL, os.read, timer.file, 8)
        _, missed = timer.read()
        self.assertGreaterEqual(missed, 2)

    def test_k13_reads_of_one_opener_get_an_end_each(self):
        timer = self.timer(20000)
        for _ in range(5):
            readers = [Background(os.read, timer.file, 64) for _ in range(3)]
            lines = sorted((reader.result() for reader in readers), key=lambda line: int(line.split()[0]))
            # Of two that were answered by different threads either may come first; together they are right.
            timer.told += sum(int(line.split()[2]) + 1 for line in lines[:-1])
            timer.take(lines[-1])

    def test_each_opener_has_its_own(self):
        slow, fast = self.timer(MINUTE), self.timer(1000)
        for _ in range(20):
            fast.read()
        set_nonblocking(slow.file)
        self.assertErrno(errno.EAGAIN, os.read, slow.file, 64)

    def test_k17_a_close_ends_it_while_a_poll_has_the_alarm_set(self):
        for _ in range(200):
            file = os.open(self.path(), os.O_RDWR)
            os.write(file, b"100")
            select.select([file], [], [], 0)
            os.close(file)
        self.timer(100).read()


class Unload(SharedDaemon):
    guests = {"web1": {}}

    def clock(self, period=MINUTE):
        return Timer(self, self.vusbd.guest("web1", "clock"), period)

    def test_k14_an_unload_ends_all_timers(self):
        timers = [self.clock() for _ in range(3)]
        readers = [Background(os.read, timers[0].file, 64) for _ in range(2)]
        poller = Background(timers[1].poll, 20000)
        self.vusbd.unload("web1")
        for reader in readers:
            self.assertErrno(errno.ENODEV, reader.result)
        self.assertTrue(poller.result()[0] & (select.POLLERR | select.POLLHUP))
        self.assertNotIn("clock", os.listdir(self.vusbd.guest("web1")))
        self.assertErrno(errno.ENOENT, os.open, self.vusbd.guest("web1", "clock"), os.O_RDWR)
        self.vusbd.load("web1")
        for timer in timers:
            self.assertErrno(errno.ENODEV, os.read, timer.file, 64)
            self.assertErrno(errno.ENODEV, os.write, timer.file, b"1000")
        self.clock(1000).read()

    def test_k14_the_end_of_a_guest(self):
        self.vusbd.add_guest("gone")
        self.vusbd.load("gone")
        timer = Timer(self, self.vusbd.guest("gone", "clock"), MINUTE)
        reader = Background(os.read, timer.file, 64)
        self.vusbd.unload("gone")
        self.vusbd.ctl("DELETE", "/v1/guests/gone")
        self.assertErrno(errno.ENODEV, reader.result)


# Waits in a read; SIGUSR1 ends it, and it reads again.
CALLER = """
import os, signal, sys
class Interrupted(Exception): pass
def handle(number, frame): raise Interrupted
signal.signal(signal.SIGUSR1, handle)
file = os.open(sys.argv[1], os.O_RDWR)
os.write(file, b"60000000")
try:
    print("ready", flush=True)
    os.read(file, 64)
except Interrupted:
    print("interrupted", flush=True)
os.write(file, b"1000")
print(os.read(file, 64).decode(), end="", flush=True)
"""


class Signals(SharedDaemon):
    guests = {"web1": {}}

    def test_k11_a_signal_ends_a_read(self):
        child = Child(CALLER, self.vusbd.guest("web1", "clock"))
        self.addCleanup(child.kill)
        self.assertEqual(child.line(), "ready")
        until(lambda: wait_state(child.process.pid) in "SD")
        child.process.send_signal(signal.SIGUSR1)
        self.assertEqual(child.line(), "interrupted")
        self.assertRegex(child.line(), r"\A[0-9]+ -1 [0-9]+\Z")

    def test_a_killed_reader_leaves_nothing(self):
        child = Child(CALLER, self.vusbd.guest("web1", "clock"))
        self.assertEqual(child.line(), "ready")
        until(lambda: wait_state(child.process.pid) in "SD")
        child.kill()
        Timer(self, self.vusbd.guest("web1", "clock"), 100).read()

    def test_k12_no_period_is_lost_to_signals(self):
        """Python begins a read anew that a signal has ended: with each line all periods are told of, as without."""
        disturb(self, self.vusbd.guest("web1", "clock"))

    def test_k12_with_four_reader_threads(self):
        vusbd = self.daemon("--readers", "4")
        vusbd.add_guest("web1")
        vusbd.load("web1")
        disturb(self, vusbd.guest("web1", "clock"))
        self.assertEqual(vusbd.stop(), 0)


def disturb(case, path):
    """Reads in a process of its own, so that all signals are for the thread that reads."""
    timer = Timer(case, path, 500)
    os.set_inheritable(timer.file, True)
    reader = os.fork()
    if reader == 0:
        # Must not run what is the case's: it ends here, whatever happens.
        try:
            caught = 0

            def count(number, frame):
                nonlocal caught
                caught += 1

            signal.signal(signal.SIGALRM, count)
            signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.00047)
            for _ in range(1000):
                timer.read()
            os._exit(0 if caught > 300 else 2)
        except BaseException as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(reader, 0)
    case.assertEqual(os.waitstatus_to_exitcode(status), 0)


class Many(SharedDaemon):
    guests = {"web1": {}, "web2": {}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(before[0], min(before[1], 4096))
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)

    def open_all(self, guest="web1"):
        files = []
        self.addCleanup(lambda: [close_quietly(file) for file in files])
        for _ in range(LIMIT):
            files.append(os.open(self.vusbd.guest(guest, "clock"), os.O_RDWR))
        return files

    def threads(self):
        return [(task / "comm").read_text().strip() for task in pathlib.Path(f"/proc/{self.vusbd.pid}/task").iterdir()]

    def test_k16_one_opener_too_many(self):
        files = self.open_all()
        path = self.vusbd.guest("web1", "clock")
        self.assertErrno(errno.ENFILE, os.open, path, os.O_RDWR)
        # Another guest has a limit of its own.
        os.close(self.patient_open(self.vusbd.guest("web2", "clock")))
        os.close(files.pop())
        # The release follows the close.
        files.append(self.patient_open(path))
        self.assertErrno(errno.ENFILE, os.open, path, os.O_RDWR)
        while files:
            os.close(files.pop())
        for _ in range(3):
            os.close(self.patient_open(path))

    @staticmethod
    def patient_open(path):
        opened = []

        def attempt():
            try:
                opened.append(os.open(path, os.O_RDWR))
            except OSError as error:
                if error.errno != errno.ENFILE:
                    raise
            return opened

        until(attempt)
        return opened[0]

    def test_a_thousand_timers_are_one_thread(self):
        before = len(self.threads())
        files = self.open_all("web2")
        for file in files:
            os.write(file, b"50000")
        with select.epoll() as epoll:
            waiting = set(files)
            for file in files:
                epoll.register(file, select.EPOLLIN)
            while waiting:
                ready = epoll.poll(20)
                self.assertTrue(ready, "nothing happens")
                for file, _ in ready:
                    self.assertRegex(os.read(file, 64).decode(), r"\A[0-9]+ -1 [0-9]+\n\Z")
                    waiting.discard(file)
        self.assertEqual(self.threads().count("vusb-clock"), 1)
        self.assertLess(len(self.threads()), before + 20)


class End(Case):
    def test_k15_a_stop_answers_who_waits(self):
        vusbd = self.daemon()
        vusbd.add_guest("web1")
        vusbd.load("web1")
        timers = [Timer(self, vusbd.guest("web1", "clock"), period) for period in (MINUTE, 100)]
        reader = Background(os.read, timers[0].file, 64)
        errors = Background(self.read_to_the_end, timers[1].file)
        timers[1].poll(20000)
        self.assertEqual(vusbd.stop(), 0)
        ends = (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED)
        with self.assertRaises(OSError) as caught:
            reader.result()
        self.assertIn(caught.exception.errno, ends)
        self.assertIn(errors.result(), ends)
        self.assertFalse(vusbd.is_mounted)

    @staticmethod
    def read_to_the_end(file):
        """Returns the errno of the read that fails."""
        while True:
            try:
                os.read(file, 64)
            except OSError as error:
                return error.errno

# SPDX-License-Identifier: Apache-2.0
"""A signal ends a call that waits (FUSE_INTERRUPT): the URB is cancelled, the caller gets EINTR. The rows are those of
NodeProtocol.md."""

import os
import signal
import struct
import threading

from harness import Background, Case, Child, SharedDaemon, until, wait_state

# Waits in one call; SIGUSR1 ends it. EINTR isn't retried where the handler raises.
CALLER = """
import os, signal, sys
class Interrupted(Exception): pass
def handle(number, frame): raise Interrupted
signal.signal(signal.SIGUSR1, handle)
path, call = sys.argv[1:3]
file = os.open(path, os.O_WRONLY | os.O_NONBLOCK if call in ("fsync", "write") else os.O_RDONLY)
def fill():
    while True:
        try: os.write(file, bytes(4096))
        except BlockingIOError: return
try:
    if call == "fsync": fill()
    if call == "write":
        fill()
        os.set_blocking(file, True)
    print("ready", flush=True)
    if call == "read": print("got", os.read(file, 512), flush=True)
    if call == "write": print("wrote", os.write(file, b"x"), flush=True)
    if call == "fsync": print("synced", os.fsync(file), flush=True)
    if call == "ahead":
        os.set_blocking(file, False)
        try: os.read(file, 512)
        except BlockingIOError: pass
        os.set_blocking(file, True)
        print("got", os.read(file, 512), flush=True)
except Interrupted:
    print("interrupted", flush=True)
    print("again", sys.stdin.readline(), flush=True)
"""


class Signals(SharedDaemon):
    arguments = ["--emulate", "serial"]
    guests = {"web1": {"devices": ["emu-serial"]}}

    def caller(self, address, call):
        path = self.vusbd.guest("web1", "events") if address == "events" else self.vusbd.endpoint("web1", address)
        child = Child(CALLER, path, call)
        self.addCleanup(child.kill)
        self.assertEqual(child.line(), "ready")
        return child

    def asleep(self, child):
        until(lambda: wait_state(child.process.pid) in "SD")

    def empty(self):
        """Takes what the echo has kept, so that the next case finds it empty."""
        file = os.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            while True:
                os.read(file, 65536)
        except BlockingIOError:
            pass
        os.close(file)
        self.vusbd.until_in_flight(0)

    def interrupt(self, child):
        self.asleep(child)
        child.process.send_signal(signal.SIGUSR1)
        self.assertEqual(child.line(), "interrupted")

    def test_f4_a_signal_cancels_a_read(self):
        child = self.caller("81", "read")
        self.vusbd.until_in_flight(1)
        self.interrupt(child)
        self.vusbd.until_in_flight(0)

    def test_f4_a_signal_cancels_a_write(self):
        child = self.caller("01", "write")
        self.vusbd.until_in_flight(17)
        self.interrupt(child)
        self.vusbd.until_in_flight(16)
        child.kill()
        self.empty()

    def test_f6_a_signal_ends_fsync_and_what_is_queued_stays(self):
        child = self.caller("01", "fsync")
        self.vusbd.until_in_flight(16)
        self.interrupt(child)
        self.assertEqual(self.vusbd.in_flight(), 16)
        child.kill()
        self.vusbd.until_in_flight(0)
        self.empty()

    def test_f6_a_signal_ends_a_read_of_events(self):
        child = self.caller("events", "read")
        self.interrupt(child)

    def test_f6_a_signal_ends_a_read_behind_a_urb_ahead(self):
        child = self.caller("81", "ahead")
        self.vusbd.until_in_flight(1)
        self.interrupt(child)
        # What is ahead belongs to the file, not to the read.
        self.assertEqual(self.vusbd.in_flight(), 1)
        child.kill()

    def test_sigkill_of_a_client_in_a_read(self):
        child = self.caller("81", "read")
        self.vusbd.until_in_flight(1)
        self.asleep(child)
        child.kill()
        self.vusbd.until_in_flight(0)

    def test_sigkill_of_clients_in_every_kind_of_wait(self):
        self.empty()
        children = [self.caller("81", "read") for _ in range(4)] + [self.caller("81", "ahead") for _ in range(2)]
        children += [self.caller("events", "read"), self.caller("82", "read")]
        self.vusbd.until_in_flight(7)
        for child in children:
            self.asleep(child)
            child.kill()
        self.vusbd.until_in_flight(0)
        self.assertEqual(self.vusbd.ctl("GET", "/v1/guests/web1")["state"], "loaded")

    def test_no_byte_is_lost_to_an_interrupted_read(self):
        self.interrupt(self.caller("81", "read"))
        writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        os.write(writer, b"kept")
        self.assertEqual(os.read(reader, 512), b"kept")

    def test_signals_that_race_with_completions(self):
        """F1-F5, whichever comes. Python begins a read anew that a signal has ended: none may lose a byte or hang."""
        caught = 0

        def count(number, frame):
            nonlocal caught
            caught += 1

        before = signal.signal(signal.SIGUSR2, count)
        self.addCleanup(signal.signal, signal.SIGUSR2, before)
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
        main = threading.main_thread().ident
        turn = threading.Semaphore(0)
        turns = 500

        def disturb():
            for number in range(turns):
                turn.acquire()
                # A little earlier or later against the read's begin, and against its end.
                for _ in range(number * 40 % 1300):
                    pass
                signal.pthread_kill(main, signal.SIGUSR2)
                for _ in range(number * 70 % 1300):
                    pass
                os.write(writer, struct.pack("<I", number))
                signal.pthread_kill(main, signal.SIGUSR2)

        disturber = Background(disturb)
        for number in range(turns):
            turn.release()
            self.assertEqual(os.read(reader, 512), struct.pack("<I", number))
        disturber.result()
        self.assertGreater(caught, turns // 2)


# Waits again and again, and is interrupted each time after another while; prints how often.
STORM = """
import os, signal, sys
class Interrupted(Exception): pass
armed = False
def handle(number, frame):
    global armed
    if armed:
        armed = False
        raise Interrupted
signal.signal(signal.SIGALRM, handle)
path, kind, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
file = os.open(path, os.O_RDONLY | (os.O_NONBLOCK if kind == "ahead" else 0))
interrupted = 0
for number in range(rounds):
    try:
        if kind == "ahead":
            os.set_blocking(file, False)
            try: os.read(file, 512)
            except BlockingIOError: pass
            os.set_blocking(file, True)
        armed = True
        # Again after a while: the first may come just before the call, which then knows nothing of it.
        signal.setitimer(signal.ITIMER_REAL, 0.00005 + number % 17 * 0.0001, 0.01)
        os.read(file, 512)
        signal.pause()
    except Interrupted:
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
print(interrupted)
"""


class Storm(Case):
    def test_interrupts_on_all_reader_threads_at_once(self):
        """F1-F6 with four reader threads: an interrupt and its request are on different ones."""
        vusbd = self.daemon("--emulate", "serial", "--readers", "4")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        places = [(vusbd.endpoint("web1", "81"), kind) for kind in ("read", "read", "ahead")]
        places += [(vusbd.endpoint("web1", "82"), "read"), (vusbd.guest("web1", "events"), "read")]
        children = [Child(STORM, path, kind, 400) for path, kind in places]
        for child in children:
            self.addCleanup(child.kill)
        for child in children:
            self.assertEqual(child.end(), "400\n")
        vusbd.until_in_flight(0)
        # Nobody is told of what was meant for another.
        writer = self.open(vusbd.endpoint("web1", "01"), os.O_WRONLY)
        reader = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        os.write(writer, b"calm")
        self.assertEqual(os.read(reader, 512), b"calm")
        self.assertEqual(vusbd.stop(), 0)

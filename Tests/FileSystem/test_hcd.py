# SPDX-License-Identifier: Apache-2.0
"""The channel of a guest's module: the file `hcd` on a real mount. The rows are those of Channel.md."""

import errno
import os
import random
import select
import signal
import struct
import threading
import time

from channel import (ADDED, BYE, CANCEL, COMPLETE, PING, PONG, QUIESCED, REMOVE, REMOVED, RESET, RESET_DONE, RESUMED,
                     QUIESCE, RESUME, SIZE, WAIT, Channel, control, hello, record, submit)
from harness import Background, Case, Child, Vusbd, close_quietly, get_descriptor, set_nonblocking, until
from machine import Machine

DEVICE_DESCRIPTOR = get_descriptor(1, 18)


class ChannelCase(Case):
    """A daemon with emulated devices, and guest `web1` whose module the case plays."""

    emulated = ("zero", "serial")
    devices = ("emu-zero", "emu-serial")

    def setUp(self):
        arguments = [word for one in self.emulated for word in ("--emulate", one)]
        self.vusbd = self.daemon(*arguments)
        self.machine = Machine(self.vusbd.directory)
        self.addCleanup(self.machine.close)
        self.vusbd.add_guest("web1", devices=list(self.devices), **self.machine.fields)
        self.path = self.vusbd.guest("web1", "hcd")

    def open_channel(self, **options):
        channel = Channel(self.path, **options)
        self.addCleanup(close_quietly, channel.file)
        return channel

    def load(self):
        """Loads the guest, as its module; returns the channel, with `devices` added."""
        operation = self.vusbd.ctl("POST", "/v1/guests/web1/load", {})
        until(self.path.exists, lambda: str(self.vusbd.ctl("GET", f"/v1/operations/{operation['id']}")))
        channel = self.open_channel()
        self.assertEqual(channel.greet().kind, 1)
        self.vusbd.wait(operation)
        channel.devices = [channel.until(ADDED).device for _ in self.devices]
        return channel

    def describe(self, channel, device=None, number=0x10001):
        """The device's descriptor, by its URB."""
        channel.write(control(device or channel.devices[0], number, DEVICE_DESCRIPTOR))
        answer = channel.until(COMPLETE)
        self.assertEqual((answer.number, answer.status), (number, 0))
        return answer.payload


class Life(ChannelCase):
    def test_the_file_is_there_while_the_guest_is_loaded_in_mode_module(self):
        self.assertFalse(self.path.exists())
        channel = self.load()
        state = os.stat(self.path)
        self.assertEqual((state.st_mode & 0o777, state.st_size), (0o600, SIZE))
        self.assertEqual(len(self.describe(channel)), 18)
        # The guest lets go of what it's asked for.
        answering = Background(self.answer_removals, channel)
        self.vusbd.unload("web1")
        answering.result()
        self.assertFalse(self.path.exists())
        self.assertErrno(errno.ENODEV, channel.read)
        self.assertErrno(errno.ENODEV, channel.write, record(PING))

    def answer_removals(self, channel):
        left = len(channel.devices)
        while left:
            told = channel.next()
            if told.kind == REMOVE:
                channel.write(record(REMOVED, told.device))
                left -= 1
            elif told.kind in (QUIESCE, RESUME):
                channel.write(record(told.kind + 1, told.device, told.number))

    def test_one_opener_at_a_time(self):
        channel = self.load()
        self.assertErrno(errno.EBUSY, os.open, self.path, os.O_RDWR)
        channel.close()
        for mode in (os.O_RDONLY, os.O_WRONLY):
            self.assertErrno(errno.EINVAL, os.open, self.path, mode)
        again = self.open_channel()
        again.greet()
        # Devices are added anew for the next opener.
        self.assertEqual([again.until(ADDED).device for _ in self.devices], [1, 2])

    def test_an_opener_that_is_killed_makes_room(self):
        self.load().close()
        child = Child("import os, sys; os.open(sys.argv[1], os.O_RDWR); print('open', flush=True); input()", self.path)
        self.assertEqual(child.line(), "open")
        self.assertErrno(errno.EBUSY, os.open, self.path, os.O_RDWR)
        child.kill()
        again = self.open_channel()
        again.greet()

    def test_c7_a_close_in_flight_cancels(self):
        channel = self.load()
        for slot in range(20):
            channel.write(submit(channel.devices[1], 1 << 16 | slot, 0x81, 4096))
        self.vusbd.until_in_flight(20)
        channel.close()
        self.vusbd.until_in_flight(0)

    def test_c13_a_vusbd_that_ends_ends_reads_and_writes(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        waiting = Background(channel.read)
        self.vusbd.stop()
        with self.assertRaises(OSError) as caught:
            while True:
                waiting.result()
                waiting = Background(channel.read)
        self.assertIn(caught.exception.errno, (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED))

    def test_c6_an_unplug_is_told_at_once(self):
        channel = self.load()
        zero, serial = channel.devices
        channel.write(submit(serial, 1 << 16, 0x81, 512))
        self.vusbd.until_in_flight(1)
        self.vusbd.unplug("emu-serial")
        told = [channel.next(), channel.next()]
        self.assertEqual(sorted(one.kind for one in told), [REMOVE, COMPLETE])
        self.assertEqual([one.status for one in told if one.kind == COMPLETE], [-errno.ENODEV])
        channel.write(record(REMOVED, serial))
        self.assertEqual(len(self.describe(channel, zero)), 18)
        # It comes again with another handle.
        self.vusbd.emulate("serial")
        self.assertEqual(channel.until(ADDED).device, 3)


class Transfers(ChannelCase):
    def test_a_device_descriptor_as_sysfs_has_it(self):
        channel = self.load()
        descriptors = self.vusbd.guest("web1", "devices", "1-1", "descriptors").read_bytes()
        self.assertEqual(self.describe(channel), descriptors[:18])

    def test_a_megabyte_goes_round(self):
        """Through the serial device's echo, with several URBs a write and pieces of them."""
        channel = self.load()
        serial = channel.devices[1]
        total, piece = 1 << 20, 4096
        data = random.Random(1).randbytes(total)
        came = bytearray()
        sent = asked = done = 0
        while len(came) < total:
            batch = b""
            while sent < total and sent - len(came) < 8 * piece:
                number = sent // piece
                batch += submit(serial, number << 16 | number % 64, 0x01, piece, data[sent : sent + piece])
                sent += piece
            while asked - done < 4:
                batch += submit(serial, asked << 16 | 100 + asked % 8, 0x81, piece)
                asked += 1
            # A cut anywhere means nothing.
            cut = len(batch) // 3
            for part in (batch[:cut], batch[cut:]):
                if part:
                    channel.write(part)
            answer = channel.until(COMPLETE)
            while answer:
                self.assertEqual(answer.status, 0)
                if answer.number & 0xFFFF >= 100:
                    done += 1
                    came += answer.payload
                answer = channel.next() if channel._whole() else None
        self.assertEqual(bytes(came), data)

    def test_c1_a_cancel_ends_a_urb_that_nothing_else_would(self):
        channel = self.load()
        channel.write(submit(channel.devices[1], 5 << 16 | 3, 0x81, 64))
        self.vusbd.until_in_flight(1)
        channel.write(record(CANCEL, channel.devices[1], 5 << 16 | 3))
        answer = channel.until(COMPLETE)
        self.assertEqual((answer.number, answer.status), (5 << 16 | 3, -errno.ECONNRESET))

    def test_c10_a_reset_ends_urbs_and_is_answered(self):
        channel = self.load()
        channel.write(submit(channel.devices[1], 1 << 16, 0x81, 64) + record(RESET, channel.devices[1], 77))
        answers = [channel.next(), channel.next()]
        self.assertEqual([one.kind for one in answers], [COMPLETE, RESET_DONE])
        self.assertEqual((answers[0].status, answers[1].status, answers[1].number), (-errno.ESHUTDOWN, 0, 77))

    def test_reads_and_writes_of_any_size(self):
        channel = self.load()
        request = control(channel.devices[0], 1 << 16, DEVICE_DESCRIPTOR)
        for size in (1, 7, 48, 49, 100):
            for start in range(0, len(request), size):
                channel.write(request[start : start + size])
            answer = channel.next(size)
            self.assertEqual((answer.kind, len(answer.payload)), (COMPLETE, 18))

    def test_half_a_megabyte_in_one_urb(self):
        channel = self.load()
        zero = channel.devices[0]
        data = bytes(SIZE - 48)
        channel.write(submit(zero, 1 << 16, 0x02, len(data), data))
        answer = channel.until(COMPLETE)
        self.assertEqual((answer.status, answer.actual), (0, len(data)))
        channel.write(submit(zero, 2 << 16, 0x81, 1 << 20))
        answer = channel.until(COMPLETE)
        self.assertEqual((answer.status, len(answer.payload)), (0, 1 << 20))


class Waiting(ChannelCase):
    devices = emulated = ()

    def test_a_read_waits_as_long_as_the_guest_said(self):
        channel = self.load()
        for wait in (0, 1_000, 50_000):
            channel.write(record(WAIT, body=struct.pack("<I", wait)))
            began = time.monotonic()
            self.assertEqual(channel.read(), b"")
            self.assertGreaterEqual(time.monotonic() - began, wait / 1e6)

    def test_a_parked_read_is_answered_by_what_comes(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        waiting = Background(channel.read)
        self.assertTrue(waiting.is_running)
        channel.write(record(PING, number=8))
        self.assertEqual(len(waiting.result()), 48)

    def test_a_shorter_wait_counts_for_a_read_that_waits_already(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        waiting = Background(channel.read)
        # Wherever the read is by now.
        channel.write(record(WAIT, body=struct.pack("<I", 1_000)))
        self.assertEqual(waiting.result(), b"")

    def test_after_the_goodbye_reads_return_at_once(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        waiting = Background(channel.read)
        channel.write(record(BYE))
        self.assertEqual(waiting.result(), b"")
        self.assertEqual(channel.read(), b"")

    def test_an_exporter_that_reads_on_never_waits(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        self.assertEqual(os.pread(channel.file, 4096, 48), b"")

    def test_nonblocking_and_poll(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        set_nonblocking(channel.file)
        self.assertErrno(errno.EAGAIN, channel.read)
        poller = select.poll()
        poller.register(channel.file, select.POLLIN)
        self.assertEqual(poller.poll(0), [])
        waiting = Background(poller.poll, 20_000)
        channel.write(record(PING, number=1))
        self.assertEqual(waiting.result(), [(channel.file, select.POLLIN)])
        self.assertEqual(channel.next().kind, PONG)
        self.assertErrno(errno.EAGAIN, channel.read)

    def test_a_signal_interrupts_a_read_and_takes_nothing(self):
        self.load().close()
        program = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from channel import *
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
channel = Channel(sys.argv[1])
channel.greet(60_000_000)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    channel.read()
except Alarm:
    print("interrupted", flush=True)
channel.write(record(PING, number=5))
print(channel.next().number, flush=True)
"""
        child = Child(program, self.path, os.path.dirname(__file__))
        self.assertEqual(child.line(), "interrupted")
        self.assertEqual(child.line(), "5")
        child.end()

    def test_two_reads_at_once_have_no_order(self):
        channel = self.load()
        channel.write(record(WAIT, body=struct.pack("<I", 60_000_000)))
        results = [Background(channel.read), Background(channel.read)]
        until(lambda: not all(one.is_running for one in results))
        channel.write(record(PING))
        outcomes = []
        for one in results:
            try:
                outcomes.append(len(one.result()))
            except OSError as error:
                outcomes.append(error.errno)
        self.assertEqual(sorted(outcomes), [errno.EBUSY, 48])


class Hostile(ChannelCase):
    def assertNobodyHurt(self):
        """Another guest uses a device meanwhile, and the next opener of the channel works."""
        again = self.open_channel()
        again.greet()
        again.devices = [again.until(ADDED).device for _ in self.devices]
        self.assertEqual(len(self.describe(again)), 18)
        again.close()
        self.vusbd.until_in_flight(0)

    def assertBroken(self, channel, data):
        self.assertErrno(errno.EPROTO, channel.write, data)
        self.assertErrno(errno.EPROTO, channel.read)
        self.assertErrno(errno.EPROTO, channel.write, hello())
        channel.close()

    def test_rules_that_are_broken_end_the_channel_only(self):
        self.load().close()
        for bad in (
            record(PING),
            hello(magic=1),
            hello() + b"\xff" * 48,
            hello() + record(99),
            hello() + struct.pack("<IHHQ", 0xFFFFFFFF, SUBMIT_TYPE, 1, 0) + bytes(32),
            hello() + submit(9, 0, 0x81, 64),
            hello() + submit(1, 4096, 0x81, 64),
            hello() + submit(1, 0, 0x81, 0xFFFFFFFF),
            hello() + submit(2, 0, 0x81, 64) + submit(2, 0, 0x81, 64),
            hello() + record(REMOVED, 1),
            hello() + record(QUIESCED, 1, 1),
            hello() + record(RESUMED, 0, 0),
        ):
            self.assertBroken(self.open_channel(), bad)
        self.assertNobodyHurt()

    def test_10000_submits_without_a_read(self):
        channel = self.load()
        with self.assertRaises(OSError) as caught:
            for number in range(10_000):
                channel.write(submit(channel.devices[0], number << 16 | number % 1024, 0x81, 512))
        self.assertEqual((caught.exception.errno, number), (errno.EPROTO, 1024))
        channel.close()
        self.assertNobodyHurt()

    def test_random_records(self):
        self.load().close()
        source = random.Random(7)
        for _ in range(60):
            channel = self.open_channel()
            channel.greet()
            try:
                for _ in range(50):
                    data = source.randbytes(source.randrange(1, 4000))
                    if source.random() < 0.8:
                        kind, device = source.randrange(1, 18), source.randrange(3)
                        body = source.randbytes(32) if source.random() < 0.5 else struct.pack("<BBHI", 0x81, 2, 0, 64)
                        data = record(kind, device, source.randrange(1 << 18), body)
                    channel.write(data)
            except OSError as error:
                self.assertEqual(error.errno, errno.EPROTO)
            channel.close()
        self.assertNobodyHurt()

    def test_opening_and_closing_without_end_keeps_nothing(self):
        self.load().close()
        for _ in range(300):
            channel = self.open_channel()
            channel.write(hello() + submit(2, 1, 0x81, 65536))
            channel.close()
        self.assertNobodyHurt()

    def test_others_go_on_while_one_floods(self):
        channel = self.load()
        self.vusbd.add_guest("other")
        self.vusbd.load("other")
        self.vusbd.emulate("zero,name=second")
        self.vusbd.attach("emu-second", "other")
        stop = threading.Event()

        def flood():
            number = 0
            while not stop.is_set():
                try:
                    channel.write(submit(channel.devices[0], number << 16 | number % 1024, 0x81, 4096))
                    number += 1
                except OSError:
                    return number

        flooding = Background(flood)
        file = self.open(self.vusbd.endpoint("other", "00"), os.O_RDWR)
        for _ in range(50):
            self.assertEqual(len(self.transfer_in(file, DEVICE_DESCRIPTOR)), 18)
        stop.set()
        flooding.result()


SUBMIT_TYPE = 5

# SPDX-License-Identifier: Apache-2.0
"""poll, epoll, select and O_NONBLOCK."""

import errno
import os
import select

from harness import SET_ZERO_ALTERNATE, Background, SharedDaemon, Case, close_quietly, set_nonblocking, setup, until


class In(SharedDaemon):
    arguments = ["--emulate", "serial"]
    guests = {"web1": {"devices": ["emu-serial"]}}

    def setUp(self):
        self.reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        self.writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)

    def readable(self, milliseconds=20000):
        poller = select.poll()
        poller.register(self.reader, select.POLLIN)
        return [events for _, events in poller.poll(milliseconds)]

    def test_nothing_there_is_eagain_and_starts_one_urb(self):
        for _ in range(3):
            self.assertErrno(errno.EAGAIN, os.read, self.reader, 512)
        self.assertEqual(self.vusbd.in_flight(), 1)

    def test_what_it_started_brings_the_data(self):
        self.assertErrno(errno.EAGAIN, os.read, self.reader, 512)
        os.write(self.writer, b"data")
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 512), b"data")
        self.assertErrno(errno.EAGAIN, os.read, self.reader, 512)

    def test_poll_starts_a_urb_and_wakes(self):
        self.assertEqual(self.readable(0), [])
        self.assertEqual(self.vusbd.in_flight(), 1)
        waiting = Background(self.readable)
        os.write(self.writer, b"wake")
        self.assertEqual(waiting.result(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 4096), b"wake")

    def test_data_stay_until_they_are_read(self):
        self.assertEqual(self.readable(0), [])
        os.write(self.writer, b"keep")
        for _ in range(3):
            self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(self.vusbd.in_flight(), 0)
        self.assertEqual(os.read(self.reader, 4096), b"keep")

    def test_a_read_too_small_is_emsgsize_and_the_data_stay(self):
        self.assertEqual(self.readable(0), [])
        os.write(self.writer, b"0123456789")
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertErrno(errno.EMSGSIZE, os.read, self.reader, 9)
        self.assertEqual(os.read(self.reader, 10), b"0123456789")

    def test_poll_asks_for_as_much_as_the_last_read(self):
        self.assertErrno(errno.EAGAIN, os.read, self.reader, 512)
        os.write(self.writer, b"x" * 100)
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 512), b"x" * 100)
        self.assertEqual(self.readable(0), [])
        os.write(self.writer, b"y" * 1000)
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 65536), b"y" * 512)
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 65536), b"y" * 488)

    def test_select_and_epoll(self):
        self.assertEqual(select.select([self.reader], [], [], 0)[0], [])
        os.write(self.writer, b"one")
        self.assertEqual(select.select([self.reader], [], [], 20)[0], [self.reader])
        self.assertEqual(os.read(self.reader, 4096), b"one")
        with select.epoll() as epoll:
            epoll.register(self.reader, select.EPOLLIN | select.EPOLLET)
            epoll.poll(0)
            waiting = Background(epoll.poll, 20)
            os.write(self.writer, b"two")
            self.assertEqual(waiting.result(), [(self.reader, select.EPOLLIN)])
            self.assertEqual(os.read(self.reader, 4096), b"two")

    def test_two_pollers_of_one_file_both_wake(self):
        first, second = Background(self.readable), Background(self.readable)
        self.vusbd.until_in_flight(1)
        os.write(self.writer, b"all")
        self.assertEqual((first.result(), second.result()), ([select.POLLIN], [select.POLLIN]))
        self.assertEqual(os.read(self.reader, 4096), b"all")

    def test_a_blocking_read_waits_for_what_poll_started(self):
        self.assertEqual(self.readable(0), [])
        set_nonblocking(self.reader, False)
        waiting = [Background(os.read, self.reader, 4096)]
        # Only the one that poll started: the read waits behind it.
        os.write(self.writer, b"first")
        self.assertEqual(waiting[0].result(), b"first")
        os.write(self.writer, b"second")
        self.assertEqual(os.read(self.reader, 4096), b"second")

    def test_close_cancels_what_poll_started(self):
        file = os.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(close_quietly, file)
        self.assertErrno(errno.EAGAIN, os.read, file, 512)
        self.vusbd.until_in_flight(1)
        os.close(file)
        self.vusbd.until_in_flight(0)
        # No byte was lost to it.
        os.write(self.writer, b"mine")
        self.assertEqual(self.readable(), [select.POLLIN])
        self.assertEqual(os.read(self.reader, 4096), b"mine")

    def test_a_reader_with_poll_gets_every_byte_in_order(self):
        expected = b"".join(bytes([n % 251]) * (n % 90 + 1) for n in range(300))

        def write():
            for n in range(300):
                os.write(self.writer, bytes([n % 251]) * (n % 90 + 1))

        writer = Background(write)
        data = b""
        while len(data) < len(expected):
            self.assertEqual(self.readable(), [select.POLLIN])
            data += os.read(self.reader, 4096)
        writer.result()
        self.assertEqual(data, expected)


class Out(SharedDaemon):
    arguments = ["--emulate", "serial"]
    guests = {"web1": {"devices": ["emu-serial"]}}

    def setUp(self):
        self.reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY | os.O_NONBLOCK)

    def fill(self):
        """Until the echo has its 64 KiB and 16 writes wait; returns all that was taken."""
        data = b""
        while True:
            chunk = bytes([len(data) // 4096 % 256]) * 4096
            try:
                os.write(self.writer, chunk)
            except BlockingIOError:
                return data
            data += chunk

    def writable(self, milliseconds=0):
        poller = select.poll()
        poller.register(self.writer, select.POLLOUT)
        return [events for _, events in poller.poll(milliseconds)]

    def take(self, count):
        data = b""
        while len(data) < count:
            data += os.read(self.reader, 4096)
        return data

    def test_a_write_is_queued_and_answered_at_once(self):
        self.assertEqual(os.write(self.writer, b"quick"), 5)
        os.fsync(self.writer)
        self.assertEqual(os.read(self.reader, 512), b"quick")

    def test_sixteen_wait_then_eagain_and_poll_tells_of_room(self):
        self.assertEqual(self.writable(), [select.POLLOUT])
        data = self.fill()
        # The echo is full; sixteen more wait.
        self.assertEqual(len(data), 65536 + 16 * 4096)
        self.assertEqual(self.vusbd.in_flight(), 16)
        self.assertEqual(self.writable(), [])
        waiting = Background(self.writable, 20000)
        got = self.take(16384)
        self.assertEqual(waiting.result(), [select.POLLOUT])
        got += self.take(len(data) - len(got))
        self.assertEqual(got, data)
        os.fsync(self.writer)
        self.assertEqual(os.read(self.reader, 4096), b"")

    def test_fsync_waits_for_all_that_is_queued(self):
        data = self.fill()
        waiting = Background(os.fsync, self.writer)
        self.assertTrue(waiting.is_running)
        got = self.take(len(data) - 65536 - 4096)
        self.assertTrue(waiting.is_running)
        got += self.take(len(data) - len(got))
        waiting.result()
        self.assertEqual(got, data)
        self.assertEqual(os.read(self.reader, 4096), b"")

    def test_fsync_of_nothing_returns_at_once(self):
        os.fsync(self.writer)
        os.fdatasync(self.reader)

    def test_close_cancels_what_is_queued(self):
        file = os.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY | os.O_NONBLOCK)
        self.addCleanup(close_quietly, file)
        self.writer, writer = file, self.writer
        self.fill()
        self.writer = writer
        os.close(file)
        self.vusbd.until_in_flight(0)
        self.take(65536)
        set_nonblocking(self.reader)
        try:
            while os.read(self.reader, 65536):
                pass
        except BlockingIOError:
            pass


class Failures(SharedDaemon):
    arguments = ["--emulate", "zero,name=zero"]
    guests = {"web1": {"devices": ["emu-zero"]}}

    def setUp(self):
        self.control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        self.writer = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY | os.O_NONBLOCK)

    def halt(self, address):
        os.write(self.control, setup(0x02, 3, 0, address))
        self.addCleanup(lambda: os.write(self.control, setup(0x02, 1, 0, address)))

    def test_a_failure_comes_with_fsync(self):
        self.halt(0x02)
        self.assertEqual(os.write(self.writer, b"x"), 1)
        self.assertErrno(errno.EPIPE, os.fsync, self.writer)
        os.fsync(self.writer)

    def test_or_with_the_next_write(self):
        self.halt(0x02)
        self.assertEqual(os.write(self.writer, b"x"), 1)
        self.vusbd.until_in_flight(0)
        self.assertErrno(errno.EPIPE, os.write, self.writer, b"y")

    def test_a_failed_read_ahead_is_told_once(self):
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        self.halt(0x81)
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        self.assertEqual([events for _, events in poller.poll(20000)], [select.POLLIN])
        self.assertErrno(errno.EPIPE, os.read, reader, 512)

    def test_a_control_transfer_never_says_eagain(self):
        set_nonblocking(self.control)
        self.assertEqual(self.transfer_in(self.control, setup(0x81, 0x0A, length=1)), b"\0")


class Unplugged(Case):
    def test_pollers_and_readers_are_told_that_the_device_is_gone(self):
        vusbd = self.daemon("--emulate", "serial")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        blocked = [self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY) for _ in range(3)]
        polled = self.open(vusbd.endpoint("web1", "82"), os.O_RDONLY | os.O_NONBLOCK)
        writer = self.open(vusbd.endpoint("web1", "01"), os.O_WRONLY)
        # Two more on one descriptor behind what a poll started.
        shared = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        self.assertErrno(errno.EAGAIN, os.read, shared, 512)
        set_nonblocking(shared, False)
        readers = [Background(os.read, file, 512) for file in [*blocked, shared, shared]]
        poller = select.poll()
        poller.register(polled, select.POLLIN)
        waiting = Background(poller.poll, 20000)
        # Three reads, one ahead of the two that share, one by the poll.
        vusbd.until_in_flight(5)
        vusbd.unplug("emu-serial")
        for reader in readers:
            self.assertErrno(errno.ENODEV, reader.result)
        [(_, events)] = waiting.result()
        self.assertTrue(events & select.POLLIN)
        self.assertErrno(errno.ENODEV, os.read, polled, 10)
        self.assertErrno(errno.ENODEV, os.write, writer, b"x")
        self.assertErrno(errno.ENODEV, os.read, blocked[0], 512)
        self.assertErrno(errno.ENOENT, os.stat, vusbd.endpoint("web1", "81"))
        self.assertEqual(poller.poll(20000), [(polled, select.POLLIN | select.POLLERR | select.POLLHUP)])
        self.assertEqual(vusbd.stop(), 0)


class IsochronousPoll(SharedDaemon):
    arguments = ["--emulate", "zero,name=zero"]
    guests = {"web1": {"devices": ["emu-zero"]}}

    def test_a_read_too_small_for_a_packet_does_not_keep_poll_from_waking(self):
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        os.write(control, SET_ZERO_ALTERNATE[1])
        self.addCleanup(lambda: os.write(control, SET_ZERO_ALTERNATE[0]))
        reader = self.open(self.vusbd.endpoint("web1", "83"), os.O_RDONLY | os.O_NONBLOCK)
        self.assertErrno(errno.EINVAL, os.read, reader, 100)
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        self.assertEqual(poller.poll(20000), [(reader, select.POLLIN)])
        self.assertGreater(len(os.read(reader, 4096)), 1024)

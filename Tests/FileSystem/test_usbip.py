# SPDX-License-Identifier: Apache-2.0
"""Mode usbip, and clients that mean harm or are sick: whatever they say at a guest's listener, they end their own
connection at most. Another guest's client works all the time; vusbd's memory and descriptors are bounded, and back
afterwards. The letters are the rows of USBIP.md."""

import errno
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import unittest

import usbip_capture
from harness import PATIENCE, SET_ZERO_ALTERNATE, Background, SharedDaemon, get_descriptor, setup, until
from usbip import (BUSY, NO_DEVICE, NO_PACKETS, REQUEST_IMPORT, RET_SUBMIT, RET_UNLINK, SUBMIT, UNLINK, Importer,
                   operation, request_import)

MIB = 1 << 20
PACKET = bytes(i % 63 for i in range(512))
# What one client may have of vusbd: 16 MiB of transfers in flight (A12), as much that they have brought and 4 MiB that
# wait for it (K4), and 8 MiB that are kept for its next transfers.
A_CLIENTS_SHARE = (16 + 16 + 4 + 8) * MIB


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Neighbour:
    """Another guest's client: reads and writes a pattern and asks for descriptors until it's told to end."""

    def __init__(self, port):
        self.importer = Importer(port)
        if status := self.importer.take():
            raise AssertionError(f"the neighbour's import has the status {status}")
        self.rounds, self.is_over = 0, threading.Event()
        self.work = Background(self._work)

    def _work(self):
        one, seqnum = self.importer, 0
        while not self.is_over.is_set():
            frames = [one.submit(seqnum, 0x81, 16384), one.submit(seqnum + 1, 0x02, data=PACKET * 8),
                      one.submit(seqnum + 2, 0x81, 4096), one.descriptor(seqnum + 3)]
            one.raw(b"".join(frames))
            replies = sorted((one.next() for _ in frames), key=lambda reply: reply.seqnum)
            said = [(reply.seqnum - seqnum, reply.status) for reply in replies]
            lengths = [len(reply.data) for reply in replies]
            if said != [(0, 0), (1, 0), (2, 0), (3, 0)] or lengths != [16384, 0, 4096, 18]:
                raise AssertionError(f"the neighbour is told {replies}")
            if replies[0].data != PACKET * 32 or replies[2].data != PACKET * 8:
                raise AssertionError("the neighbour reads something else")
            seqnum, self.rounds = seqnum + 4, self.rounds + 1

    def end(self):
        self.is_over.set()
        try:
            self.work.result()
        finally:
            self.importer.close()


class Plays:
    """What the clients do that mean harm, or are sick. The guest has a zero at 1-1, and at 1-2 a serial adapter, of
    which a transfer IN doesn't end by itself."""

    def importer(self, busid="1-1"):
        """It has the device as soon as that's free."""
        while True:
            one = Importer(self.port)
            self.addCleanup(one.close)
            if (status := one.take(busid)) == 0:
                return one
            self.assertEqual(status, BUSY)
            one.until_closed()
            self.until_free(busid)

    def attachment(self, busid):
        attachments = next(one for one in self.vusbd.ctl("GET", "/v1/guests") if one["name"] == "bad")["attachments"]
        return next(one for one in attachments if one["path"] == busid)

    def until_free(self, busid="1-1"):
        until(lambda: self.attachment(busid)["state"] == "free", lambda: f"{busid} is {self.attachment(busid)}")

    def assertWorks(self, one, seqnum=0xFFFF):
        reply = one.ask(one.descriptor(seqnum))
        self.assertEqual((reply.kind, reply.seqnum, reply.status, len(reply.data)), (RET_SUBMIT, seqnum, 0, 18))

    def assertCutOff(self, one, busid="1-1"):
        one.until_closed()
        self.until_free(busid)

    def play_broken_requests(self):
        """H1: no answer."""
        for request in (operation(0x8005, version=0x0110), operation(0x8005, version=0), operation(0x8004),
                        operation(0x0003), operation(REQUEST_IMPORT, b"1" * 32), b"GET / HTTP/1.1\r\n\r\n",
                        b"\xff" * 64, b"\x01\x11"):
            one = Importer(self.port)
            one.raw(request)
            one.connection.shutdown(socket.SHUT_WR)
            self.assertEqual(one.until_closed(), b"", request)

    def play_names_of_no_device(self):
        for busid in ("../1-1", "1-1/../1-1", "../../dev/sda", "", "1-3", "1-1.", b"\xff\xfe", "/dev/bus/usb/001/001"):
            one = Importer(self.port)
            self.assertEqual(one.take(busid), NO_DEVICE, busid)
            self.assertEqual(one.until_closed(), b"")

    def play_lists(self):
        self.assertEqual(Importer(self.port).list(), ["1-1", "1-2"])

    def play_a_device_in_use(self):
        one, other = self.importer(), Importer(self.port)
        self.assertEqual(other.take(), BUSY)
        self.assertEqual(other.until_closed(), b"")
        self.assertWorks(one)
        one.close()
        self.until_free()

    def play_violations(self):
        """H2 to H6."""
        def words(length=0, count=0):
            return 0, length, 0, count, 0

        lengths = [(direction, length) for length in (0x8000_0000, 2**32 - 1, 2**31 + 512) for direction in (0, 1)]
        lengths += [(0, 2**31 - 1), (0, 16 * MIB + 1)]
        table = [lambda one, n=n: one.command(n, 1, 0, 0, words()) for n in (0, 3, 4, 0x8005, 2**32 - 1)]
        table += [lambda one, n=n: one.command(SUBMIT, 1, n, 1, words()) for n in (2, 0x80, 2**32 - 1)]
        table += [lambda one, d=d, n=n: one.command(SUBMIT, 1, d, 1, words(n)) for d, n in lengths]
        counts = (1025, 2**31 - 1, 2**31, 2**32 - 2)
        table += [lambda one, n=n: one.command(SUBMIT, 1, 1, 3, words(64, n)) for n in counts]
        for frame in table:
            one = self.importer()
            one.raw(frame(one))
            self.assertCutOff(one)
        one = self.importer()
        one.device += 1
        one.raw(one.descriptor(1))
        self.assertCutOff(one)
        # Of these the first one is in flight.
        one = self.importer("1-2")
        one.raw(one.submit(7, 0x81, 512) * 2)
        self.assertCutOff(one, "1-2")

    def play_wrong_commands(self):
        """A9 to A11: answered, and the connection goes on."""
        one = self.importer()
        seqnum = 0
        for endpoint in (200, 16, 127, 2**31, 2**32 - 1):
            for direction, data in ((0, bytes(64)), (1, b"")):
                for count, rest in ((NO_PACKETS, b""), (0, b""), (1, struct.pack(">IIII", 0, 64, 0, 0))):
                    seqnum += 1
                    one.asked[seqnum] = direction == 1
                    frame = one.command(SUBMIT, seqnum, direction, endpoint, (0, 64, 0, count, 0)) + data + rest
                    reply = one.ask(frame)
                    self.assertEqual((reply.seqnum, reply.status), (seqnum, -errno.EINVAL), hex(endpoint))
        # Endpoints that it doesn't have, and one of another setting.
        for endpoint in (0x8F, 0x0F, 0x83, 0x04):
            reply = one.ask(one.submit(1000 + endpoint, endpoint, 64, b"" if endpoint & 0x80 else bytes(64)))
            self.assertEqual(reply.status, -errno.ESHUTDOWN, hex(endpoint))
        # As long as a length can be.
        for length in (16 * MIB + 1, 2**31 - 1):
            self.assertEqual(one.ask(one.submit(2000, 0x81, length)).status, -errno.EMSGSIZE)
        self.assertEqual(one.ask(one.control(3000, SET_ZERO_ALTERNATE[1])).status, 0)
        # -1 says that it isn't isochronous.
        for count in (0, NO_PACKETS):
            self.assertEqual(one.ask(one.submit(4000, 0x83, 64, count=count)).status, -errno.EINVAL)
        # Packets that lie outside of the data.
        for offset, length in ((1, 64), (2**32 - 1, 64), (0, 65), (0, 2**32 - 1), (2**31, 2**31)):
            frame = one.submit(5000, 0x83, 64, count=1) + struct.pack(">IIII", offset, length, 0, 0)
            self.assertEqual(one.ask(frame).status, -errno.EINVAL, (offset, length))
        # A reset, which the end of a session is, leaves the settings as they are.
        self.assertEqual(one.ask(one.control(6000, SET_ZERO_ALTERNATE[0])).status, 0)
        self.assertWorks(one)
        one.close()
        self.until_free()

    def play_unlinks(self):
        """U1, U4 to U6, U11."""
        one = self.importer("1-2")
        for seqnum, target in ((1, 2**31), (2, 2), (3, 0), (4, 2**32 - 1), (5, 1)):
            reply = one.ask(one.unlink(seqnum, target))
            self.assertEqual((reply.kind, reply.seqnum, reply.status), (RET_UNLINK, seqnum, 0))
        self.assertWorks(one, 6)
        reply = one.ask(one.unlink(7, 6))
        self.assertEqual((reply.kind, reply.seqnum, reply.status), (RET_UNLINK, 7, 0))
        # The same number again and again, also as an UNLINK's own.
        for _ in range(3):
            one.raw(one.submit(8, 0x81, 512) + one.unlink(8, 8))
            reply = one.next()
            self.assertEqual((reply.kind, reply.seqnum, reply.status), (RET_UNLINK, 8, -errno.ECONNRESET))
        one.raw(one.submit(9, 0x81, 512) + one.unlink(10, 9) + one.unlink(11, 9))
        replies = sorted((one.next() for _ in range(2)), key=lambda reply: reply.seqnum)
        self.assertEqual([(reply.kind, reply.seqnum) for reply in replies], [(RET_UNLINK, 10), (RET_UNLINK, 11)])
        self.assertIn(-errno.ECONNRESET, [reply.status for reply in replies])
        self.assertWorks(one, 12)
        one.close()
        self.until_free("1-2")

    def play_headers_in_48_writes(self):
        one = self.importer()
        frames = one.descriptor(1) + one.submit(2, 0x02, data=bytes(10)) + one.submit(3, 0x81, 512) + one.unlink(4, 99)
        for byte in frames:
            one.raw(bytes([byte]))
        replies = [one.next() for _ in range(4)]
        self.assertEqual([reply.status for reply in replies], [0] * 4)
        one.close()
        self.until_free()
        # The import, too.
        one = Importer(self.port)
        for byte in request_import():
            one.raw(bytes([byte]))
        self.assertEqual(one.take_reply(), 0)
        one.close()
        self.until_free()

    def play_ends_in_the_midst(self):
        """K1: closed, or reset, with transfers in flight or a frame half said, the device is free."""
        for how in (Importer.close, Importer.reset):
            one = self.importer("1-2")
            one.raw(b"".join(one.submit(n, 0x81, 512) for n in range(1, 101)))
            until(lambda: self.attachment("1-2")["urbsInFlight"] == 100)
            how(one)
            self.until_free("1-2")
            one = self.importer()
            one.raw(one.submit(1, 0x02, data=bytes(MIB))[:-1])
            how(one)
            self.until_free()

    plays = [play_broken_requests, play_names_of_no_device, play_lists, play_a_device_in_use, play_violations,
             play_wrong_commands, play_unlinks, play_headers_in_48_writes, play_ends_in_the_midst]


class UsbipCase(Plays, SharedDaemon):
    """A daemon with a guest whose clients the case plays."""

    arguments = ("--emulate", "zero,name=bad", "--emulate", "serial")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.port = free_port()
        cls.vusbd.add_guest("bad", listen=[f"tcp:{cls.port}"])
        cls.vusbd.load("bad")
        for device in ("emu-bad", "emu-serial"):
            cls.vusbd.attach(device, "bad")


class HarmfulClients(UsbipCase):
    """With a neighbour at work from the first to the last."""

    arguments = (*UsbipCase.arguments, "--emulate", "zero,name=good,pattern=mod63")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        port = free_port()
        cls.vusbd.add_guest("neighbour", listen=[f"tcp:{port}"])
        cls.vusbd.load("neighbour")
        cls.vusbd.attach("emu-good", "neighbour")
        cls.neighbour = Neighbour(port)
        cls.addClassCleanup(cls.neighbour.end)

    def nothing_left(self):
        """The neighbour has worked, and goes on."""
        rounds = self.neighbour.rounds
        until(lambda: self.neighbour.rounds > rounds or not self.neighbour.work.is_running)
        if not self.neighbour.work.is_running:
            self.neighbour.work.result()

    def memory(self):
        """In bytes."""
        text = open(f"/proc/{self.vusbd.pid}/status").read()
        return int(re.search(r"VmRSS:\s*(\d+)", text)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.vusbd.pid}/fd"))

    def test_whatever_they_say_again_and_again(self):
        for play in self.plays:
            with self.subTest(play.__name__):
                play(self)
        memory, descriptors = self.memory(), self.descriptors()
        for _ in range(5):
            for play in self.plays:
                play(self)
        # These were 500 connections and more: 2 KiB that each of them left would show.
        self.assertLess(self.memory(), memory + MIB)
        until(lambda: self.descriptors() <= descriptors)

    def test_a_client_that_doesnt_read(self):
        """K4: cut at the deadline, though it keeps its connection."""
        memory, descriptors = self.memory(), self.descriptors()
        one = self.importer()
        one.connection.settimeout(0.5)
        count, limit = 0, 1 << 21
        while count < limit and one.raw(b"".join(one.submit(count + n, 0x81, 65536) for n in range(256))):
            count += 256
        self.assertLess(count, limit)
        self.assertLess(self.memory(), memory + A_CLIENTS_SHARE)
        self.until_free()
        # Had it kept what waited for the client, it would be 4 MiB.
        self.assertLess(self.memory(), memory + 2 * MIB)
        until(lambda: self.descriptors() <= descriptors)

    def test_a_thousand_that_say_a_byte_a_minute(self):
        """K6, K7: they hold up nobody, 64 of them stay for as long as anybody may, which isn't a minute."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        memory, descriptors = self.memory(), self.descriptors()
        slow = []
        for _ in range(1000):
            slow.append(Importer(self.port))
            self.addCleanup(slow[-1].close)
            slow[-1].raw(b"\x01")
            if len(slow) % 100 == 0:
                # It's answered, so those before it were looked at. It has one itself, and one may be on its way.
                self.play_lists()
                self.assertLessEqual(self.descriptors(), descriptors + 64 + 2)
        for one in slow:
            self.assertEqual(one.until_closed(), b"")
        # 2 KiB that each of them left would show.
        self.assertLess(self.memory(), memory + 2 * MIB)
        until(lambda: self.descriptors() <= descriptors)


class Capture:
    """What goes to and fro at that port, by tcpdump into a file."""

    END = b"this is all of it"

    def __init__(self, file, port):
        self.file, self.port = file, port
        command = ["tcpdump", "-i", "lo", "--immediate-mode", "-U", "-B", "65536", "-Z", "root", "-w", str(file),
                   f"tcp port {port}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        # It listens when it has said so.
        line = self.process.stderr.readline()
        if "listening on" not in line:
            raise AssertionError(f"tcpdump says {line}")

    def end(self):
        """Returns the file, once all is in it."""
        last = Importer(self.port)
        last.raw(self.END)
        last.until_closed()
        last.close()
        until(lambda: self.END in self.file.read_bytes()[-4096:])
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=PATIENCE)
        if not re.search(r"^0 packets dropped by kernel", said, re.M):
            raise AssertionError(f"tcpdump says {said}")
        return self.file

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Captured(UsbipCase):
    def play_all_kinds(self):
        """A client as it should be: all types of transfers, their errors, and unlinked ones."""
        one = self.importer()
        self.assertWorks(one, 1)
        # What isn't there stalls, a vendor request out and in, a short answer.
        self.assertEqual(one.ask(one.control(2, get_descriptor(0x0F, 64))).status, -errno.EPIPE)
        self.assertEqual(one.ask(one.control(3, setup(0x40, 0x5B, length=64), bytes(range(64)))).status, 0)
        self.assertEqual(one.ask(one.control(4, setup(0xC0, 0x5C, length=64))).data, bytes(range(64)))
        self.assertEqual(len(one.ask(one.control(5, get_descriptor(1, 255))).data), 18)
        for length in (0, 512, 65536, MIB):
            self.assertEqual(len(one.ask(one.submit(6, 0x81, length)).data), length)
            self.assertEqual(one.ask(one.submit(7, 0x02, data=bytes(length))).status, 0)
        self.assertEqual(one.ask(one.control(8, setup(0x02, 3, 0, 0x81))).status, 0)
        self.assertEqual(one.ask(one.submit(9, 0x81, 512)).status, -errno.EPIPE)
        self.assertEqual(one.ask(one.control(10, setup(0x02, 1, 0, 0x81))).status, 0)
        self.assertEqual(one.ask(one.control(11, SET_ZERO_ALTERNATE[1])).status, 0)
        for count in (1, 8, 128):
            reply = one.ask(one.isochronous(12, 0x83, [64] * count))
            self.assertEqual((reply.status, len(reply.packets)), (0, count))
            reply = one.ask(one.isochronous(13, 0x04, [64] * count, bytes(64 * count)))
            self.assertEqual((reply.status, len(reply.packets)), (0, count))
        self.assertEqual(one.ask(one.control(14, SET_ZERO_ALTERNATE[2])).status, 0)
        self.assertEqual(len(one.ask(one.submit(15, 0x85, 1024)).data), 1024)
        self.assertEqual(one.ask(one.submit(16, 0x06, data=bytes(64))).status, 0)
        self.assertEqual(one.ask(one.control(17, SET_ZERO_ALTERNATE[0])).status, 0)
        # A hundred at once; their answers come as they end.
        one.raw(b"".join(one.submit(n, 0x81, 512 * (n % 16)) for n in range(100, 200)))
        self.assertEqual(sorted(one.next().seqnum for _ in range(100)), list(range(100, 200)))
        one.close()
        self.until_free()

    def test_each_command_has_one_answer_and_tshark_finds_nothing_wrong(self):
        capture = Capture(self.vusbd.directory / "usbip.pcap", self.port)
        self.addCleanup(capture.kill)
        for play in [*self.plays, Captured.play_all_kinds]:
            play(self)
        counts = usbip_capture.check(capture.end(), self.port)
        for what in ("ret_submit with an error", "ret_unlink with an error", "ret_import with an error", "ret_list",
                     "isochronous", "broken"):
            self.assertGreater(counts[what], 0, what)
        # That of `play_wrong_commands`, which says 0xffffffff.
        self.assertEqual(counts["without tshark"], 1)


class Checker(unittest.TestCase):
    """usbip_capture.py finds what is wrong."""

    SUBMIT = "client", struct.pack(">10I", SUBMIT, 1, 0x0001_0002, 1, 1, 0, 4, 0, 0, 0) + bytes(8)
    UNLINK = "client", struct.pack(">10I", UNLINK, 2, 0x0001_0002, 0, 0, 1, 0, 0, 0, 0) + bytes(8)

    @staticmethod
    def reply(kind, seqnum, status=0, data=b""):
        return "server", struct.pack(">5Ii4I", kind, seqnum, 0, 0, 0, status, len(data), 0, 0, 0) + bytes(8) + data

    @staticmethod
    def conversation(*steps):
        """After an import. Each step is a packet, the last one the client's end."""
        record = bytearray(operation(0x0003, bytes(312)))
        record[296:304] = struct.pack(">II", 1, 2)
        connection = usbip_capture.Connection()
        for number, (side, data) in enumerate([("client", request_import()), ("server", bytes(record)), *steps], 1):
            stream = getattr(connection, side)
            stream.data += data
            stream.marks.append((len(stream.data), number))
        connection.server.ended = 100
        return usbip_capture.Conversation(connection)

    def assertWrong(self, text, call, *arguments):
        with self.assertRaisesRegex(usbip_capture.Wrong, text):
            call(*arguments)

    def test_what_is_right(self):
        data = self.reply(RET_SUBMIT, 1, data=bytes(4))
        for steps in ([self.SUBMIT, data], [self.SUBMIT, data, self.UNLINK, self.reply(RET_UNLINK, 2)],
                      [self.SUBMIT, self.UNLINK, self.reply(RET_UNLINK, 2, -errno.ECONNRESET)],
                      [self.SUBMIT, self.UNLINK, data, self.reply(RET_UNLINK, 2)]):
            usbip_capture.compare([self.conversation(*steps)], 3240)

    def test_answers_that_are_missing_or_too_many(self):
        answer, cancelled = self.reply(RET_SUBMIT, 1), self.reply(RET_UNLINK, 2, -errno.ECONNRESET)
        self.assertWrong("no answer for 1", self.conversation, self.SUBMIT)
        self.assertWrong("no answer for 1", self.conversation, self.SUBMIT, answer, self.UNLINK)
        self.assertWrong("no answer for 1", self.conversation, self.SUBMIT, self.UNLINK, cancelled, self.UNLINK)
        self.assertWrong("for no SUBMIT", self.conversation, self.SUBMIT, answer, answer)
        self.assertWrong("for no SUBMIT", self.conversation, self.SUBMIT, self.UNLINK, cancelled, answer)
        self.assertWrong("isn't in flight", self.conversation, self.SUBMIT, answer, self.UNLINK, cancelled)
        early = self.reply(RET_UNLINK, 2)
        self.assertWrong("which it hasn't", self.conversation, self.SUBMIT, self.UNLINK, early, answer)

    def test_lengths_and_fields_that_cant_be(self):
        side, data = self.reply(RET_SUBMIT, 1, data=bytes(4))
        self.assertWrong("51 bytes behind", self.conversation, self.SUBMIT, (side, data[:-1]))
        self.assertWrong("1 bytes behind", self.conversation, self.SUBMIT, (side, data + b"\0"))
        self.assertWrong("says a device", self.conversation, self.SUBMIT, (side, data[:11] + b"\1" + data[12:]))

    def test_what_tshark_finds(self):
        good = self.conversation(self.SUBMIT, self.reply(RET_SUBMIT, 1, data=bytes(4)))
        last = good.messages[-1]
        for wrong in (last.data[:40], last.data + last.data, last.data[:35] + b"\1" + last.data[36:]):
            good.exchanges[-1][-1] = last._replace(data=wrong)
            self.assertWrong("tshark", usbip_capture.compare, [good], 3240)

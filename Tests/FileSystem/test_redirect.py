# SPDX-License-Identifier: Apache-2.0
"""Mode redirect and a machine that means harm: whatever it says at a device's socket, it ends its own connection at
most. Another guest's device works all the time, and vusbd's memory is bounded."""

import os
import random
import re
import struct
import threading

from harness import Background, Case, Problem, until
from redirect import (ALLOCATE_STREAMS, ALTERNATE_STATUS, BULK, BULK_STATUS, CANCEL, CANCELLED, CONNECT, CONTROL,
                      DISCONNECT, INTERRUPT, INTERRUPT_STATUS, INVALID, IO_ERROR, ISO_STATUS, REJECT, RESET,
                      SET_ALTERNATE, START_BULK, START_INTERRUPT, START_ISO, STOP_BULK, STOP_INTERRUPT, STOP_ISO,
                      STREAMS_STATUS, SUCCESS, RedirectMachine)

MIB = 1 << 20


class Neighbour:
    """Another guest, which reads a pattern from its device until it's told to stop."""

    PACKET = bytes(i % 63 for i in range(512))

    def __init__(self, path):
        self.file = os.open(path, os.O_RDONLY)
        self.reads, self.is_over = 0, threading.Event()
        self.work = Background(self._read)

    def _read(self):
        while not self.is_over.is_set():
            if os.read(self.file, 65536) != self.PACKET * 128:
                raise AssertionError("the neighbour reads something else")
            self.reads += 1

    def end(self):
        self.is_over.set()
        try:
            self.work.result()
        finally:
            os.close(self.file)


class RedirectCase(Case):
    """A daemon with a guest whose machine the case plays, and a neighbour at work."""

    devices = ("zero,name=bad", "serial")

    def setUp(self):
        arguments = [word for one in (*self.devices, "zero,name=good,pattern=mod63") for word in ("--emulate", one)]
        self.vusbd = self.daemon(*arguments)
        self.machine = RedirectMachine(self.vusbd.directory)
        self.addCleanup(self.machine.close)
        self.vusbd.add_guest("vm1", **self.machine.fields)
        self.vusbd.wait(self.vusbd.ctl("POST", "/v1/guests/vm1/load", {"mode": "redirect"}))
        self.vusbd.add_guest("neighbour", devices=["emu-good"])
        self.vusbd.load("neighbour")
        # Of reasons that were looked at.
        self.count = 0
        self.neighbour = Neighbour(self.vusbd.endpoint("neighbour", "81"))
        self.addCleanup(self.end_well)

    def end_well(self):
        """The neighbour has worked, and vusbd ends as it should."""
        reads = self.neighbour.reads
        until(lambda: self.neighbour.reads > reads or not self.neighbour.work.is_running)
        self.neighbour.end()
        self.vusbd.until_in_flight(0)
        self.assertEqual(self.vusbd.stop(), 0, self.vusbd.log.read_text()[-2000:])

    def plug(self, device="emu-bad"):
        """Attaches it; returns the machine's side, which has said nothing yet."""
        self.attaching = self.vusbd.ctl("POST", self.vusbd.device_path(device, "/attach"), {"guest": "vm1"})
        peer = self.machine.peer()
        self.addCleanup(peer.close)
        return peer

    def greeted(self, device="emu-bad", **options):
        peer = self.plug(device)
        peer.greet(**options)
        self.vusbd.wait(self.attaching)
        return peer

    def unplugged(self, device="emu-bad"):
        """Waits until vusbd has taken the device back by itself."""
        until(lambda: self.state(device) == "available", lambda: f"{device} is {self.state(device)}")

    def state(self, device):
        return next(one["state"] for one in self.vusbd.ctl("GET", "/v1/devices") if one["id"] == device)

    def memory(self):
        """In bytes."""
        text = open(f"/proc/{self.vusbd.pid}/status").read()
        return int(re.search(r"VmRSS:\s*(\d+)", text)[1]) * 1024

    def reasons(self):
        """Why connections were closed, from the log."""
        return re.findall(r"cut off: ([^\"]*)\"", self.vusbd.log.read_text())

    def assertCutOff(self, peer, reason=".", device="emu-bad"):
        """The connection is closed, why is in the log, and the device is free again."""
        peer.until_closed()
        until(lambda: len(self.reasons()) > self.count, lambda: self.vusbd.log.read_text()[-2000:])
        self.count = len(self.reasons())
        self.assertRegex(self.reasons()[-1], reason)
        self.take_back(device)

    def take_back(self, device="emu-bad"):
        """vusbd would do so by itself, after a while."""
        try:
            self.vusbd.detach(device)
        except Problem:
            pass  # It has, or it was attached in vain.
        self.unplugged(device)

    def assertWorks(self, peer, number=0xFFFF):
        peer.raw(peer.descriptor(number))
        kind, answered, body = peer.until(CONTROL)
        self.assertEqual((answered, peer.status_of(kind, body), len(body)), (number, SUCCESS, 28))

    def asked(self, peer, packet, kind):
        """The status of the answer."""
        peer.raw(packet)
        kind, _, body = peer.until(kind)
        return peer.status_of(kind, body)


class BrokenForm(RedirectCase):
    """What isn't of the protocol ends the connection."""

    def test_noise_instead_of_a_hello(self):
        for seed in range(8):
            with self.subTest(seed=seed):
                peer = self.plug()
                noise = random.Random(seed)
                for _ in range(64):
                    if not peer.raw(noise.randbytes(noise.randrange(1, 4096))):
                        break
                self.assertCutOff(peer)

    def test_noise_after_a_hello(self):
        for seed in range(8):
            with self.subTest(seed=seed):
                peer = self.greeted()
                noise = random.Random(seed)
                for _ in range(64):
                    if not peer.raw(noise.randbytes(noise.randrange(1, 4096))):
                        break
                self.assertCutOff(peer)

    def test_pieces_of_messages_and_then_nothing(self):
        for cut in (1, 11, 12, 40):
            with self.subTest(cut=cut):
                peer = self.plug()
                peer.raw(peer.hello()[:cut])
                peer.close()
                self.unplugged()
        peer = self.greeted()
        peer.raw(peer.bulk(1, 0x02, 4096, bytes(100))[:-50])
        # It waits for the rest; who takes the device away doesn't.
        self.vusbd.detach("emu-bad")
        peer.until_closed()

    def test_lengths_that_nobody_has_memory_for(self):
        for length in (0xFFFF_FFFF, 0x8000_0000, 64 * MIB):
            with self.subTest(length=length):
                before = self.memory()
                peer = self.greeted()
                peer.raw(peer.packet(BULK, bytes(10), 1, length=length))
                self.assertCutOff(peer, "more than")
                self.assertLess(self.memory(), before + 16 * MIB)

    def test_lengths_that_dont_fit_the_kind(self):
        for kind, length in ((RESET, 5), (SET_ALTERNATE, 0), (CONTROL, 3), (START_ISO, 2), (CANCEL, 9), (99, 0)):
            with self.subTest(kind=kind, length=length):
                peer = self.greeted()
                peer.raw(peer.packet(kind, bytes(length), 1))
                self.assertCutOff(peer)

    def test_lengths_that_contradict_the_data(self):
        for packet in ("more data than it says", "less"):
            with self.subTest(packet):
                peer = self.greeted()
                said = 10 if packet == "less" else 1000
                peer.raw(peer.bulk(1, 0x02, said, bytes(100)))
                self.assertCutOff(peer)

    def test_streams_of_more_than_the_protocol_has(self):
        for kind, body in (
            (START_BULK, struct.pack("<IIBB", 0, 0xFFFF_FFFF, 0x81, 255)),
            (START_BULK, struct.pack("<IIBB", 0, 512, 0x02, 1)),
            (START_INTERRUPT, b"\x06"),
        ):
            with self.subTest(kind=kind, body=body):
                peer = self.greeted()
                peer.raw(peer.packet(kind, body, 1))
                self.assertCutOff(peer)

    def test_requests_before_the_hello(self):
        peer = self.plug()
        peer.raw(peer.descriptor(1))
        self.assertCutOff(peer)

    def test_an_id_that_is_in_flight(self):
        peer = self.greeted("emu-serial")
        peer.raw(peer.bulk(7, 0x81, 512) + peer.bulk(7, 0x81, 512))
        self.assertCutOff(peer, "transfer 7.*in flight", "emu-serial")

    def test_what_only_a_host_says(self):
        for kind, body in ((CONNECT, bytes(10)), (DISCONNECT, b""), (ISO_STATUS, bytes(2))):
            with self.subTest(kind=kind):
                peer = self.greeted()
                peer.raw(peer.packet(kind, body))
                self.assertCutOff(peer)

    def test_a_device_that_is_rejected(self):
        peer = self.greeted()
        peer.say(REJECT)
        peer.until_closed()
        self.unplugged()


class WrongRequests(RedirectCase):
    """What is well formed and can't be is answered, and the connection goes on."""

    def test_endpoints_that_arent_there(self):
        peer = self.greeted()
        for endpoint in (0x03, 0x8F, 0x0F, 0x00, 0x80, 0x71, 0xFF):
            data = b"" if endpoint & 0x80 else bytes(64)
            self.assertEqual(self.asked(peer, peer.bulk(1, endpoint, 64, data), BULK), INVALID, hex(endpoint))
            # An interrupt transfer IN can't be asked for: there are streams for it.
            if not endpoint & 0x80:
                self.assertEqual(self.asked(peer, peer.interrupt(2, endpoint, 64, data), INTERRUPT), INVALID)
        for endpoint in (0x05, 0x85, 0x70):
            data = b"" if endpoint & 0x80 else bytes(18)
            packet = peer.control(3, 0x80 & endpoint, 6, 0x0100, 0, 18, data, endpoint=endpoint)
            self.assertEqual(self.asked(peer, packet, CONTROL), INVALID, hex(endpoint))
        self.assertEqual(self.asked(peer, peer.bulk(4, 0x81, 512, stream=0xFFFF_FFFF), BULK), INVALID)
        self.assertWorks(peer)

    def test_streams_that_cant_be(self):
        peer = self.greeted()
        number = 0
        for endpoint in (0x81, 0x02, 0x00, 0x80, 0x8F, 0x83, 0xFF):
            packets = (
                (START_ISO, struct.pack("<BBB", endpoint, 255, 255), ISO_STATUS),
                (START_ISO, struct.pack("<BBB", endpoint, 0, 0), ISO_STATUS),
                (START_INTERRUPT, struct.pack("<B", endpoint), INTERRUPT_STATUS),
                (START_BULK, struct.pack("<IIBB", 0, 64 * MIB, endpoint, 255), BULK_STATUS),
                (START_BULK, struct.pack("<IIBB", 0xFFFF_FFFF, 512, endpoint, 1), BULK_STATUS),
                (START_BULK, struct.pack("<IIBB", 0, 0, endpoint, 0), BULK_STATUS),
                (ALLOCATE_STREAMS, struct.pack("<II", 1 << (endpoint & 31), 0xFFFF_FFFF), STREAMS_STATUS),
            )
            for kind, body, answer in packets:
                # Ahead is received only what comes in; else the form is wrong.
                if kind in (START_INTERRUPT, START_BULK) and not endpoint & 0x80:
                    continue
                number += 1
                status = self.asked(peer, peer.packet(kind, body, number), answer)
                self.assertEqual(status, INVALID, f"{kind} {endpoint:#x}")
        self.assertWorks(peer)

    def test_streams_of_a_wrong_size_on_the_right_endpoints(self):
        peer = self.greeted()
        for alternate, packets in (
            (1, [(START_ISO, struct.pack("<BBB", one, 255, 255), ISO_STATUS) for one in (0x83, 0x04)]),
            (1, [(START_ISO, struct.pack("<BBB", one, 0, 8), ISO_STATUS) for one in (0x83, 0x04)]),
            (2, [(START_INTERRUPT, struct.pack("<B", 0x81), INTERRUPT_STATUS)]),
            (2, [(START_BULK, struct.pack("<IIBB", 0, 512, 0x85, 4), BULK_STATUS)]),
        ):
            body = struct.pack("<BB", 0, alternate)
            self.assertEqual(self.asked(peer, peer.packet(SET_ALTERNATE, body, 1), ALTERNATE_STATUS), SUCCESS)
            for kind, body, answer in packets:
                self.assertEqual(self.asked(peer, peer.packet(kind, body, 2), answer), INVALID, body)
        self.assertWorks(peer)

    def test_packets_for_streams_that_arent_there(self):
        peer = self.greeted()
        for endpoint in (0x04, 0x02, 0x0F, 0x00):
            peer.raw(peer.iso(1, endpoint, 100, bytes(100)) * 50)
        for kind, body in ((STOP_ISO, b"\x04"), (STOP_INTERRUPT, b"\x85"), (STOP_BULK, struct.pack("<IB", 0, 0x81))):
            peer.raw(peer.packet(kind, body, 2))
        self.assertWorks(peer)

    def test_a_second_hello(self):
        peer = self.greeted()
        peer.raw(peer.hello(capabilities=0))
        self.assertWorks(peer)

    def test_settings_that_arent_there(self):
        peer = self.greeted()
        for interface, alternate in ((0, 9), (7, 0), (255, 255)):
            body = struct.pack("<BB", interface, alternate)
            self.assertNotEqual(self.asked(peer, peer.packet(SET_ALTERNATE, body, 1), ALTERNATE_STATUS), SUCCESS)
        self.assertWorks(peer)

    def test_cancels_of_what_isnt_there(self):
        peer = self.greeted("emu-serial")
        for number in (0, 1, 0xFFFF_FFFF_FFFF_FFFF):
            peer.raw(peer.packet(CANCEL, b"", number))
        peer.raw(peer.bulk(5, 0x81, 512) + peer.packet(CANCEL, b"", 5) * 3)
        kind, number, body = peer.until(BULK)
        self.assertEqual((number, peer.status_of(kind, body)), (5, CANCELLED))
        self.assertWorks(peer)

    def test_streams_started_and_stopped_without_end(self):
        peer = self.greeted()
        peer.raw(peer.packet(SET_ALTERNATE, struct.pack("<BB", 0, 1), 1))
        reading = Background(peer.until, CONTROL)
        for _ in range(300):
            peer.raw(peer.packet(START_ISO, struct.pack("<BBB", 0x83, 8, 8)) + peer.packet(STOP_ISO, b"\x83"))
        peer.raw(peer.descriptor(9))
        kind, number, body = reading.result()
        self.assertEqual((number, peer.status_of(kind, body)), (9, SUCCESS))
        self.vusbd.until_in_flight(0)

    def test_resets_and_settings_without_end(self):
        peer = self.greeted()
        reading = Background(peer.until, CONTROL)
        for number in range(200):
            peer.raw(peer.packet(RESET) + peer.packet(SET_ALTERNATE, struct.pack("<BB", 0, number % 3), number))
        peer.raw(peer.descriptor(9))
        self.assertEqual(reading.result()[1], 9)


class Order(RedirectCase):
    """QEMU takes an answer for the first of its endpoint's transfers, and ends itself where it isn't."""

    def numbers(self, peer, count):
        return [peer.until(BULK)[1] for _ in range(count)]

    def test_a_cut_answers_in_the_order_of_the_requests(self):
        peer = self.greeted("emu-serial")
        peer.raw(b"".join(peer.bulk(number, 0x81, 512) for number in range(1, 101)))
        self.vusbd.until_in_flight(100)
        self.vusbd.detach("emu-serial", onDeadline="cancel", deadlineSeconds=0)
        self.assertEqual(self.numbers(peer, 100), list(range(1, 101)))

    def test_an_unplug_and_a_reset_answer_in_the_order_of_the_requests(self):
        peer = self.greeted("emu-serial")
        peer.raw(b"".join(peer.bulk(number, 0x81, 512) for number in range(1, 101)))
        self.vusbd.until_in_flight(100)
        peer.raw(peer.packet(RESET))
        self.assertEqual(self.numbers(peer, 100), list(range(1, 101)))
        peer.raw(b"".join(peer.bulk(number, 0x81, 512) for number in range(101, 201)))
        self.vusbd.until_in_flight(100)
        self.vusbd.unplug("emu-serial")
        self.assertEqual(self.numbers(peer, 100), list(range(101, 201)))
        peer.until_closed()

    def test_a_refusal_waits_for_its_turn(self):
        peer = self.greeted("emu-serial")
        # As many as may be in flight at once, and more.
        count = 600
        peer.raw(b"".join(peer.bulk(number, 0x81, 512) for number in range(1, count + 1)))
        self.vusbd.until_in_flight(512)
        # Another endpoint's isn't held up.
        self.assertEqual(self.asked(peer, peer.bulk(9999, 0x0F, 1, b"x"), BULK), IO_ERROR)
        peer.raw(peer.packet(CANCEL, b"", 600))
        kind, number, body = peer.until(BULK)
        self.assertEqual((number, peer.status_of(kind, body)), (600, CANCELLED))
        peer.raw(b"".join(peer.packet(CANCEL, b"", number) for number in range(3, 513)))
        cancelled = self.numbers(peer, 510)
        self.assertEqual(cancelled, list(range(3, 513)))
        self.assertTrue(peer.is_silent(0.1))
        peer.raw(peer.packet(CANCEL, b"", 1) + peer.packet(CANCEL, b"", 2))
        self.assertEqual(self.numbers(peer, 89), [1, 2, *range(513, 600)])
        self.assertWorks(peer)


class TooMuch(RedirectCase):
    """More than a machine may have at once is refused, or waits in its own memory."""

    def test_a_peer_that_never_reads(self):
        before = self.memory()
        peer = self.greeted()
        peer.connection.settimeout(0.5)
        # Up to 64 GiB are asked for.
        for number in range(1, 65536):
            if not peer.raw(peer.bulk(number, 0x81, MIB)):
                break
        self.assertLess(number, 65535)
        self.assertLess(self.memory(), before + 64 * MIB, f"{number} requests were taken")
        # It isn't waited for.
        self.vusbd.detach("emu-bad", onDeadline="cancel", deadlineSeconds=0.5)
        peer.until_closed()

    def test_a_peer_that_never_reads_its_streams(self):
        before = self.memory()
        peer = self.greeted()
        peer.raw(peer.packet(START_BULK, struct.pack("<IIBB", 0, 512 << 10, 0x81, 32)))
        peer.raw(peer.packet(SET_ALTERNATE, struct.pack("<BB", 0, 1), 1))
        peer.raw(peer.packet(START_BULK, struct.pack("<IIBB", 0, 512 << 10, 0x81, 32)))
        peer.raw(peer.packet(START_ISO, struct.pack("<BBB", 0x83, 32, 32)))
        end = self.neighbour.reads + 2000
        until(lambda: self.neighbour.reads > end)
        self.assertLess(self.memory(), before + 64 * MIB)
        self.vusbd.detach("emu-bad", onDeadline="cancel", deadlineSeconds=0.5)
        peer.until_closed()

    def test_more_transfers_than_there_is_room_for(self):
        before = self.memory()
        peer = self.greeted("emu-serial")
        # None of them ends, so that no answer is sent.
        peer.raw(b"".join(peer.bulk(number, 0x81, 64 << 10) for number in range(1, 6001)))
        self.assertCutOff(peer, "more than 4096 transfers", "emu-serial")
        self.assertLess(self.memory(), before + 64 * MIB)

    def test_data_that_the_device_doesnt_take(self):
        """The serial adapter keeps 64 KiB and answers NAK beyond."""
        before = self.memory()
        peer = self.greeted("emu-serial")
        peer.connection.settimeout(1)
        data = bytes(4 * MIB)
        for number in range(1, 101):
            if not peer.raw(peer.bulk(number, 0x01, len(data), data)):
                break
        self.assertLess(self.memory(), before + 96 * MIB)
        self.vusbd.detach("emu-serial", onDeadline="cancel", deadlineSeconds=0.5)
        peer.until_closed()

    def test_a_flood_of_questions_that_nobody_reads_the_answers_of(self):
        before = self.memory()
        peer = self.greeted()
        peer.connection.settimeout(0.5)
        flood = peer.packet(START_INTERRUPT, b"\x0f") * 4096 + peer.packet(7) * 4096
        for _ in range(500):
            if not peer.raw(flood):
                break
        self.assertLess(self.memory(), before + 64 * MIB)
        self.vusbd.detach("emu-bad", onDeadline="cancel", deadlineSeconds=0.5)
        peer.until_closed()

    def test_connections_that_come_and_go(self):
        self.greeted().close()
        self.unplugged()
        descriptors = self.descriptors()
        for _ in range(20):
            self.greeted().close()
            self.take_back()
        until(lambda: self.descriptors() <= descriptors, lambda: f"{descriptors} files, then {self.descriptors()}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.vusbd.pid}/fd"))

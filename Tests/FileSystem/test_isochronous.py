# SPDX-License-Identifier: Apache-2.0
"""Isochronous endpoints: frames of header, table and packets."""

import errno
import os
import struct

from harness import LIMIT, SET_ZERO_ALTERNATE, Background, SharedDaemon


def decode(frame):
    """The header's failed packets and start frame, and the packets as (status, bytes)."""
    count, start, failed, zero = struct.unpack_from("<IIII", frame)
    assert zero == 0
    packets, position = [], 16 + 8 * count
    for index in range(count):
        length, status = struct.unpack_from("<Ii", frame, 16 + 8 * index)
        packets.append((status, frame[position : position + length]))
        position += length
    assert position == len(frame), "bytes behind the last packet"
    return failed, start, packets


def encode(packets, start=0, failed=0, statuses=None):
    statuses = statuses or [0] * len(packets)
    header = struct.pack("<IIII", len(packets), start, failed, 0)
    table = b"".join(struct.pack("<Ii", len(data), status) for data, status in zip(packets, statuses))
    return header + table + b"".join(packets)


class Isochronous(SharedDaemon):
    arguments = ["--emulate", "zero,name=zeros", "--emulate", "zero,name=pattern,pattern=mod63"]
    guests = {"web1": {"devices": ["emu-zeros"]}, "web2": {"devices": ["emu-pattern"]}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for guest in cls.guests:
            file = os.open(cls.vusbd.endpoint(guest, "00"), os.O_RDWR)
            os.write(file, SET_ZERO_ALTERNATE[1])
            os.close(file)

    def open_in(self, guest="web1"):
        return self.open(self.vusbd.endpoint(guest, "83"), os.O_RDONLY)

    def open_out(self):
        return self.open(self.vusbd.endpoint("web1", "04"), os.O_WRONLY)

    def test_alternate_setting_1_has_the_pair(self):
        listing = os.listdir(self.vusbd.guest("web1", "devices", "1-1", "ep"))
        self.assertEqual(set(listing), {"00", "81", "02", "83", "04"})

    def test_a_read_asks_for_as_many_packets_as_fit(self):
        file = self.open_in()
        # A packet of 1,024 bytes takes 1,032 with its entry; the header is 16.
        for size, count in ((1048, 1), (2079, 1), (2080, 2), (16 + 8 * 1032, 8)):
            failed, _, packets = decode(os.read(file, size))
            self.assertEqual((failed, packets), (0, [(0, bytes(1024))] * count))

    def test_at_most_128_packets(self):
        _, _, packets = decode(os.read(self.open_in(), LIMIT))
        self.assertEqual(len(packets), 128)

    def test_too_small_for_one_packet(self):
        file = self.open_in()
        for size in (1, 15, 16, 1047):
            self.assertErrno(errno.EINVAL, os.read, file, size)

    def test_the_pattern_is_in_each_packet(self):
        packet = bytes(i % 63 for i in range(1024))
        _, _, packets = decode(os.read(self.open_in("web2"), 16 + 4 * 1032))
        self.assertEqual(packets, [(0, packet)] * 4)

    def test_frames_follow_one_another(self):
        file = self.open_in()
        starts = [decode(os.read(file, 2080))[1] for _ in range(4)]
        # In microframes; two packets of a millisecond each.
        steps = [(b - a) & 0xFFFFFFFF for a, b in zip(starts, starts[1:])]
        self.assertTrue(all(step >= 16 for step in steps), starts)

    def test_a_write_of_packets_of_different_sizes(self):
        file = self.open_out()
        for packets in ([b"x"], [b"a" * 1024, b"", b"b" * 100], [b"c" * 1024] * 8):
            frame = encode(packets)
            self.assertEqual(os.write(file, frame), len(frame))

    def test_a_large_write(self):
        frame = encode([b"d" * 1024] * 64)
        self.assertEqual(os.write(self.open_out(), frame), len(frame))

    def test_frames_that_are_none(self):
        good = encode([b"x" * 100, b"y" * 100])
        bad = {
            "empty": good[:15],
            "header only": good[:16],
            "half a table": good[:24],
            "too short": good[:-1],
            "too long": good + b"z",
            "no packets": struct.pack("<IIII", 0, 0, 0, 0),
            "129 packets": encode([b"x"] * 129),
            "2^32-1 packets": struct.pack("<IIII", 0xFFFFFFFF, 0, 0, 0) + bytes(4096),
            "start frame": encode([b"x"], start=1),
            "failed": encode([b"x"], failed=1),
            "reserved": struct.pack("<IIII", 1, 0, 0, 1) + struct.pack("<Ii", 1, 0) + b"x",
            "status": encode([b"x"], statuses=[-71]),
            "packet above the endpoint's": encode([b"x" * 1025]),
            "lengths that overflow": struct.pack("<IIIIIiIi", 2, 0, 0, 0, 0xFFFFFFFF, 0, 201, 0) + bytes(200),
        }
        file = self.open_out()
        before = self.vusbd.ctl("GET", "/v1/guests/web1")["attachments"][0]["urbs"]
        for name, frame in bad.items():
            with self.subTest(name):
                self.assertErrno(errno.EINVAL, os.write, file, frame)
        self.assertEqual(self.vusbd.ctl("GET", "/v1/guests/web1")["attachments"][0]["urbs"], before)
        self.assertEqual(os.write(file, good), len(good))

    def test_reading_and_writing_at_once(self):
        def read():
            file = os.open(self.vusbd.endpoint("web1", "83"), os.O_RDONLY)
            for _ in range(10):
                assert len(decode(os.read(file, 16 + 8 * 1032))[2]) == 8
            os.close(file)

        def write():
            file = os.open(self.vusbd.endpoint("web1", "04"), os.O_WRONLY)
            frame = encode([b"w" * 1024] * 8)
            for _ in range(10):
                assert os.write(file, frame) == len(frame)
            os.close(file)

        for work in [Background(call) for call in (read, write, read, write)]:
            work.result()

# SPDX-License-Identifier: Apache-2.0
"""ep/00: control transfers by file."""

import errno
import os
import struct
import subprocess

from harness import Background, SharedDaemon, get_descriptor, setup


class ControlFile(SharedDaemon):
    arguments = ["--emulate", "zero,name=zero", "--emulate", "serial"]
    guests = {"web1": {"devices": ["emu-zero"]}, "web2": {"devices": ["emu-serial"]}}

    def setUp(self):
        self.control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)

    def test_in_transfer_is_a_write_and_a_read(self):
        os.write(self.control, get_descriptor(1, 18))
        data = os.read(self.control, 18)
        self.assertEqual((data[0], data[1], data[8:12]), (18, 1, struct.pack("<HH", 0x0525, 0xA4A0)))

    def test_end_of_file_comes_once_after_the_data(self):
        os.write(self.control, get_descriptor(1, 18))
        self.assertEqual(len(os.read(self.control, 64)), 18)
        self.assertEqual(os.read(self.control, 64), b"")
        self.assertErrno(errno.EINVAL, os.read, self.control, 64)

    def test_cat_ends(self):
        script = 'exec 3<>"$1" && printf "\\200\\006\\000\\001\\000\\000\\022\\000" >&3 && cat <&3 | wc -c'
        result = subprocess.run(
            ["sh", "-c", script, "sh", self.vusbd.endpoint("web1", "00")],
            capture_output=True,
            text=True,
            timeout=20,
        )
        self.assertEqual((result.stdout.strip(), result.stderr), ("18", ""))

    def test_read_without_a_setup_packet(self):
        self.assertErrno(errno.EINVAL, os.read, self.control, 64)

    def test_fewer_than_eight_bytes(self):
        for size in range(1, 8):
            self.assertErrno(errno.EINVAL, os.write, self.control, get_descriptor(1, 18)[:size])
        self.assertErrno(errno.EINVAL, os.read, self.control, 64)

    def test_out_transfer_carries_its_data(self):
        data = bytes(range(256)) * 16
        # The gadget keeps what 0x5b sends and returns it to 0x5c.
        self.assertEqual(os.write(self.control, setup(0x40, 0x5B, length=4096) + data), 8 + 4096)
        self.assertEqual(self.transfer_in(self.control, setup(0xC0, 0x5C, length=4096)), data)

    def test_out_with_too_few_or_too_many_data(self):
        packet = setup(0x40, 0x5B, length=16)
        for data in (b"", b"x" * 15, b"x" * 17, b"x" * 70000):
            self.assertErrno(errno.EINVAL, os.write, self.control, packet + data)
        self.assertEqual(os.write(self.control, packet + b"x" * 16), 24)

    def test_in_with_anything_behind_it(self):
        self.assertErrno(errno.EINVAL, os.write, self.control, get_descriptor(1, 18) + b"x")

    def test_out_without_data_is_eight_bytes(self):
        self.assertEqual(os.write(self.control, setup(0x01, 0x0B)), 8)

    def test_without_a_data_stage_the_write_carries_it_out(self):
        # USB 2.0, 9.3.1: the direction bit means nothing where wLength is 0.
        self.assertEqual(os.write(self.control, get_descriptor(1, 0)), 8)
        self.assertErrno(errno.EINVAL, os.read, self.control, 64)

    def test_length_65535(self):
        os.write(self.control, get_descriptor(2, 65535))
        self.assertErrno(errno.EMSGSIZE, os.read, self.control, 65534)
        # The setup packet stayed.
        data = os.read(self.control, 65535)
        self.assertEqual(len(data), struct.unpack_from("<H", data, 2)[0])
        self.assertErrno(errno.EPIPE, os.write, self.control, setup(0x40, 0x5B, length=65535) + bytes(65535))

    def test_stall_is_epipe_and_endpoint_zero_goes_on(self):
        os.write(self.control, setup(0xC0, 0x99, length=4))
        self.assertErrno(errno.EPIPE, os.read, self.control, 4)
        self.assertErrno(errno.EPIPE, os.write, self.control, setup(0x40, 0x99))
        self.assertEqual(len(self.transfer_in(self.control, get_descriptor(1, 18))), 18)

    def test_a_new_setup_packet_replaces_one_that_waits(self):
        os.write(self.control, get_descriptor(1, 18))
        os.write(self.control, get_descriptor(2, 9))
        self.assertEqual(os.read(self.control, 64)[1], 2)

    def test_each_opener_has_its_own(self):
        other = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        os.write(self.control, get_descriptor(1, 18))
        self.assertErrno(errno.EINVAL, os.read, other, 64)
        os.write(other, get_descriptor(2, 9))
        self.assertEqual(os.read(self.control, 64)[1], 1)
        self.assertEqual(os.read(other, 64)[1], 2)

    def test_set_address_is_answered_and_goes_no_further(self):
        before = self.vusbd.ctl("GET", "/v1/guests/web1")["attachments"][0]["urbs"]
        self.assertEqual(os.write(self.control, setup(0x00, 5, 42)), 8)
        self.assertEqual(len(self.transfer_in(self.control, get_descriptor(1, 18))), 18)
        self.assertEqual(self.vusbd.ctl("GET", "/v1/guests/web1")["attachments"][0]["urbs"], before + 1)

    def test_settings_that_there_are_not_stall(self):
        for packet in (setup(0x00, 9, 2), setup(0x01, 11, 3, 0), setup(0x01, 11, 0, 1), setup(0x02, 1, 0, 0x8F)):
            self.assertErrno(errno.EPIPE, os.write, self.control, packet)

    def test_get_interface_follows_set_interface(self):
        for alternate in (1, 2, 0):
            os.write(self.control, setup(0x01, 0x0B, alternate))
            self.assertEqual(self.transfer_in(self.control, setup(0x81, 0x0A, length=1)), bytes([alternate]))

    def test_strings(self):
        data = self.transfer_in(self.control, setup(0x80, 6, 3 << 8, 0, 255))
        language = struct.unpack_from("<H", data, 2)[0]
        device = self.transfer_in(self.control, get_descriptor(1, 18))
        text = self.transfer_in(self.control, setup(0x80, 6, 3 << 8 | device[15], language, 255))
        product = text[2:].decode("utf-16-le")
        self.assertEqual(self.vusbd.guest("web1", "devices", "1-1", "product").read_text(), product + "\n")

    def test_many_openers_at_once(self):
        def work():
            file = os.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
            for kind, size in ((1, 18), (2, 9)) * 25:
                os.write(file, get_descriptor(kind, size))
                data = os.read(file, size)
                assert (len(data), data[1]) == (size, kind), data
            os.close(file)

        for thread in [Background(work) for _ in range(8)]:
            thread.result()

    def test_class_requests_reach_the_device(self):
        control = self.open(self.vusbd.endpoint("web2", "00"), os.O_RDWR)
        coding = struct.pack("<IBBB", 115200, 0, 0, 8)
        self.assertEqual(os.write(control, setup(0x21, 0x20, length=7) + coding), 15)
        self.assertEqual(self.transfer_in(control, setup(0xA1, 0x21, length=7)), coding)
        # DTR, and its echo as a notification: SERIAL_STATE.
        notifications = self.open(self.vusbd.endpoint("web2", "82"), os.O_RDONLY)
        os.write(control, setup(0x21, 0x22, 1))
        self.assertEqual(os.read(notifications, 10), bytes([0xA1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0]))

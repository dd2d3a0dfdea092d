# SPDX-License-Identifier: Apache-2.0
"""Endpoint files with blocking reads and writes: one call is one URB."""

import collections
import errno
import os
import struct
import subprocess
import threading

from harness import LIMIT, ROOT, SET_ZERO_ALTERNATE, Background, SharedDaemon, setup, until


class Zero(SharedDaemon):
    arguments = ["--emulate", "zero,name=zeros", "--emulate", "zero,name=pattern,pattern=mod63"]
    guests = {"web1": {"devices": ["emu-zeros"]}, "web2": {"devices": ["emu-pattern"]}}

    def counted(self, guest):
        return self.vusbd.ctl("GET", f"/v1/guests/{guest}")["attachments"][0]

    def test_one_read_is_one_urb_of_its_size(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        before = self.counted("web1")
        for size in (512, 65536, LIMIT):
            self.assertEqual(os.read(file, size), bytes(size))
        after = self.counted("web1")
        self.assertEqual(after["urbs"] - before["urbs"], 3)
        self.assertEqual(after["bytesIn"] - before["bytesIn"], 512 + 65536 + LIMIT)

    def test_one_write_is_one_urb_of_its_size(self):
        file = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        before = self.counted("web1")
        # Below and above the size from which the request's own buffer is kept; odd sizes too.
        for size in (1, 511, 32768, 32769, 262144, LIMIT):
            self.assertEqual(os.write(file, b"x" * size), size)
        after = self.counted("web1")
        self.assertEqual(after["urbs"] - before["urbs"], 6)
        self.assertEqual(after["bytesOut"] - before["bytesOut"], 1 + 511 + 32768 + 32769 + 262144 + LIMIT)

    def test_gathered_pieces_are_one_urb(self):
        file = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        before = self.counted("web1")
        self.assertEqual(os.writev(file, [b"head", b"x" * 5000, b"tail"]), 5008)
        self.assertEqual(self.counted("web1")["urbs"] - before["urbs"], 1)

    def test_the_kernel_cuts_what_is_gathered_from_more_than_256_pieces(self):
        # As documented: a request takes 256 pages of the caller, and each piece is at least one.
        file = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        for pieces, urbs in ((256, 1), (257, 2)):
            before = self.counted("web1")
            self.assertEqual(os.writev(file, [b"x"] * pieces), pieces)
            self.assertEqual(self.counted("web1")["urbs"] - before["urbs"], urbs)

    def test_scattered_pieces_are_one_urb(self):
        file = self.open(self.vusbd.endpoint("web2", "81"), os.O_RDONLY)
        before = self.counted("web2")
        pieces = [bytearray(100), bytearray(412), bytearray(512)]
        self.assertEqual(os.readv(file, pieces), 1024)
        self.assertEqual(b"".join(pieces), bytes(i % 63 for i in range(512)) * 2)
        self.assertEqual(self.counted("web2")["urbs"] - before["urbs"], 1)

    def test_the_pattern_arrives_unchanged(self):
        file = self.open(self.vusbd.endpoint("web2", "81"), os.O_RDONLY)
        packet = bytes(i % 63 for i in range(512))
        for packets in (1, 8, 100, LIMIT // 512):
            self.assertEqual(os.read(file, 512 * packets), packet * packets)

    def test_a_written_pattern_arrives_unchanged(self):
        file = self.open(self.vusbd.endpoint("web2", "02"), os.O_WRONLY)
        packet = bytes(i % 63 for i in range(512))
        for packets in (1, 64, 65, LIMIT // 512):
            self.assertEqual(os.write(file, packet * packets), 512 * packets)

    def test_larger_than_allowed_is_refused_whole(self):
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        writer = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        before = self.counted("web1")
        # The kernel cuts a request at 1 MiB: also there nothing may be half done.
        for size in (LIMIT + 1, 1 << 20, (1 << 20) + 1, 3 << 20):
            self.assertErrno(errno.EMSGSIZE, os.read, reader, size)
            self.assertErrno(errno.EMSGSIZE, os.write, writer, bytes(size))
        self.assertEqual(self.counted("web1"), before)

    def test_reads_and_writes_of_nothing(self):
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        writer = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        self.assertEqual(os.read(reader, 0), b"")
        self.assertEqual(os.write(writer, b""), 0)

    def test_offsets_mean_nothing_and_there_is_no_position(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.assertErrno(errno.ESPIPE, os.lseek, file, 0, os.SEEK_SET)
        for _ in range(3):
            self.assertEqual(len(os.read(file, 512)), 512)

    def test_babble_is_eoverflow(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        # It always sends full packets of 512 bytes.
        self.assertErrno(errno.EOVERFLOW, os.read, file, 100)

    def test_halted_endpoint_is_epipe_until_it_is_cleared(self):
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        writer = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)
        os.write(control, setup(0x02, 3, 0, 0x81))  # SET_FEATURE(ENDPOINT_HALT)
        for _ in range(2):
            self.assertErrno(errno.EPIPE, os.read, reader, 512)
        self.assertEqual(os.write(writer, b"x"), 1)
        self.assertEqual(self.transfer_in(control, setup(0x82, 0, 0, 0x81, 2)), b"\1\0")  # GET_STATUS
        os.write(control, setup(0x02, 1, 0, 0x81))  # CLEAR_FEATURE(ENDPOINT_HALT)
        self.assertEqual(self.transfer_in(control, setup(0x82, 0, 0, 0x81, 2)), b"\0\0")
        self.assertEqual(len(os.read(reader, 512)), 512)

    def test_set_interface_changes_what_is_in_ep(self):
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        listing = self.vusbd.guest("web1", "devices", "1-1", "ep")
        os.write(control, SET_ZERO_ALTERNATE[2])
        self.addCleanup(lambda: os.write(control, SET_ZERO_ALTERNATE[0]))
        self.assertEqual(set(os.listdir(listing)), {"00", "81", "02", "85", "06"})
        file = self.open(self.vusbd.endpoint("web1", "85"), os.O_RDONLY)
        self.assertEqual(os.read(file, 1024), bytes(1024))
        os.write(control, SET_ZERO_ALTERNATE[0])
        self.assertEqual(set(os.listdir(listing)), {"00", "81", "02"})
        # Who has it open learns that it is no more.
        self.assertErrno(errno.ENOENT, os.read, file, 1024)
        self.assertErrno(errno.ENOENT, os.stat, self.vusbd.endpoint("web1", "85"))
        os.write(control, SET_ZERO_ALTERNATE[2])
        self.assertEqual(os.read(file, 1024), bytes(1024))

    def test_unconfigured_device_has_only_endpoint_zero(self):
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        device = self.vusbd.guest("web1", "devices", "1-1")
        self.addCleanup(lambda: os.write(control, setup(0x00, 9, 1)))
        os.write(control, setup(0x00, 9, 0))
        self.assertEqual(os.listdir(device / "ep"), ["00"])
        self.assertEqual((device / "bConfigurationValue").read_bytes(), b"")
        os.write(control, setup(0x00, 9, 1))
        self.assertEqual(set(os.listdir(device / "ep")), {"00", "81", "02"})
        self.assertEqual((device / "bConfigurationValue").read_text(), "1\n")

    def test_a_shells_redirection_works(self):
        path = self.vusbd.endpoint("web1", "02")
        script = 'printf hello > "$1" && printf again >> "$1" && head -c 512 < "$2" | wc -c'
        result = subprocess.run(
            ["sh", "-c", script, "sh", path, self.vusbd.endpoint("web1", "81")],
            capture_output=True,
            text=True,
            timeout=20,
        )
        self.assertEqual((result.returncode, result.stdout.strip(), result.stderr), (0, "512", ""))
        os.truncate(path, 0)

    def test_wrong_direction_is_refused(self):
        # Root passes permissions; the file itself refuses.
        reader = self.open(self.vusbd.endpoint("web1", "02"), os.O_RDWR)
        self.assertErrno(errno.EBADF, os.read, reader, 512)
        writer = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDWR)
        self.assertErrno(errno.EBADF, os.write, writer, b"x")

    def test_no_ioctl_does_anything(self):
        import fcntl

        file = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        for number in (0x8038550A, 0xC0185500, 0x5514):  # USBDEVFS_SUBMITURB, USBDEVFS_CONTROL, USBDEVFS_RESET
            with self.assertRaises(OSError):
                fcntl.ioctl(file, number, bytearray(64))


class Serial(SharedDaemon):
    arguments = ["--emulate", "serial"]
    guests = {"web1": {"devices": ["emu-serial"]}}

    def setUp(self):
        self.reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)

    def test_an_echo(self):
        self.assertEqual(os.write(self.writer, b"hello\n"), 6)
        self.assertEqual(os.read(self.reader, 512), b"hello\n")

    def test_a_short_packet_ends_a_read(self):
        os.write(self.writer, b"x" * 700)
        self.assertEqual(os.read(self.reader, 4096), b"x" * 700)

    def test_a_full_packet_is_followed_by_an_empty_one(self):
        os.write(self.writer, b"y" * 512)
        self.assertEqual(os.read(self.reader, 512), b"y" * 512)
        self.assertEqual(os.read(self.reader, 512), b"")

    def test_a_read_waits_for_data(self):
        waiting = Background(os.read, self.reader, 512)
        self.vusbd.until_in_flight(1)
        self.assertTrue(waiting.is_running)
        os.write(self.writer, b"now")
        self.assertEqual(waiting.result(), b"now")

    def test_a_change_of_settings_ends_what_waits_with_eshutdown(self):
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        waiting = [Background(os.read, self.reader, 512) for _ in range(2)]
        self.vusbd.until_in_flight(2)
        os.write(control, setup(0x00, 9, 1))  # SET_CONFIGURATION
        for reader in waiting:
            self.assertErrno(errno.ESHUTDOWN, reader.result)
        os.write(self.writer, b"configured anew")
        self.assertEqual(os.read(self.reader, 512), b"configured anew")

    def test_eight_writers_and_eight_readers_lose_no_byte(self):
        rounds, writers = 40, 8
        # Records of 8 bytes: 64 of them fill a packet, so none is cut by a read of whole packets.
        sent, got, lock = collections.Counter(), collections.Counter(), threading.Lock()
        total = rounds * writers * 512
        for number in range(writers):
            for turn in range(rounds):
                for record in range(64):
                    sent[struct.pack("<HHI", number, turn, record)] += 1
        seen = 0
        done = threading.Event()

        def write(number):
            file = os.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
            for turn in range(rounds):
                data = b"".join(struct.pack("<HHI", number, turn, record) for record in range(64))
                assert os.write(file, data) == 512
            os.close(file)

        def read():
            nonlocal seen
            file = os.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
            while not done.is_set():
                data = os.read(file, 4096)
                with lock:
                    seen += len(data)
                    got.update(data[i : i + 8] for i in range(0, len(data), 8))
                    if seen >= total:
                        done.set()
            os.close(file)

        readers = [Background(read) for _ in range(8)]
        for writer in [Background(write, number) for number in range(writers)]:
            writer.result()
        until(done.is_set, lambda: f"{seen} of {total} bytes")
        # Those that wait for more than there was.
        for _ in range(len(readers) + 1):
            if any(reader.is_running for reader in readers):
                os.write(self.writer, b"end")
        for reader in readers:
            reader.result()
        for key in [key for key in got if key not in sent]:
            del got[key]
        self.assertEqual(got, sent)
        self.drain()

    def drain(self):
        os.set_blocking(self.reader, False)
        try:
            while os.read(self.reader, 65536):
                pass
        except BlockingIOError:
            pass

    def test_bytes_of_one_writer_keep_their_order(self):
        chunks = [bytes([n % 256]) * (n % 700 + 1) for n in range(200)]
        expected = b"".join(chunks)

        def read():
            data = b""
            while len(data) < len(expected):
                data += os.read(self.reader, 4096)
            return data

        reader = Background(read)
        for chunk in chunks:
            os.write(self.writer, chunk)
        self.assertEqual(reader.result(), expected)
        self.drain()

    def test_a_file_that_one_thread_closes_while_another_reads(self):
        # Linux keeps the file until the read returns: close() doesn't wait, and the read goes on.
        file = os.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        self.vusbd.until_in_flight(1)
        Background(os.close, file).result()
        self.assertTrue(reader.is_running)
        os.write(self.writer, b"late")
        self.assertEqual(reader.result(), b"late")

    def test_writes_wait_while_the_echo_is_full(self):
        # It keeps 64 KiB that nobody has read.
        os.write(self.writer, bytes(65536))
        waiting = Background(os.write, self.writer, b"more")
        self.vusbd.until_in_flight(1)
        data = b""
        while len(data) < 65536 + 4:
            data += os.read(self.reader, 65536)
        self.assertEqual(waiting.result(), 4)
        self.assertEqual(data[-4:], b"more")
        self.drain()


class Keyboard(SharedDaemon):
    arguments = ["--emulate", "keyboard"]
    guests = {"web1": {"devices": ["emu-keyboard"]}}

    def test_typed_text_arrives_as_reports(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        result = self.vusbd.vusbctl("type", "emu-keyboard", "aB1\n")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        reports = [os.read(file, 8) for _ in range(8)]
        # HID usages: a is 4, b 5, 1 is 0x1e, Enter 0x28; left shift is bit 1 of the first byte.
        pressed = [bytes([0, 0, 4]), bytes([2, 0, 5]), bytes([0, 0, 0x1E]), bytes([0, 0, 0x28])]
        self.assertEqual(reports[::2], [report + bytes(5) for report in pressed])
        self.assertEqual(reports[1::2], [bytes(8)] * 4)

    def test_a_read_waits_for_a_key(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 8)
        self.vusbd.until_in_flight(1)
        self.vusbd.ctl("POST", "/v1/devices/emu-keyboard/type", {"text": "z"})
        self.assertEqual(reader.result(), bytes([0, 0, 0x1D, 0, 0, 0, 0, 0]))
        self.assertEqual(os.read(file, 8), bytes(8))

    def test_a_read_smaller_than_a_report_is_babble(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.vusbd.ctl("POST", "/v1/devices/emu-keyboard/type", {"text": "q"})
        self.assertErrno(errno.EOVERFLOW, os.read, file, 7)
        self.assertEqual(os.read(file, 8)[2], 0x14)
        self.assertEqual(os.read(file, 8), bytes(8))


class Disk(SharedDaemon):
    """A FAT file system that mkfs.vfat made, through bulk-only commands (Bulk-Only Transport 1.0) in plain file I/O."""

    @classmethod
    def setUpClass(cls):
        cls.image = ROOT / "disk.img"
        with open(cls.image, "wb") as file:
            file.truncate(4 << 20)
        subprocess.run(["mkfs.vfat", "-n", "VUSB", cls.image], check=True, capture_output=True)
        content = ROOT / "content.txt"
        content.write_bytes(bytes(range(256)) * 40)
        subprocess.run(["mcopy", "-i", cls.image, content, "::CONTENT.TXT"], check=True, capture_output=True)
        cls.arguments = ["--emulate", f"disk={cls.image}"]
        cls.guests = {"web1": {"devices": ["emu-disk"]}}
        super().setUpClass()

    def setUp(self):
        self.reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.writer = self.open(self.vusbd.endpoint("web1", "02"), os.O_WRONLY)

    def command(self, block, length=0, data=None):
        """Returns the data and the status byte."""
        flags = 0 if data is not None else 0x80
        os.write(self.writer, struct.pack("<4sIIBBB16s", b"USBC", 7, length, flags, 0, len(block), block))
        answer = b""
        if data is not None:
            os.write(self.writer, data)
        while data is None and len(answer) < length:
            answer += os.read(self.reader, min(length - len(answer), LIMIT))
        signature, tag, residue, status = struct.unpack("<4sIIB", os.read(self.reader, 13))
        self.assertEqual((signature, tag), (b"USBS", 7))
        return answer, status

    def read_blocks(self, first, count):
        data, status = self.command(struct.pack(">BBIBHB", 0x28, 0, first, 0, count, 0), count * 512)
        self.assertEqual(status, 0)
        return data

    def test_a_sector_is_that_of_the_image(self):
        self.assertEqual(self.read_blocks(0, 1), self.image.read_bytes()[:512])

    def test_the_whole_image_is_equal(self):
        image = self.image.read_bytes()
        # Reads of the largest transfer.
        blocks = LIMIT // 512
        read = b"".join(self.read_blocks(first, blocks) for first in range(0, len(image) // 512, blocks))
        self.assertEqual(read, image)
        self.assertIn(bytes(range(256)) * 2, read)

    def test_a_written_sector_is_in_the_image(self):
        last = (4 << 20) // 512 - 1
        text = b"written through /vusb".ljust(512, b".")
        _, status = self.command(struct.pack(">BBIBHB", 0x2A, 0, last, 0, 1, 0), 512, text)
        self.assertEqual(status, 0)
        _, status = self.command(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0))  # SYNCHRONIZE CACHE
        self.assertEqual(status, 0)
        self.assertEqual(self.image.read_bytes()[-512:], text)

    def test_inquiry_and_capacity(self):
        data, status = self.command(bytes([0x12, 0, 0, 0, 36, 0]), 36)
        self.assertEqual((len(data), status, data[0]), (36, 0, 0))
        data, status = self.command(bytes([0x25] + [0] * 9), 8)
        self.assertEqual(struct.unpack(">II", data), ((4 << 20) // 512 - 1, 512))

    def test_a_broken_command_stalls_until_the_reset_recovery(self):
        os.write(self.writer, b"not a command block wrapper")
        self.assertErrno(errno.EPIPE, os.read, self.reader, 13)
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        # Reset recovery, 5.3.4: mass storage reset, then clear both halts.
        os.write(control, setup(0x21, 0xFF))
        os.write(control, setup(0x02, 1, 0, 0x81))
        os.write(control, setup(0x02, 1, 0, 0x02))
        self.assertEqual(self.read_blocks(0, 1), self.image.read_bytes()[:512])

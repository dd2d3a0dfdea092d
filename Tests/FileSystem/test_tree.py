# SPDX-License-Identifier: Apache-2.0
"""The tree: what is there, how it is named and formatted, and how it follows what happens."""

import errno
import json
import os
import select
import stat
import subprocess

from harness import LIMIT, Background, SharedDaemon, get_descriptor, set_nonblocking


class Tree(SharedDaemon):
    arguments = ["--emulate", "zero,name=zero,serial=ABC123"]
    guests = {"web1": {"devices": ["emu-zero"]}}

    def read(self, *parts):
        return self.vusbd.guest("web1", *parts).read_text()

    def test_top_has_devices_and_guests(self):
        self.assertEqual(set(os.listdir(self.vusbd.mount)), {"devices", "guests"})
        self.assertIn("emu-zero", os.listdir(self.vusbd.mount / "devices"))
        self.assertIn("web1", os.listdir(self.vusbd.mount / "guests"))

    def test_loaded_guest_has_its_device(self):
        names = {"state", "events", "clock", "dev", "devices", "sys"}
        self.assertEqual(set(os.listdir(self.vusbd.guest("web1"))), names)
        self.assertEqual(os.listdir(self.vusbd.guest("web1", "devices")), ["1-1"])
        self.assertEqual(set(os.listdir(self.vusbd.guest("web1", "devices", "1-1", "ep"))), {"00", "81", "02"})

    def test_attributes_are_formatted_as_in_sysfs(self):
        # drivers/usb/core/sysfs.c: two digits for the versions and the number of interfaces, padded with blanks.
        expected = {
            "idVendor": "0525\n", "idProduct": "a4a0\n", "bDeviceClass": "ff\n", "bDeviceSubClass": "00\n",
            "bDeviceProtocol": "00\n", "bMaxPacketSize0": "64\n", "bNumConfigurations": "1\n",
            "bConfigurationValue": "1\n", "bNumInterfaces": " 1\n", "bMaxPower": "2mA\n", "version": " 2.00\n",
            "speed": "480\n", "serial": "ABC123\n", "busnum": "1\n", "devnum": "2\n", "dev": "512:1\n",
        }
        for name, text in expected.items():
            self.assertEqual(self.read("devices", "1-1", name), text, name)
        for name in ("manufacturer", "product", "bcdDevice", "bmAttributes"):
            self.assertRegex(self.read("devices", "1-1", name), r"\A[^\n]+\n\Z")

    def test_text_attributes_have_a_page_and_descriptors_their_size(self):
        device = self.vusbd.guest("web1", "devices", "1-1")
        self.assertEqual((device / "idVendor").stat().st_size, 4096)
        self.assertEqual((device / "descriptors").stat().st_size, len((device / "descriptors").read_bytes()))

    def test_descriptors_are_what_the_device_says(self):
        data = self.vusbd.guest("web1", "devices", "1-1", "descriptors").read_bytes()
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        device = self.transfer_in(control, get_descriptor(1, 18))
        configuration = self.transfer_in(control, get_descriptor(2, 4096))
        self.assertEqual(data, device + configuration)

    def test_attribute_can_be_read_in_pieces(self):
        path = self.vusbd.guest("web1", "devices", "1-1", "idVendor")
        file = self.open(path, os.O_RDONLY)
        self.assertEqual(os.read(file, 2) + os.read(file, 2), b"0525")
        self.assertEqual(os.pread(file, 100, 1), b"525\n")
        self.assertEqual(os.pread(file, 100, 5), b"")
        self.assertEqual(os.pread(file, 100, 1 << 40), b"")

    def test_attributes_cannot_be_written(self):
        file = self.vusbd.guest("web1", "devices", "1-1", "idVendor")
        self.assertEqual(stat.S_IMODE(file.stat().st_mode) & 0o222, 0)
        # Root passes permissions: the write itself is refused.
        opened = self.open(file, os.O_WRONLY)
        self.assertErrno(errno.EBADF, os.write, opened, b"1")

    def test_nothing_can_be_made_removed_or_renamed(self):
        directory = self.vusbd.guest("web1")
        for call in (
            lambda: os.mkdir(directory / "new"),
            lambda: os.open(directory / "new", os.O_CREAT | os.O_WRONLY),
            lambda: os.unlink(directory / "state"),
            lambda: os.rmdir(directory / "devices"),
            lambda: os.rename(directory / "state", directory / "other"),
            lambda: os.symlink("/", directory / "link"),
            lambda: os.chmod(directory / "state", 0o777),
            lambda: os.chown(directory / "state", 1, 1),
        ):
            with self.assertRaises(PermissionError):
                call()
        self.assertEqual(set(os.listdir(directory)), {"state", "events", "clock", "dev", "devices", "sys"})

    def test_what_is_not_there(self):
        for name in ("nothing", "1-2", "x" * 255, "\xff", "1-1 "):
            self.assertErrno(errno.ENOENT, os.stat, self.vusbd.guest("web1", "devices", name))
        self.assertErrno(errno.ENAMETOOLONG, os.stat, self.vusbd.guest("web1", "x" * 5000))
        # A name that isn't UTF-8.
        self.assertErrno(errno.ENOENT, os.stat, bytes(self.vusbd.guest("web1")) + b"/\xff\xfe")
        self.assertErrno(errno.ENOENT, os.stat, self.vusbd.endpoint("web1", "83"))

    def test_character_node_carries_the_number_and_cannot_be_opened(self):
        node = self.vusbd.guest("web1", "dev", "bus", "usb", "001", "002")
        found = node.stat()
        self.assertTrue(stat.S_ISCHR(found.st_mode))
        self.assertEqual((os.major(found.st_rdev), os.minor(found.st_rdev)), (512, 1))
        # The mount is nodev: else this would be the host's own device 001/002.
        self.assertErrno(errno.EACCES, os.open, node, os.O_RDWR)

    def test_mount_lets_nothing_in(self):
        lines = [line.split() for line in open("/proc/self/mountinfo")]
        options = next(line[5] for line in lines if line[4] == str(self.vusbd.mount)).split(",")
        self.assertTrue({"nodev", "nosuid", "noexec"} <= set(options), options)

    def test_host_device_shows_who_holds_it(self):
        device = self.vusbd.mount / "devices" / "emu-zero"
        self.assertEqual((device / "guest").read_text(), "web1\n")
        self.assertEqual((device / "state").read_text(), "attached\n")
        self.assertEqual((device / "idProduct").read_text(), "a4a0\n")
        self.assertEqual(stat.S_IMODE((self.vusbd.mount / "devices").stat().st_mode), 0o500)

    def test_ordinary_programs_find_their_way(self):
        found = subprocess.run(["find", self.vusbd.mount], capture_output=True, text=True, timeout=20)
        self.assertEqual((found.returncode, found.stderr), (0, ""))
        self.assertIn(str(self.vusbd.endpoint("web1", "81")), found.stdout.splitlines())
        self.assertEqual(subprocess.run(["df", self.vusbd.mount], capture_output=True, timeout=20).returncode, 0)

    def test_endpoint_files_have_the_size_of_the_largest_transfer(self):
        self.assertEqual(self.vusbd.endpoint("web1", "81").stat().st_size, LIMIT)


class Changes(SharedDaemon):
    """The tree follows; each case has a guest of its own."""

    def guest_with_zero(self, name):
        device = self.vusbd.emulate(f"zero,name={name}")
        self.vusbd.add_guest(name, devices=[device])
        self.addCleanup(self.forget, name, device)
        return device

    def forget(self, name, device):
        guests = {guest["name"]: guest for guest in self.vusbd.ctl("GET", "/v1/guests")}
        if guests[name]["state"] == "loaded":
            self.vusbd.unload(name)
        self.vusbd.ctl("DELETE", f"/v1/guests/{name}")
        if device in [found["id"] for found in self.vusbd.ctl("GET", "/v1/devices")]:
            self.vusbd.unplug(device)

    def test_load_and_unload(self):
        self.guest_with_zero("life")
        guest = self.vusbd.guest("life")
        self.assertEqual((guest / "state").read_text(), "unloaded\n")
        self.assertEqual(set(os.listdir(guest)), {"state", "events"})
        self.vusbd.load("life")
        self.assertEqual((guest / "state").read_text(), "loaded\n")
        self.assertEqual(os.listdir(guest / "devices"), ["1-1"])
        self.vusbd.unload("life")
        self.assertEqual((guest / "state").read_text(), "unloaded\n")
        self.assertEqual(set(os.listdir(guest)), {"state", "events"})
        self.assertErrno(errno.ENOENT, os.listdir, guest / "devices")

    def test_removed_guest_is_gone_at_once(self):
        self.vusbd.add_guest("short")
        self.assertTrue(self.vusbd.guest("short").is_dir())
        self.vusbd.ctl("DELETE", "/v1/guests/short")
        self.assertErrno(errno.ENOENT, os.stat, self.vusbd.guest("short"))

    def test_detached_device_is_gone_and_its_numbers_come_back_with_it(self):
        first = self.guest_with_zero("numbers")
        second = self.vusbd.emulate("zero,name=numbers-two")
        self.addCleanup(self.vusbd.unplug, second)
        self.vusbd.load("numbers")
        self.assertEqual(self.vusbd.attach(second, "numbers")["path"], "1-2")
        self.vusbd.detach(first)
        self.assertEqual(os.listdir(self.vusbd.guest("numbers", "devices")), ["1-2"])
        self.assertEqual(self.vusbd.attach(first, "numbers")["path"], "1-1")
        self.vusbd.detach(second)

    def test_a_device_that_is_plugged_in_again_is_back_with_its_numbers(self):
        device = self.guest_with_zero("replug")
        other = self.vusbd.emulate("zero,name=replug-two")
        self.addCleanup(self.vusbd.unplug, other)
        self.vusbd.load("replug")
        events = self.open(self.vusbd.guest("replug", "events"), os.O_RDONLY)
        self.vusbd.unplug(device)
        self.assertEqual(os.listdir(self.vusbd.guest("replug", "devices")), [])
        # Its place is kept for it.
        self.assertEqual(self.vusbd.attach(other, "replug")["path"], "1-2")
        self.assertEqual(self.vusbd.emulate("zero,name=replug"), device)
        found = []
        while [event["type"] for event in found] != ["detached", "attached", "attached"]:
            found += [json.loads(line) for line in Background(os.read, events, 65536).result().splitlines()]
        self.assertEqual([event["path"] for event in found], ["1-1", "1-2", "1-1"])
        file = self.open(self.vusbd.endpoint("replug", "81"), os.O_RDONLY)
        self.assertEqual(os.read(file, 512), bytes(512))

    def test_directory_that_is_open_stays_as_it_was_and_a_new_one_shows_what_is(self):
        device = self.guest_with_zero("opened")
        self.vusbd.load("opened")
        directory = self.open(self.vusbd.guest("opened", "devices"), os.O_RDONLY | os.O_DIRECTORY)
        self.vusbd.detach(device)
        self.assertEqual(os.listdir(directory), ["1-1"])
        self.assertErrno(errno.ENOENT, lambda: os.stat("1-1", dir_fd=directory))
        self.assertEqual(os.listdir(self.vusbd.guest("opened", "devices")), [])

    def test_two_hundred_devices_of_one_guest_lie_on_two_buses(self):
        self.vusbd.emulate("zero,name=many,count=200")
        ids = [f"emu-many-{number}" for number in range(1, 201)]
        self.vusbd.add_guest("many")
        self.vusbd.load("many")
        for device in ids:
            self.vusbd.attach(device, "many")
        names = os.listdir(self.vusbd.guest("many", "devices"))
        self.assertEqual(set(names), {f"1-{n}" for n in range(1, 127)} | {f"2-{n}" for n in range(1, 75)})
        self.assertEqual(len(os.listdir(self.vusbd.guest("many", "dev", "bus", "usb", "001"))), 126)
        node = self.vusbd.guest("many", "dev", "bus", "usb", "002", "075").stat()
        self.assertEqual(os.minor(node.st_rdev), 128 + 74)
        self.vusbd.unload("many")
        self.vusbd.ctl("DELETE", "/v1/guests/many")
        for device in ids:
            self.vusbd.unplug(device)


class Events(SharedDaemon):
    arguments = ["--emulate", "zero,name=zero"]
    guests = {"web1": {}, "web2": {}}

    def lines(self, data):
        return [json.loads(line) for line in data.decode().splitlines()]

    def test_a_read_blocks_until_something_happens(self):
        file = self.open(self.vusbd.guest("web1", "events"), os.O_RDONLY)
        reader = Background(os.read, file, 65536)
        self.vusbd.attach("emu-zero", "web1")
        event = self.lines(reader.result())[0]
        self.assertEqual((event["type"], event["path"]), ("attached", "1-1"))
        # The host's own names are no business of a guest.
        self.assertNotIn("device", event)
        self.vusbd.detach("emu-zero")
        self.assertEqual(self.lines(os.read(file, 65536))[-1]["type"], "detached")

    def test_a_reader_begins_where_it_opened(self):
        self.vusbd.attach("emu-zero", "web1")
        file = self.open(self.vusbd.guest("web1", "events"), os.O_RDONLY | os.O_NONBLOCK)
        self.assertErrno(errno.EAGAIN, os.read, file, 4096)
        self.vusbd.detach("emu-zero")
        self.assertEqual([event["type"] for event in self.lines(os.read(file, 65536))], ["detached"])

    def test_poll_tells_of_an_event(self):
        file = self.open(self.vusbd.guest("web1", "events"), os.O_RDONLY | os.O_NONBLOCK)
        poller = select.poll()
        poller.register(file, select.POLLIN)
        self.assertEqual(poller.poll(0), [])
        waiting = Background(poller.poll, 20000)
        self.vusbd.attach("emu-zero", "web1")
        self.assertEqual(waiting.result(), [(file, select.POLLIN)])
        os.read(file, 65536)
        self.vusbd.detach("emu-zero")
        os.read(file, 65536)

    def test_another_guests_events_are_not_told(self):
        file = self.open(self.vusbd.guest("web2", "events"), os.O_RDONLY | os.O_NONBLOCK)
        self.vusbd.attach("emu-zero", "web1")
        self.vusbd.detach("emu-zero")
        self.assertErrno(errno.EAGAIN, os.read, file, 4096)

    def test_every_reader_gets_every_line_however_small_its_reads(self):
        files = [self.open(self.vusbd.guest("web1", "events"), os.O_RDONLY) for _ in range(3)]
        self.vusbd.attach("emu-zero", "web1")
        self.vusbd.detach("emu-zero")
        for file, size in zip(files, (1, 7, 65536)):
            set_nonblocking(file)
            data = b""
            while True:
                try:
                    piece = os.read(file, size)
                except BlockingIOError:
                    break
                self.assertLessEqual(len(piece), size)
                data += piece
            self.assertEqual([event["type"] for event in self.lines(data)], ["attached", "detached"])

    def test_the_end_of_a_guest_is_end_of_file(self):
        self.vusbd.add_guest("gone")
        file = self.open(self.vusbd.guest("gone", "events"), os.O_RDONLY)
        reader = Background(os.read, file, 4096)
        self.vusbd.ctl("DELETE", "/v1/guests/gone")
        self.assertEqual(reader.result(), b"")

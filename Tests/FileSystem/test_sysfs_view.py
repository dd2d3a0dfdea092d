# SPDX-License-Identifier: Apache-2.0
"""A guest's sysfs (SysfsView.md): as files, and as unmodified programs see it in a mount namespace of their own."""

import errno
import os
import re
import stat
import subprocess
import unittest

from harness import PATIENCE, SET_ZERO_ALTERNATE, SharedDaemon

# As the article says, for a program whose /sys is the host's. $1 is the guest's directory.
VIEW = """
if [ -d /sys/bus/usb ]; then mount --bind "$1/sys/bus/usb" /sys/bus/usb; else mount --bind "$1/sys/bus" /sys/bus; fi
[ -d /dev/bus/usb ] && mount --bind "$1/dev/bus/usb" /dev/bus/usb
export SYSTEMD_DEVICE_VERIFY_SYSFS=0
shift
exec "$@"
"""


class View(SharedDaemon):
    arguments = [
        "--emulate", "zero,name=zero,serial=ABC123", "--emulate", "serial,name=serial", "--emulate",
        "keyboard,name=keyboard", "--emulate", "zero,name=fast,speed=super",
    ]
    guests = {"web1": {}, "web2": {}}
    # Device, its path and what it is; all are in guest web1, in this order.
    held = [
        ("emu-zero", "1-1", "0525:a4a0", "480"), ("emu-serial", "1-2", "0525:a4a7", "480"),
        ("emu-keyboard", "1-3", "0525:a4ac", "12"), ("emu-fast", "1-4", "0525:a4a0", "5000"),
    ]

    def setUp(self):
        for device, _, _, _ in self.held:
            self.vusbd.attach(device, "web1")
        self.addCleanup(self.give_back)

    def give_back(self):
        for attachment in self.vusbd.ctl("GET", "/v1/guests/web1")["attachments"]:
            self.vusbd.detach(attachment["device"])

    def sys(self, *parts, guest="web1"):
        return self.vusbd.guest(guest, "sys", *parts)

    def names(self, guest="web1"):
        return set(os.listdir(self.sys("bus", "usb", "devices", guest=guest)))

    def text(self, *parts):
        return self.sys("bus", "usb", "devices", *parts).read_text()

    def shown(self, *command, guest="web1"):
        """What an unmodified program prints that is shown the guest's view."""
        words = ["unshare", "--mount", "sh", "-c", VIEW, "sh", str(self.vusbd.guest(guest)), *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    # Files

    def test_buses_devices_and_interfaces_are_there(self):
        expected = {"usb1", "1-0:1.0", "1-1", "1-1:1.0", "1-2", "1-2:1.0", "1-2:1.1", "1-3", "1-3:1.0", "1-4", "1-4:1.0"}
        self.assertEqual(self.names(), expected)
        self.assertEqual(self.names("web2"), {"usb1", "1-0:1.0"})

    def test_each_link_leads_into_the_view(self):
        top = os.path.realpath(self.sys())
        links = 0
        for directory, directories, files in os.walk(top):
            for name in directories + files:
                path = os.path.join(directory, name)
                if not os.path.islink(path) or os.readlink(path).endswith("bus/platform"):
                    continue
                self.assertTrue(os.path.realpath(path).startswith(top + "/"), path)
                self.assertTrue(os.path.isdir(path), f"{path} -> {os.readlink(path)}")
                links += 1
        self.assertGreater(links, 25)

    def test_files_agree_with_each_other_and_with_the_node(self):
        for _, path, identity, speed in self.held:
            self.assertEqual(f"{self.text(path, 'idVendor')}:{self.text(path, 'idProduct')}".replace("\n", ""), identity)
            self.assertEqual(self.text(path, "speed"), speed + "\n")
            uevent = dict(line.split("=", 1) for line in self.text(path, "uevent").splitlines())
            port = int(path.split("-")[1])
            self.assertEqual(uevent["DEVNAME"], f"bus/usb/001/{port + 1:03}")
            self.assertEqual((int(uevent["BUSNUM"]), int(uevent["DEVNUM"])), (1, port + 1))
            self.assertEqual(self.text(path, "devnum"), f"{port + 1}\n")
            node = self.vusbd.guest("web1", "dev", uevent["DEVNAME"]).stat()
            self.assertTrue(stat.S_ISCHR(node.st_mode))
            numbers = f"{os.major(node.st_rdev)}:{os.minor(node.st_rdev)}\n"
            self.assertEqual(numbers, f"{uevent['MAJOR']}:{uevent['MINOR']}\n")
            self.assertEqual(numbers, self.text(path, "dev"))
            self.assertEqual(numbers, self.vusbd.guest("web1", "devices", path, "dev").read_text())
            descriptors = self.sys("bus", "usb", "devices", path, "descriptors")
            self.assertEqual(
                descriptors.read_bytes(), self.vusbd.guest("web1", "devices", path, "descriptors").read_bytes())
            self.assertEqual(descriptors.stat().st_size, len(descriptors.read_bytes()))

    def test_numbers_of_usbfs_are_only_on_a_mount_that_follows_no_nodes(self):
        mine = [line.split() for line in open("/proc/self/mountinfo") if line.split()[4] == str(self.vusbd.mount)]
        self.assertIn("nodev", mine[-1][5].split(","))
        node = self.vusbd.guest("web1", "dev", "bus", "usb", "001", "002")
        self.assertEqual(os.major(node.stat().st_rdev), 512)
        self.assertErrno(errno.EACCES, os.open, node, os.O_RDWR)

    def test_an_interface_follows_its_alternate_setting(self):
        def endpoints():
            return {name for name in os.listdir(self.sys("bus", "usb", "devices", "1-1:1.0")) if name.startswith("ep_")}

        self.assertEqual(endpoints(), {"ep_81", "ep_02"})
        control = self.open(self.vusbd.endpoint("web1", "00"), os.O_RDWR)
        os.write(control, bytes([1, 11, 2, 0, 0, 0, 0, 0]))
        self.assertEqual(self.text("1-1:1.0", "bAlternateSetting"), " 2\n")
        self.assertEqual(endpoints(), {"ep_81", "ep_02", "ep_85", "ep_06"})
        self.assertEqual(self.text("1-1:1.0", "ep_85", "type"), "Interrupt\n")
        os.write(control, bytes([0, 9, 0, 0, 0, 0, 0, 0]))
        self.assertNotIn("1-1:1.0", self.names())
        self.assertEqual(self.text("1-1", "bConfigurationValue"), "")
        os.write(control, bytes([0, 9, 1, 0, 0, 0, 0, 0]))
        self.assertEqual(self.text("1-1:1.0", "bAlternateSetting"), " 0\n")
        os.write(control, SET_ZERO_ALTERNATE[0])

    def test_what_stays_keeps_its_numbers_and_what_comes_back_has_its_old_ones(self):
        before = {path: self.text(path, "uevent") for _, path, _, _ in self.held}
        opened = open(self.sys("bus", "usb", "devices", "1-2", "serial"))
        self.addCleanup(opened.close)
        serial = self.text("1-2", "serial")
        self.vusbd.detach("emu-serial")
        self.assertEqual({name for name in self.names() if name.startswith("1-2")}, set())
        for path in ("1-1", "1-3", "1-4"):
            self.assertEqual(self.text(path, "uevent"), before[path])
        # A file shows the moment in which it was opened.
        self.assertEqual(opened.read(), serial)
        self.vusbd.attach("emu-serial", "web1")
        self.assertEqual(self.text("1-2", "uevent"), before["1-2"])

    def test_nothing_can_be_changed(self):
        file = self.sys("bus", "usb", "devices", "1-1", "authorized")
        self.assertEqual(stat.S_IMODE(file.stat().st_mode) & 0o222, 0)
        self.assertErrno(errno.EPERM, os.chmod, file, 0o666)
        self.assertErrno(errno.EPERM, os.unlink, self.sys("bus", "usb", "devices", "1-1"))
        self.assertErrno(errno.EPERM, os.symlink, "x", self.sys("bus", "usb", "devices", "x"))
        self.assertErrno(errno.EINVAL, os.readlink, file)

    # Programs

    def test_lsusb_lists_what_the_guest_has_and_nothing_else(self):
        found = set(re.findall(r"^Bus (\d+) Device (\d+): ID ([0-9a-f:]+)", self.shown("lsusb"), re.M))
        expected = {("001", f"{n + 2:03}", identity) for n, (_, _, identity, _) in enumerate(self.held)}
        self.assertEqual(found, expected | {("001", "001", "1d6b:0002")})
        alone = re.findall(r"ID ([0-9a-f:]+)", self.shown("lsusb", guest="web2"))
        self.assertEqual(alone, ["1d6b:0002"])

    def test_lsusb_draws_the_tree(self):
        lines = self.shown("lsusb", "-t").splitlines()
        self.assertRegex(lines[0], r"Bus 0*1\.Port .*Class=root_hub, Driver=vusb/126p, 480M")
        ports = [re.search(r"Port 0*(\d+): Dev 0*(\d+), If (\d+).* ([\d.]+)M$", line).groups() for line in lines[1:]]
        self.assertEqual(
            ports, [("1", "2", "0", "480"), ("2", "3", "0", "480"), ("2", "3", "1", "480"), ("3", "4", "0", "12"),
                    ("4", "5", "0", "5000")])

    def test_lsusb_tells_descriptors(self):
        text = self.shown("lsusb", "-v", "-d", "0525:a4a7")
        for line in (r"bcdUSB +2\.00", r"bDeviceClass +2 ", r"bNumInterfaces +2$", r"bEndpointAddress +0x82"):
            self.assertRegex(text, re.compile(line, re.M))

    def test_usb_devices_tells_all(self):
        blocks = self.shown("usb-devices").strip().split("\n\n")
        self.assertEqual(len(blocks), 1 + len(self.held))
        self.assertRegex(blocks[0], r"Spd=480 +MxCh=126")
        self.assertRegex(blocks[1], r"S:  SerialNumber=ABC123")
        self.assertRegex(blocks[1], r"E:  Ad=81\(I\) Atr=02\(Bulk\) MxPS= 512 Ivl=0ms")
        self.assertRegex(blocks[3], r"I:  If#= 0 Alt= 0 #EPs= 1 Cls=03\(HID  \) Sub=01 Prot=01 Driver=\(none\)")

    def test_libudev_knows_devices_and_their_parents(self):
        text = self.shown("udevadm", "info", "--attribute-walk", "--path", "/sys/bus/usb/devices/1-1:1.0")
        looked = re.findall(r"looking at (?:parent )?device '(\S+)'", text)
        self.assertEqual(
            looked[:3], ["/bus/usb/vusb/usb1/1-1/1-1:1.0", "/bus/usb/vusb/usb1/1-1", "/bus/usb/vusb/usb1"])
        self.assertIn('ATTRS{serial}=="ABC123"', text)
        properties = self.shown("udevadm", "info", "--query", "property", "--path", "/sys/bus/usb/devices/1-3")
        for line in ("DEVNAME=/dev/bus/usb/001/004", "DEVTYPE=usb_device", "SUBSYSTEM=usb", "PRODUCT=525/a4ac/100"):
            self.assertIn(line, properties.splitlines())

# SPDX-License-Identifier: Apache-2.0
"""Two vusbds, chained by USB/IP over loopback: the second one imports what the first one lends, and lends it as its own."""

import errno
import json
import os
import random
import socket
import struct

from harness import LIMIT, Background, Case, until

BLOCK = 512
BLOCKS = 2048


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Chain(Case):
    def first(self, *arguments, port=None, load=True):
        """A vusbd whose guest pc1 has a disk, which whoever connects to `self.port` may import as 1-1."""
        self.port = port or free_port()
        vusbd = self.daemon(*arguments, start=False)
        self.image = vusbd.directory / "disk.img"
        self.image.write_bytes(random.Random(1).randbytes(BLOCK * BLOCKS))
        vusbd.arguments += ["--emulate", f"disk={self.image}", "--emulate", "serial"]
        vusbd.start()
        vusbd.add_guest("pc1", listen=[f"tcp:127.0.0.1:{self.port}"], devices=["emu-disk", "emu-serial"])
        if load:
            vusbd.load("pc1")
        return vusbd

    @property
    def server(self):
        return f"127.0.0.1:{self.port}"

    def second(self):
        vusbd = self.daemon()
        vusbd.add_guest("web1")
        vusbd.load("web1")
        return vusbd

    def chain(self):
        first, second = self.first(), self.second()
        self.imported(second, "1-1", "disk")
        second.attach("ip-disk", "web1")
        return first, second

    def imported(self, vusbd, busid, name):
        run = vusbd.vusbctl("import", self.server, busid, "--name", name)
        self.assertEqual((run.returncode, run.stdout), (0, f"ip-{name}\n"), run.stderr)

    def imports(self, vusbd):
        return {found["id"]: found for found in vusbd.ctl("GET", "/v1/imports")}

    def holder(self, vusbd, device):
        found = [item for item in vusbd.ctl("GET", "/v1/devices") if item["id"] == device]
        return found[0].get("attachment", {}).get("guest") if found else None

    def until_back(self, vusbd, device="ip-disk"):
        until(lambda: self.holder(vusbd, device) == "web1", lambda: json.dumps(self.imports(vusbd)))

    def command(self, vusbd, block, length=0, data=None, path="1-1"):
        """A bulk-only command by the endpoint files of web1 (Bulk-Only Transport 1.0)."""
        reader = os.open(vusbd.endpoint("web1", "81", path), os.O_RDONLY)
        writer = os.open(vusbd.endpoint("web1", "02", path), os.O_WRONLY)
        try:
            flags = 0 if data is not None else 0x80
            os.write(writer, struct.pack("<4sIIBBB16s", b"USBC", 7, length, flags, 0, len(block), block))
            answer = b""
            if data is not None:
                os.write(writer, data)
            while data is None and len(answer) < length:
                answer += os.read(reader, min(length - len(answer), LIMIT))
            signature, tag, _, status = struct.unpack("<4sIIB", os.read(reader, 13))
            self.assertEqual((signature, tag, status), (b"USBS", 7, 0))
            return answer
        finally:
            os.close(reader)
            os.close(writer)

    def assertDiskIsTheImage(self, vusbd):
        at_once = LIMIT // BLOCK
        read = b""
        for begin in range(0, BLOCKS, at_once):
            read += self.command(vusbd, struct.pack(">BBIBHB", 0x28, 0, begin, 0, at_once, 0), at_once * BLOCK)
        self.assertTrue(read == self.image.read_bytes(), "the disk isn't its image")

    def test_what_the_first_lends_the_second_lends(self):
        first, second = self.first(), self.second()
        listed = second.vusbctl("import", self.server).stdout.splitlines()
        self.assertEqual(listed[0].split()[:2], ["BUSID", "VID:PID"])
        self.assertRegex(listed[1], r"^1-1 .* mass storage +- ")
        self.assertEqual(len(listed), 3, listed)
        offers = json.loads(second.vusbctl("import", self.server, "--json").stdout)
        self.assertEqual([(offer["busid"], offer.get("imported")) for offer in offers], [("1-1", None), ("1-2", None)])
        run = second.vusbctl("import", self.server, "1-1")
        device = f"ip-127.0.0.1-{self.port}-1-1"
        self.assertEqual((run.returncode, run.stdout), (0, device + "\n"), run.stderr)
        self.assertIn("connecting to " + self.server, run.stderr)
        ours, theirs = (vusbd.mount / "devices" / name for vusbd, name in ((second, device), (first, "emu-disk")))
        for attribute in ("idVendor", "idProduct", "serial", "speed", "descriptors"):
            self.assertEqual((ours / attribute).read_bytes(), (theirs / attribute).read_bytes(), attribute)
        self.assertEqual(second.ctl("GET", second.device_path(device))["source"], "usbip")
        second.attach(device, "web1")
        self.assertDiskIsTheImage(second)
        [held] = [item for item in first.ctl("GET", "/v1/guests/pc1")["attachments"] if item["device"] == "emu-disk"]
        self.assertEqual(held["state"], "imported")
        self.assertGreaterEqual(held["idleSeconds"], 0)
        for command in ("status", "guests"):
            said = f"pc1: 1-1 (emu-disk) is imported by {held['peer']}, idle for "
            self.assertIn(said, first.vusbctl(command).stdout)
        self.assertRegex(second.vusbctl("import", self.server).stdout, rf"(?m)^1-1 .* {device} ")
        text = b"written through two".ljust(BLOCK, b".")
        self.command(second, struct.pack(">BBIBHB", 0x2A, 0, 5, 0, 1, 0), BLOCK, text)
        self.assertEqual(self.image.read_bytes()[5 * BLOCK : 6 * BLOCK], text)
        for vusbd in (second, first):
            self.assertEqual(vusbd.stop(), 0)

    def test_a_read_that_waits_ends_with_what_comes_or_with_an_unplug(self):
        first, second = self.first(), self.second()
        self.imported(second, "1-2", "serial")
        path = second.attach("ip-serial", "web1")["path"]
        reader = self.open(second.endpoint("web1", "81", path), os.O_RDONLY)
        writer = self.open(second.endpoint("web1", "01", path), os.O_WRONLY)
        waiting = Background(os.read, reader, 512)
        until(lambda: first.in_flight() == 1 and second.in_flight() == 1)
        os.write(writer, b"through two")
        self.assertEqual(waiting.result(), b"through two")
        waiting = Background(os.read, reader, 512)
        until(lambda: first.in_flight() == 1 and second.in_flight() == 1)
        first.unplug("emu-serial")
        self.assertErrno(errno.ENODEV, waiting.result)
        until(lambda: self.imports(second)["ip-serial"]["state"] == "waiting")
        first.emulate("serial")
        self.until_back(second, "ip-serial")

    def test_the_first_is_killed_and_its_device_comes_back(self):
        first, second = self.chain()
        self.assertDiskIsTheImage(second)
        first.kill9()
        until(lambda: self.imports(second)["ip-disk"]["state"] != "imported")
        self.assertIsNone(self.holder(second, "ip-disk"))
        until(lambda: self.imports(second)["ip-disk"]["attempts"] > 1)
        # Whether it waits or tries just now.
        self.assertIn("Connection refused", self.imports(second)["ip-disk"]["reason"])
        away = f"1-1 of {self.server}"
        self.assertIn(f"ip-disk: {away} isn't here now, ", second.vusbctl("status").stdout)
        self.assertEqual([item["id"] for item in json.loads(second.vusbctl("status", "--json").stdout)["away"]], ["ip-disk"])
        for command in (("attach", "ip-disk", "web1"), ("claim", "explain", "ip-disk")):
            run = second.vusbctl(*command)
            self.assertEqual(run.returncode, 1, run)
            self.assertIn(f"device ip-disk, imported as {away}, isn't here now: ", run.stderr)
            self.assertIn("vusbctl forget ip-disk", run.stderr)
        findings = [item for item in second.ctl("GET", "/v1/doctor") if item["check"] == "import ip-disk"]
        self.assertEqual([item["level"] for item in findings], ["warning"])
        self.assertIn("Connection refused", findings[0]["summary"])
        first.notifications.clear()
        first.start()
        self.until_back(second)
        self.assertEqual(os.listdir(second.guest("web1", "devices")), ["1-1"])
        self.assertDiskIsTheImage(second)

    def test_the_second_is_killed_and_imports_again(self):
        _, second = self.chain()
        second.kill9()
        second.notifications.clear()
        second.start()
        self.until_back(second)
        self.assertDiskIsTheImage(second)

    def test_forget_is_refused_while_somebody_works_with_it(self):
        first, second = self.chain()
        file = self.open(second.endpoint("web1", "81"), os.O_RDONLY)
        refused = second.vusbctl("forget", "ip-disk", "--deadline", "0s")
        self.assertEqual(refused.returncode, 4, refused)
        self.assertIn("endpoint file", refused.stderr)
        self.assertEqual(self.holder(second, "ip-disk"), "web1")
        self.assertEqual(second.vusbctl("forget", "ip-disk", "--deadline", "0s", "--cancel").returncode, 0)
        self.assertErrno(errno.ENODEV, os.read, file, 512)
        self.assertEqual(self.imports(second), {})
        self.assertNotIn("ip-disk", os.listdir(second.mount / "devices"))

        def states():
            return [item["state"] for item in first.ctl("GET", "/v1/guests/pc1")["attachments"]]

        until(lambda: states() == ["free", "free"], lambda: f"{states()}")
        self.imported(second, "1-1", "again")

    def test_a_first_try_that_fails_leaves_nothing_unless_it_is_to_be_kept(self):
        self.port = free_port()
        second = self.second()
        failed = second.vusbctl("import", self.server, "1-1")
        self.assertEqual((failed.returncode, failed.stdout), (1, ""), failed)
        # Each thing is named once.
        self.assertIn(f"import of 1-1 of {self.server}: the server can't be reached: Connection refused", failed.stderr)
        self.assertEqual(self.imports(second), {})
        kept = second.vusbctl("import", self.server, "1-1", "--name", "disk", "--keep-trying")
        self.assertEqual((kept.returncode, kept.stdout), (0, "ip-disk\n"), kept)
        second.add_guest("web2", devices=["ip-disk"])
        second.load("web2")
        self.first(port=self.port)
        until(lambda: self.holder(second, "ip-disk") == "web2", lambda: json.dumps(self.imports(second)))

    def test_nobody_imports_from_itself(self):
        first = self.first()
        run = first.vusbctl("import", self.server, "1-1")
        self.assertEqual(run.returncode, 1, run)
        self.assertIn(f"import of 1-1 of {self.server}: the server is this vusbd itself", run.stderr)
        self.assertEqual(self.imports(first), {})
        self.assertEqual(len(first.ctl("GET", "/v1/devices")), 2)

    def test_a_garbled_entry_of_a_list_is_told_of(self):
        numbers = struct.pack(">IIIHHHBBBBBB", 1, 2, 3, 0x0525, 0xA4A0, 0x100, 0, 0, 0, 1, 1, 1)
        good = bytes(256) + b"1-1".ljust(32, b"\0") + numbers + bytes((8, 6, 0x50, 0))
        bad = bytes(256) + b"../1".ljust(32, b"\0") + numbers + bytes((8, 6, 0x50, 0))
        answer = struct.pack(">HHII", 0x0111, 5, 0, 2) + bad + good
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]

            def serve():
                peer, _ = listener.accept()
                with peer:
                    peer.recv(8, socket.MSG_WAITALL)
                    peer.sendall(answer)
                    peer.recv(1)

            serving = Background(serve)
            run = self.second().vusbctl("import", self.server)
            serving.result()
        self.assertEqual(run.returncode, 0, run)
        self.assertRegex(run.stdout, "(?m)^1-1 .* mass storage ")
        self.assertIn("left out '../1', which can't be imported: its busid isn't one that can be asked for", run.stdout)

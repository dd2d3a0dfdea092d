# SPDX-License-Identifier: Apache-2.0
"""Bad input and faults: each gets a clear error that names the object and the remedy; nothing hangs, crashes or is
left in limbo."""

import errno
import os
import select
import socket
import subprocess
import urllib.parse

from harness import (
    LIMIT,
    PATIENCE,
    ROOT,
    VUSBCTL,
    Background,
    Case,
    NotReady,
    Problem,
    SharedDaemon,
    Vusbd,
    set_nonblocking,
    until,
)


class Requests(SharedDaemon):
    arguments = ["--emulate", "serial", "--emulate", "serial,name=two", "--emulate", "zero,name=a,serial=A"]
    arguments += ["--emulate", "zero,name=b,serial=B", "--emulate", "keyboard"]
    guests = {"web1": {"devices": ["emu-serial"]}, "web2": {}}

    def test_guest_names(self):
        for name in ("a/b", "..", ".", "", "a\0b", "x" * 300, "x" * 64, "-a", "Web", "a_b", "a b", "\u00e9", "a\n"):
            with self.subTest(name[:20]):
                self.assertProblem(400, "malformed", self.vusbd.add_guest, name)
                for verb in ("load", "unload"):
                    quoted = urllib.parse.quote(name, safe="")
                    status, answer = self.vusbd.request("POST", f"/v1/guests/{quoted}/{verb}", {})
                    self.assertIn(status, (400, 404), answer)
        self.assertEqual({guest["name"] for guest in self.vusbd.ctl("GET", "/v1/guests")}, {"web1", "web2"})
        self.vusbd.add_guest("x" * 63)
        self.vusbd.load("x" * 63)
        self.assertTrue(self.vusbd.guest("x" * 63).is_dir())
        self.vusbd.unload("x" * 63)
        self.vusbd.ctl("DELETE", "/v1/guests/" + "x" * 63)

    def test_guest_names_by_vusbctl(self):
        for name in ("a/b", "..", "x" * 300, ""):
            result = self.vusbd.vusbctl("guest", "add", name)
            self.assertIn(result.returncode, (1, 2), result)
            self.assertTrue(result.stderr)

    def test_a_guest_twice(self):
        self.assertProblem(409, "conflict", self.vusbd.add_guest, "web1", mentions=["web1"])

    def test_an_unknown_guest(self):
        self.assertProblem(404, "not-found", self.vusbd.load, "nobody", mentions=["nobody"])
        self.assertProblem(404, "not-found", self.vusbd.unload, "nobody", mentions=["nobody"])
        self.assertProblem(404, "not-found", self.vusbd.attach, "emu-two", "nobody", mentions=["nobody"])
        self.assertProblem(404, "not-found", self.vusbd.ctl, "DELETE", "/v1/guests/nobody", mentions=["nobody"])
        result = self.vusbd.vusbctl("load", "nobody")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nobody", result.stderr)

    def test_load_twice_and_unload_twice(self):
        self.vusbd.add_guest("twice")
        self.vusbd.load("twice")
        self.assertProblem(409, "conflict", self.vusbd.load, "twice", mentions=["twice", "loaded"])
        self.assertProblem(409, "conflict", self.vusbd.ctl, "DELETE", "/v1/guests/twice", mentions=["twice"])
        self.vusbd.unload("twice")
        self.assertProblem(409, "conflict", self.vusbd.unload, "twice", mentions=["twice", "isn't loaded"])
        self.vusbd.ctl("DELETE", "/v1/guests/twice")

    def test_attach_to_a_guest_that_is_not_loaded(self):
        self.vusbd.add_guest("idle")
        self.addCleanup(lambda: self.vusbd.ctl("DELETE", "/v1/guests/idle"))
        self.assertProblem(409, "conflict", self.vusbd.attach, "emu-two", "idle", mentions=["idle"])

    def test_attach_of_a_device_that_another_guest_holds(self):
        self.assertProblem(409, "busy", self.vusbd.attach, "emu-serial", "web2", mentions=["emu-serial", "web1"])
        self.assertEqual(os.listdir(self.vusbd.guest("web2", "devices")), [])
        result = self.vusbd.vusbctl("attach", "emu-serial", "web2")
        self.assertEqual(result.returncode, 4)
        self.assertIn("web1", result.stderr)

    def test_attach_of_a_device_that_is_gone(self):
        device = self.vusbd.emulate("serial,name=gone")
        self.vusbd.unplug(device)
        self.assertProblem(404, "not-found", self.vusbd.attach, device, "web2", mentions=[device])
        self.assertProblem(404, "not-found", self.vusbd.detach, device, mentions=[device])
        self.assertProblem(404, "not-found", self.vusbd.unplug, device, mentions=[device])

    def test_detach_of_a_device_that_nobody_holds(self):
        self.assertProblem(409, "conflict", self.vusbd.detach, "emu-two", mentions=["emu-two"])

    def test_an_ambiguous_device_is_refused_with_the_candidates(self):
        problem = self.assertProblem(409, "ambiguous", self.vusbd.attach, "0525:a4a0", "web2", mentions=["0525:a4a0"])
        self.assertEqual(sorted(problem["candidates"]), ["emu-a", "emu-b"])
        result = self.vusbd.vusbctl("attach", "0525:a4a0", "web2")
        self.assertEqual(result.returncode, 1)
        self.assertIn("emu-a", result.stderr)
        self.assertIn("emu-b", result.stderr)
        # With the serial number it isn't.
        self.assertEqual(self.vusbd.attach("0525:a4a0:B", "web2")["device"], "emu-b")
        self.vusbd.detach("emu-b")

    def test_names_of_devices_that_are_none(self):
        for name in ("0525:a4a", "xyzw:0000", "0525:a4a0:", ":", "..", "a/b", "x" * 300):
            with self.subTest(name[:20]):
                with self.assertRaises(Problem) as caught:
                    self.vusbd.attach(name, "web2")
                self.assertIn(caught.exception.status, (400, 404))

    def test_typing_what_has_no_key_or_on_what_has_none(self):
        path = "/v1/devices/emu-keyboard/type"
        self.assertProblem(400, "malformed", self.vusbd.ctl, "POST", path, {"text": "\u00e9"})
        path = "/v1/devices/emu-two/type"
        with self.assertRaises(Problem) as caught:
            self.vusbd.ctl("POST", path, {"text": "a"})
        self.assertEqual(caught.exception.status, 409)

    def test_emulations_that_cannot_be(self):
        specifications = "toaster zero,speed=low zero,name=A disk zero,what=1 serial,name=two zero,count=0"
        for specification in specifications.split():
            with self.subTest(specification):
                with self.assertRaises(Problem) as caught:
                    self.vusbd.emulate(specification)
                self.assertIn(caught.exception.status, (400, 409))
        # A disk's image by the control interface: only from the daemon's own directory.
        self.assertProblem(403, "denied", self.vusbd.emulate, "disk=/etc/passwd", mentions=["/etc/passwd"])

    def test_unload_with_readers_blocked_refuses_and_leaves_all_as_it_was(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        self.vusbd.until_in_flight(1)
        before = os.stat(self.vusbd.endpoint("web1", "81")).st_ino
        release = {"deadlineSeconds": 0.1, "onDeadline": "refuse"}
        with self.assertRaises(Problem) as caught:
            self.vusbd.unload("web1", **release)
        problem = caught.exception.body
        self.assertEqual(problem["type"], "urn:vusb:problem:busy")
        self.assertIn("emu-serial", problem["detail"])
        self.assertTrue(problem["remedy"])
        result = self.vusbd.vusbctl("unload", "web1", "--deadline", "100ms")
        self.assertEqual(result.returncode, 4, result)
        self.assertEqual(self.vusbd.guest("web1", "state").read_text(), "loaded\n")
        self.assertEqual(os.stat(self.vusbd.endpoint("web1", "81")).st_ino, before)
        writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
        os.write(writer, b"still here")
        self.assertEqual(reader.result(), b"still here")

    def test_while_it_is_waited_for_a_guest_goes_on(self):
        file = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        self.vusbd.until_in_flight(1)
        operation = self.vusbd.ctl("POST", "/v1/guests/web1/unload", {"deadlineSeconds": 60, "onDeadline": "refuse"})
        until(lambda: self.vusbd.guest("web1", "state").read_text() == "draining\n")
        self.assertProblem(409, "busy", self.vusbd.unload, "web1", mentions=["web1"])
        writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
        os.write(writer, b"goes on")
        self.assertEqual(reader.result(), b"goes on")
        self.vusbd.ctl("DELETE", f"/v1/operations/{operation['id']}")
        with self.assertRaises(Problem) as caught:
            self.vusbd.wait(operation)
        self.assertEqual(caught.exception.body["type"], "urn:vusb:problem:cancelled")
        self.assertEqual(self.vusbd.guest("web1", "state").read_text(), "loaded\n")
        os.write(writer, b"back")
        self.assertEqual(os.read(file, 512), b"back")

    def test_unload_with_readers_blocked_and_cancel_ends_them(self):
        files = [self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY) for _ in range(3)]
        readers = [Background(os.read, file, 512) for file in files]
        self.vusbd.until_in_flight(3)
        self.vusbd.unload("web1", deadlineSeconds=0.05, onDeadline="cancel")
        for reader in readers:
            # Cancelled is EINTR, and Python begins the read anew: the device drains still, or is gone.
            with self.assertRaises(OSError) as caught:
                reader.result()
            self.assertIn(caught.exception.errno, (errno.ENODEV, errno.EBUSY))
        for file in files:
            self.assertErrno(errno.ENODEV, os.read, file, 512)
        self.assertErrno(errno.ENOENT, os.listdir, self.vusbd.guest("web1", "devices"))
        # Nothing in limbo: the device is free, the guest can have it again.
        self.assertEqual(self.vusbd.ctl("GET", "/v1/devices/emu-serial")["state"], "available")
        self.vusbd.load("web1")
        writer = self.open(self.vusbd.endpoint("web1", "01"), os.O_WRONLY)
        reader = self.open(self.vusbd.endpoint("web1", "81"), os.O_RDONLY)
        os.write(writer, b"anew")
        self.assertEqual(os.read(reader, 512), b"anew")
        # What was open before belongs to an attachment that is over.
        self.assertErrno(errno.ENODEV, os.read, files[0], 512)

    def test_unplug_by_vusbctl_while_reading(self):
        device = self.vusbd.emulate("serial,name=pulled")
        self.vusbd.attach(device, "web2")
        path = self.vusbd.ctl("GET", "/v1/guests/web2")["attachments"][0]["path"]
        file = self.open(self.vusbd.endpoint("web2", "81", path), os.O_RDONLY)
        control = self.open(self.vusbd.endpoint("web2", "00", path), os.O_RDWR)
        reader = Background(os.read, file, 512)
        self.vusbd.until_in_flight(1)
        self.assertEqual(self.vusbd.vusbctl("unplug", device).returncode, 0)
        self.assertErrno(errno.ENODEV, reader.result)
        self.assertErrno(errno.ENODEV, os.read, file, 512)
        self.assertErrno(errno.ENODEV, os.write, control, bytes([0, 9, 1, 0, 0, 0, 0, 0]))
        self.assertNotIn(device, [found["id"] for found in self.vusbd.ctl("GET", "/v1/devices")])
        # Plugged in again, it is another device: the name is free.
        self.assertEqual(self.vusbd.emulate("serial,name=pulled"), device)
        self.vusbd.unplug(device)

    def test_vusbctl_without_a_daemon(self):
        command = [VUSBCTL, "status", "--socket", ROOT / "nowhere.sock"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        self.assertEqual(result.returncode, 1)
        self.assertIn("nowhere.sock", result.stderr)


class Start(Case):
    """vusbd refuses to start, and says why."""

    def refused(self, vusbd, *arguments, **options):
        with self.assertRaises(NotReady) as caught:
            vusbd.start(*arguments, **options)
        self.assertEqual(caught.exception.code, 1, caught.exception.text)
        self.assertFalse(vusbd.is_mounted)
        return caught.exception.text

    def test_a_configuration_with_a_wrong_key_names_line_and_key(self):
        vusbd = self.daemon(start=False)
        config = vusbd.directory / "vusb.yaml"
        lines = ["# guests of this host", "guests:", "  web1:", "    file-mode: '0660'", "    ownr: root", "mounts: /x"]
        config.write_text("\n".join(lines) + "\n")
        text = self.refused(vusbd, "--config", config)
        self.assertIn(str(config), text)
        self.assertRegex(text, r"line 5\b.*ownr")
        self.assertRegex(text, r"line 6\b.*mounts")

    def test_configurations_that_are_none(self):
        for text, words in {
            "guests: [\n": ["line"],
            "readers: 0\n": ["line 1", "readers"],
            "guests:\n  A/B:\n    mode: files\n": ["line 2", "A/B"],
            "guests:\n  web1:\n    mode: magic\n": ["line 3", "mode", "magic"],
            "guests:\n  web1:\n    owner: nobody-at-all\n": ["line 3", "owner", "nobody-at-all"],
            "emulate: [toaster]\n": ["toaster"],
            "\tx: 1\n": ["line 1"],
        }.items():
            with self.subTest(text):
                vusbd = self.daemon(start=False)
                config = vusbd.directory / "vusb.yaml"
                config.write_text(text)
                message = self.refused(vusbd, "--config", config)
                for word in words:
                    self.assertIn(word, message)

    def test_a_configuration_that_is_missing(self):
        vusbd = self.daemon(start=False)
        self.assertIn("missing.yaml", self.refused(vusbd, "--config", vusbd.directory / "missing.yaml"))

    def test_a_configuration_brings_guests_up(self):
        vusbd = self.daemon(start=False)
        config = vusbd.directory / "vusb.yaml"
        config.write_text("emulate: [serial]\nguests:\n  web1:\n    devices: [emu-serial]\n    load: true\n")
        vusbd.start("--config", config)
        self.assertTrue(vusbd.endpoint("web1", "81").exists())

    def test_an_emulation_that_cannot_be(self):
        for words in (["toaster"], ["disk=/nowhere/at/all"]):
            vusbd = self.daemon(start=False)
            self.assertIn(words[0], self.refused(vusbd, "--emulate", words[0]))

    def test_dev_fuse_is_missing(self):
        vusbd = self.daemon(start=False)
        # In a mount namespace of its own, with a /dev that has no fuse.
        script = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
        text = self.refused(vusbd, wrapper=["unshare", "-m", "sh", "-c", script, "sh"])
        self.assertIn("/dev/fuse", text)
        self.assertIn("modprobe fuse", text)

    def test_the_mount_point_is_a_file(self):
        vusbd = self.daemon(start=False)
        vusbd.mount.write_text("")
        self.assertIn(str(vusbd.mount), self.refused(vusbd))

    def test_the_mount_point_is_mounted_on_already(self):
        vusbd = self.daemon(start=False)
        vusbd.mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", vusbd.mount], check=True)
        self.addCleanup(subprocess.run, ["umount", vusbd.mount], check=True)
        with self.assertRaises(NotReady) as caught:
            vusbd.start()
        self.assertIn(str(vusbd.mount), caught.exception.text)
        self.assertIn("tmpfs", caught.exception.text)

    def test_the_sockets_path_is_taken_by_a_file(self):
        vusbd = self.daemon(start=False)
        vusbd.socket.write_text("precious")
        self.assertIn(str(vusbd.socket), self.refused(vusbd))
        self.assertEqual(vusbd.socket.read_text(), "precious")

    def test_the_sockets_path_is_taken_by_another_program(self):
        vusbd = self.daemon(start=False)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(vusbd.socket))
            other.listen()
            self.assertIn(str(vusbd.socket), self.refused(vusbd))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(vusbd.socket))

    def test_a_socket_that_nobody_listens_at_is_replaced(self):
        vusbd = self.daemon(start=False)
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(vusbd.socket))
        vusbd.start()
        self.assertEqual(vusbd.ctl("GET", "/v1/status")["pid"], vusbd.pid)

    def test_a_second_instance_is_refused_with_the_firsts_pid(self):
        first = self.daemon()
        for shared in ("state", "socket", "mount"):
            with self.subTest(shared):
                second = Vusbd()
                setattr(second, shared, getattr(first, shared))
                with self.assertRaises(NotReady) as caught:
                    second.start()
                self.assertEqual(caught.exception.code, 1)
                self.assertIn(str(first.pid), caught.exception.text)
                second.notify.close()
        self.assertEqual(first.ctl("GET", "/v1/status")["pid"], first.pid)
        self.assertTrue(first.is_mounted)

    def test_wrong_arguments_are_a_matter_of_usage(self):
        for arguments in (["--nonsense"], ["--readers", "0"], ["--readers", "x"], ["--log-level", "loud"], ["extra"]):
            vusbd = self.daemon(start=False)
            with self.assertRaises(NotReady) as caught:
                vusbd.start(*arguments)
            self.assertEqual(caught.exception.code, 2)


class State(Case):
    def saved(self):
        vusbd = self.daemon("--emulate", "serial")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        self.assertEqual(vusbd.stop(), 0)
        return vusbd

    def test_a_state_file_cut_short_is_recognised_and_its_previous_copy_used(self):
        vusbd = self.saved()
        file = vusbd.state / "state.json"
        whole = file.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 3):
            with self.subTest(size):
                (vusbd.state / "state.json.previous").write_bytes(whole)
                file.write_bytes(whole[:size])
                vusbd.start()
                self.assertEqual([guest["name"] for guest in vusbd.ctl("GET", "/v1/guests")], ["web1"])
                self.assertIn("state.json", vusbd.log.read_text())
                self.assertEqual(vusbd.stop(), 0)

    def test_without_a_good_copy_it_refuses_to_start_and_touches_nothing(self):
        vusbd = self.saved()
        file, previous = vusbd.state / "state.json", vusbd.state / "state.json.previous"
        half = file.read_bytes()[:40]
        file.write_bytes(half)
        previous.write_bytes(b"{")
        with self.assertRaises(NotReady) as caught:
            vusbd.start()
        for word in (str(file), str(previous), "byte 40"):
            self.assertIn(word, caught.exception.text)
        self.assertEqual((file.read_bytes(), previous.read_bytes()), (half, b"{"))
        self.assertFalse(vusbd.is_mounted)
        # The remedy that it names.
        file.unlink()
        previous.unlink()
        vusbd.start()
        self.assertEqual(vusbd.ctl("GET", "/v1/guests"), [])

    def test_a_state_file_that_somebody_changed(self):
        vusbd = self.saved()
        file = vusbd.state / "state.json"
        (vusbd.state / "state.json.previous").unlink(missing_ok=True)
        file.write_text(file.read_text().replace("web1", "web2"))
        with self.assertRaises(NotReady) as caught:
            vusbd.start()
        self.assertIn("state.json", caught.exception.text)


class Limits(Case):
    def test_emfile(self):
        """Without descriptors left, who is being served is served on; the others are when there are some again."""
        import resource

        limit = 64
        vusbd = self.daemon("--emulate", "serial", start=False)
        vusbd.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        connections = []
        for _ in range(limit * 2):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.setblocking(False)
            try:
                connection.connect(str(vusbd.socket))
            except BlockingIOError:
                break  # The daemon accepts no more, and the queue is full.
            connections.append(connection)
        # It takes as many as leave something for the devices; the first one is served.
        connections[0].setblocking(True)
        connections[0].settimeout(PATIENCE)
        connections[0].send(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(connections[0].recv(4096).startswith(b"HTTP/1.1 200"))
        # Up to four at once are accepted before it looks at how many there are.
        self.assertLessEqual(len(os.listdir(f"/proc/{vusbd.pid}/fd")), limit - 4)
        # Files take none of the daemon's descriptors.
        files = [self.open(vusbd.endpoint("web1", "00"), os.O_RDWR) for _ in range(limit * 2)]
        writer = self.open(vusbd.endpoint("web1", "01"), os.O_WRONLY)
        reader = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        os.write(writer, b"on")
        self.assertEqual(os.read(reader, 512), b"on")
        for connection in connections:
            connection.close()
        self.assertEqual(vusbd.ctl("GET", "/v1/status")["attachments"], 1)
        for file in files:
            os.close(file)
        self.assertEqual(vusbd.stop(), 0)

    def test_more_bytes_than_one_device_may_ask_for(self):
        vusbd = self.daemon("--emulate", "serial")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        # 16 MiB: 32 of the largest transfer.
        files = [self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK) for _ in range(33)]
        for file in files[:32]:
            self.assertErrno(errno.EAGAIN, os.read, file, LIMIT)
        self.assertErrno(errno.ENOMEM, os.read, files[32], 512)
        os.close(files[0])
        vusbd.until_in_flight(31)
        self.assertErrno(errno.EAGAIN, os.read, files[32], 512)
        for file in files[1:]:
            os.close(file)
        vusbd.until_in_flight(0)
        self.assertEqual(vusbd.stop(), 0)

    def test_more_urbs_than_one_device_may_have(self):
        vusbd = self.daemon("--emulate", "serial")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        files = []
        refused = None
        # Each descriptor with one URB ahead; 4,096 is the device's limit.
        for _ in range(4200):
            file = os.open(vusbd.endpoint("web1", "81"), os.O_RDONLY | os.O_NONBLOCK)
            files.append(file)
            try:
                os.read(file, 512)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    refused = error.errno
                    break
        self.assertEqual(refused, errno.ENOMEM)
        self.assertEqual(vusbd.in_flight(), 4096)
        for file in files:
            os.close(file)
        vusbd.until_in_flight(0)
        self.assertEqual(vusbd.stop(), 0)

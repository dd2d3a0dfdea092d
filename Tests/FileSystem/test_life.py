# SPDX-License-Identifier: Apache-2.0
"""Start, stop, kill and restart; many guests at once."""

import errno
import json
import os
import select
import signal
import socket
import subprocess

from harness import Background, Case, Child, setup, until, wait_state

READER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print("ready", flush=True)
try: print("got", os.read(file, 512))
except OSError as error: print("errno", error.errno)
"""


class Stop(Case):
    def loaded(self, *arguments):
        vusbd = self.daemon("--emulate", "serial", *arguments)
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.load("web1")
        return vusbd

    def assertNothingLeft(self, vusbd):
        self.assertFalse(vusbd.is_mounted)
        self.assertEqual(os.listdir(vusbd.mount), [])
        self.assertFalse(vusbd.socket.exists())
        left = {path.name for path in vusbd.directory.iterdir()} - {"vusb", "state", "log", "notify"}
        self.assertEqual(left, set())
        left = {path.name for path in vusbd.state.iterdir()} - {"images", "state.json", "state.json.previous"}
        self.assertEqual(left, set())

    def test_readiness_means_that_all_works(self):
        vusbd = self.daemon("--emulate", "serial")
        self.assertIn("READY=1", vusbd.notifications)
        self.assertTrue(vusbd.is_mounted)
        self.assertEqual(vusbd.ctl("GET", "/v1/status")["mount"], str(vusbd.mount))
        self.assertIn("emu-serial", os.listdir(vusbd.mount / "devices"))

    def test_sigterm_and_sigint_leave_nothing(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                vusbd = self.loaded()
                self.assertEqual(vusbd.stop(number), 0)
                vusbd.notified("STOPPING=1")
                self.assertNothingLeft(vusbd)

    def test_stop_with_readers_blocked_waits_for_them_and_then_cancels(self):
        vusbd = self.loaded()
        file = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        events = self.open(vusbd.guest("web1", "events"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        waiting = Background(self.read_all, events)
        vusbd.until_in_flight(1)
        self.assertEqual(vusbd.stop(), 0)
        with self.assertRaises(OSError) as caught:
            reader.result()
        self.assertIn(caught.exception.errno, (errno.ENODEV, errno.EBUSY, errno.ENOTCONN, errno.ECONNABORTED))
        self.assertIn(waiting.result(), (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED, 0))
        self.assertFalse(vusbd.is_mounted)

    @staticmethod
    def read_all(file):
        """Reads to the end, or to the error whose number it returns."""
        try:
            while os.read(file, 65536):
                pass
            return 0
        except OSError as error:
            return error.errno

    def test_a_second_signal_hurries(self):
        vusbd = self.loaded()
        file = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        vusbd.until_in_flight(1)
        vusbd.process.send_signal(signal.SIGTERM)
        vusbd.notified("STOPPING=1")
        # A second one before the drain has begun would hurry nothing; that it has shows at endpoint 0.
        control = self.open(vusbd.endpoint("web1", "00"), os.O_RDWR)

        def is_draining():
            try:
                os.write(control, setup(0x21, 0x22, 1))  # SET_CONTROL_LINE_STATE
            except OSError as error:
                return error.errno == errno.EBUSY

        until(is_draining)
        vusbd.process.send_signal(signal.SIGTERM)
        # Without it, the drain's deadline is 5 s.
        self.assertEqual(vusbd.process.wait(3), 0)
        with self.assertRaises(OSError):
            reader.result()

    def test_stop_with_files_open(self):
        vusbd = self.loaded()
        file = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        self.assertEqual(vusbd.stop(), 0)
        with self.assertRaises(OSError) as caught:
            os.read(file, 512)
        self.assertIn(caught.exception.errno, (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV))
        self.assertFalse(vusbd.is_mounted)

    def test_an_unmount_by_somebody_else_ends_it(self):
        vusbd = self.loaded()
        subprocess.run(["umount", vusbd.mount], check=True)
        self.assertEqual(vusbd.process.wait(20), 0)
        self.assertNothingLeft(vusbd)

    def test_guests_and_numbers_come_back_after_a_stop(self):
        vusbd = self.loaded("--emulate", "serial,name=two")
        vusbd.attach("emu-two", "web1")
        vusbd.detach("emu-serial")
        self.assertEqual(vusbd.stop(), 0)
        vusbd.start()
        self.assertEqual(os.listdir(vusbd.guest("web1", "devices")), ["1-2"])
        self.assertEqual(vusbd.guest("web1", "devices", "1-2", "dev").read_text(), "512:2\n")

    def test_an_unloaded_guest_stays_unloaded(self):
        vusbd = self.loaded()
        vusbd.unload("web1")
        self.assertEqual(vusbd.stop(), 0)
        vusbd.start()
        self.assertEqual(vusbd.guest("web1", "state").read_text(), "unloaded\n")


class Kill(Case):
    def test_kill9_with_readers_blocked_then_a_restart_on_the_same_mount_point(self):
        vusbd = self.daemon("--emulate", "serial", "--emulate", "zero,name=zero")
        vusbd.add_guest("web1", devices=["emu-serial"], owner="12001", fileMode="0640")
        vusbd.add_guest("web2", devices=["emu-zero"])
        vusbd.add_guest("idle")
        vusbd.load("web1")
        vusbd.load("web2")
        children = [Child(READER, vusbd.endpoint("web1", "81")) for _ in range(3)]
        children.append(Child(READER, vusbd.guest("web2", "events")))
        for child in children:
            self.addCleanup(child.kill)
            self.assertEqual(child.line(), "ready")
        vusbd.until_in_flight(3)
        for child in children:
            until(lambda: wait_state(child.process.pid) in "SD")
        before = vusbd.ctl("GET", "/v1/guests")
        vusbd.kill9()
        # Nobody is stuck: each has an error, and ends.
        for child in children:
            word, number = child.line().split()
            self.assertEqual(word, "errno")
            self.assertIn(int(number), (errno.ENOTCONN, errno.ECONNABORTED))
            child.process.wait(20)
        self.assertTrue(vusbd.is_mounted)
        self.assertErrno(errno.ENOTCONN, os.listdir, vusbd.mount)
        # The socket and the stale mount are in the way of nothing.
        vusbd.notifications.clear()
        vusbd.start()
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        self.assertEqual(mounts.count(str(vusbd.mount)), 1)
        self.assertIn("cleared the mount", vusbd.log.read_text())
        after = vusbd.ctl("GET", "/v1/guests")
        counters = ("urbsInFlight", "urbs", "failedURBs", "bytesIn", "bytesOut", "busy")
        for guest in (*before, *after):
            for attachment in guest["attachments"]:
                for counter in counters:
                    del attachment[counter]
        self.assertEqual(after, before)
        self.assertEqual(len(vusbd.ctl("GET", "/v1/guests/web1")["attachments"]), 1)
        reader = self.open(vusbd.endpoint("web2", "81"), os.O_RDONLY)
        self.assertEqual(os.read(reader, 512), bytes(512))
        self.assertEqual(vusbd.stop(), 0)
        self.assertFalse(vusbd.is_mounted)

    def test_kill9_at_any_moment_of_attach_and_detach(self):
        """What was answered is there again; what wasn't may be."""
        vusbd = self.daemon("--emulate", "zero,name=z,count=4")
        vusbd.add_guest("web1")
        vusbd.load("web1")
        held = set()
        for turn in range(4):
            device = f"emu-z-{turn + 1}"
            vusbd.attach(device, "web1")
            held.add(device)
            if turn % 2:
                vusbd.detach("emu-z-1" if turn == 1 else device)
                held.discard("emu-z-1" if turn == 1 else device)
            vusbd.kill9()
            vusbd.notifications.clear()
            vusbd.start()
            attached = {found["device"] for found in vusbd.ctl("GET", "/v1/guests/web1")["attachments"]}
            self.assertEqual(attached, held)
        self.assertEqual(vusbd.stop(), 0)

    def test_a_client_that_is_killed_in_the_middle_of_a_request_leaves_the_daemon_well(self):
        vusbd = self.daemon("--emulate", "zero,name=zero")
        for text in (b"GET /v1/status HT", b"POST /v1/guests HTTP/1.1\r\nContent-Length: 500\r\n\r\n{", b"\0" * 1000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(vusbd.socket))
                client.send(text)
        self.assertEqual(vusbd.ctl("GET", "/v1/status")["pid"], vusbd.pid)


class Process(Case):
    """A guest that is a process: its end is the guest's."""

    def events(self, file, until_state):
        """Reads a guest's events until it is in that state."""
        while True:
            for line in os.read(file, 65536).splitlines():
                event = json.loads(line)
                if event["type"] == "guest-state" and event["detail"] == until_state:
                    return

    def loaded(self):
        vusbd = self.daemon("--emulate", "serial")
        vusbd.add_guest("web1", devices=["emu-serial"])
        process = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        vusbd.wait(vusbd.ctl("POST", "/v1/guests/web1/load", {"process": process.pid}))
        return vusbd, process

    def test_its_end_unloads_the_guest_whatever_is_in_flight(self):
        vusbd, process = self.loaded()
        events = self.open(vusbd.guest("web1", "events"), os.O_RDONLY)
        file = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        reader = Background(os.read, file, 512)
        vusbd.until_in_flight(1)
        process.kill()
        Background(self.events, events, "unloaded").result()
        with self.assertRaises(OSError):
            reader.result()
        self.assertEqual(vusbd.guest("web1", "state").read_text(), "unloaded\n")
        self.assertEqual(vusbd.ctl("GET", "/v1/devices/emu-serial")["state"], "available")

    def test_a_process_that_ends_while_vusbd_does_not_run(self):
        vusbd, process = self.loaded()
        vusbd.kill9()
        process.kill()
        process.wait()
        vusbd.notifications.clear()
        vusbd.start()
        self.assertEqual(vusbd.guest("web1", "state").read_text(), "unloaded\n")
        self.assertEqual(vusbd.stop(), 0)

    def test_a_process_that_there_is_not(self):
        vusbd = self.daemon()
        vusbd.add_guest("web1")
        process = subprocess.Popen(["true"])
        process.wait()
        load = lambda: vusbd.ctl("POST", "/v1/guests/web1/load", {"process": process.pid})
        self.assertProblem(409, "conflict", load, mentions=[str(process.pid)])
        self.assertEqual(vusbd.guest("web1", "state").read_text(), "unloaded\n")


class Many(Case):
    def test_ten_guests_on_ten_devices_at_once(self):
        vusbd = self.daemon("--emulate", "serial,name=s,count=10")
        names = [f"guest-{n}" for n in range(1, 11)]
        for number, name in enumerate(names, 1):
            vusbd.add_guest(name, devices=[f"emu-s-{number}"])
        for loading in [Background(vusbd.load, name) for name in names]:
            loading.result()

        def echo(name):
            writer = os.open(vusbd.endpoint(name, "01"), os.O_WRONLY)
            reader = os.open(vusbd.endpoint(name, "81"), os.O_RDONLY)
            for turn in range(50):
                text = f"{name} {turn}".encode() * 20
                assert os.write(writer, text) == len(text)
                got = b""
                while len(got) < len(text):
                    got += os.read(reader, 4096)
                assert got == text, (got, text)
            os.close(writer)
            os.close(reader)

        for work in [Background(echo, name) for name in names]:
            work.result()
        for unloading in [Background(vusbd.unload, name) for name in names]:
            unloading.result()
        self.assertEqual(vusbd.ctl("GET", "/v1/status")["attachments"], 0)
        self.assertEqual(vusbd.stop(), 0)

    def test_several_reader_threads_serve_alike(self):
        vusbd = self.daemon("--emulate", "serial,name=s,count=4", "--readers", "4")
        for number in range(1, 5):
            vusbd.add_guest(f"g{number}", devices=[f"emu-s-{number}"])
            vusbd.load(f"g{number}")

        def work(name):
            writer = os.open(vusbd.endpoint(name, "01"), os.O_WRONLY)
            reader = os.open(vusbd.endpoint(name, "81"), os.O_RDONLY | os.O_NONBLOCK)
            for turn in range(100):
                text = f"{name}:{turn}".encode()
                os.write(writer, text)
                while True:
                    try:
                        assert os.read(reader, 512) == text
                        break
                    except BlockingIOError:
                        select.select([reader], [], [], 20)
            os.close(writer)
            os.close(reader)

        for thread in [Background(work, f"g{number}") for number in (1, 2, 3, 4)]:
            thread.result()
        # Nothing blocked may keep it from stopping.
        file = self.open(vusbd.endpoint("g1", "81"), os.O_RDONLY | os.O_NONBLOCK)
        self.assertErrno(errno.EAGAIN, os.read, file, 512)
        os.close(file)
        self.assertEqual(vusbd.stop(), 0)

    def test_attach_and_detach_while_others_read(self):
        vusbd = self.daemon("--emulate", "serial", "--emulate", "zero,name=zero")
        vusbd.add_guest("web1", devices=["emu-serial"])
        vusbd.add_guest("web2")
        vusbd.load("web1")
        vusbd.load("web2")
        writer = self.open(vusbd.endpoint("web1", "01"), os.O_WRONLY)
        reader = self.open(vusbd.endpoint("web1", "81"), os.O_RDONLY)
        for turn in range(20):
            waiting = Background(os.read, reader, 512)
            vusbd.attach("emu-zero", "web2")
            path = vusbd.ctl("GET", "/v1/guests/web2")["attachments"][0]["path"]
            file = os.open(vusbd.endpoint("web2", "81", path), os.O_RDONLY)
            self.assertEqual(os.read(file, 512), bytes(512))
            vusbd.detach("emu-zero", deadlineSeconds=0, onDeadline="cancel")
            self.assertErrno(errno.ENODEV, os.read, file, 512)
            os.close(file)
            os.write(writer, b"%d" % turn)
            self.assertEqual(waiting.result(), b"%d" % turn)
        self.assertEqual(vusbd.stop(), 0)

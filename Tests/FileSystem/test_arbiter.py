# SPDX-License-Identifier: Apache-2.0
"""Whose device it is, and how it goes from one guest to another."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

from harness import PATIENCE, VUSBCTL, Background, Case, Child, SharedDaemon, until

PATTERN = bytes(n % 63 for n in range(512))


class Switching(SharedDaemon):
    arguments = ["--emulate", "serial", "--emulate", "zero,name=zero,pattern=mod63"]
    guests = {"web1": {"priority": 60}, "web2": {}}

    def setUp(self):
        self.vusbd.attach("emu-zero", "web1")
        self.addCleanup(self.give_back)

    def give_back(self):
        self.vusbd.detach("emu-zero", deadlineSeconds=0, onDeadline="cancel")

    def run_vusbctl(self, *arguments, code=0):
        result = self.vusbd.vusbctl(*arguments)
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def start_vusbctl(self, *arguments):
        command = [VUSBCTL, *arguments, "--socket", self.vusbd.socket]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        return process

    def line_with(self, process, text):
        for line in process.stderr:
            if text in line:
                return line
        self.fail(f"ended without saying {text!r}")

    def holder(self):
        return self.vusbd.ctl("GET", "/v1/devices/emu-zero").get("attachment", {}).get("guest")

    def endpoint(self, guest):
        [attachment] = self.vusbd.ctl("GET", f"/v1/guests/{guest}")["attachments"]
        return self.vusbd.endpoint(guest, "81", attachment["path"])

    def test_a_device_that_is_used_is_refused_with_the_reason_and_then_goes_over(self):
        with open(self.endpoint("web1"), "rb", buffering=0) as file:
            said = self.run_vusbctl("switch", "emu-zero", "web2", "--deadline", "100ms", code=4)
            self.assertIn("1 endpoint file is open", said)
            self.assertEqual(file.read(512), PATTERN)
        said = self.run_vusbctl("switch", "emu-zero", "web2")
        for step in ("draining", "reset emu-zero", "attached emu-zero"):
            self.assertIn(step, said)
        self.assertEqual(self.holder(), "web2")

    def test_an_interrupted_wait_leaves_all_as_it_was(self):
        with open(self.endpoint("web1"), "rb", buffering=0) as file:
            switch = self.start_vusbctl("switch", "emu-zero", "web2", "--on-deadline", "wait")
            self.line_with(switch, "waiting for emu-zero: 1 endpoint file is open")
            switch.send_signal(signal.SIGINT)
            self.assertEqual(switch.wait(PATIENCE), 130)
            self.assertEqual(self.holder(), "web1")
            self.assertEqual(file.read(512), PATTERN)

    def test_a_wait_ends_when_the_file_is_closed(self):
        with open(self.endpoint("web1"), "rb", buffering=0):
            switch = self.start_vusbctl("switch", "emu-zero", "web2", "--on-deadline", "wait")
            self.line_with(switch, "1 endpoint file is open")
        self.assertEqual(switch.wait(PATIENCE), 0)
        self.assertEqual(self.holder(), "web2")

    def test_a_request_asks_the_holder_in_its_own_words(self):
        with open(self.vusbd.guest("web1", "events"), "rb", buffering=0) as events:
            request = self.start_vusbctl("request", "emu-zero", "web2")
            line = next(line for line in iter(events.readline, b"") if b"device-requested" in line)
            event = json.loads(line)
            self.assertEqual((event["path"], event["detail"]), ("1-1", "somebody waits for it"))
            self.assertNotIn(b"web2", line)
        self.assertEqual(self.vusbd.ctl("GET", "/v1/devices/emu-zero")["waiting"], ["web2"])
        self.give_back()
        self.assertEqual(request.wait(PATIENCE), 0)
        self.assertEqual(self.holder(), "web2")

    def test_a_hold_keeps_it(self):
        self.run_vusbctl("hold", "emu-zero", "--for", "1h", "--reason", "backup")
        self.assertIn("somebody holds it: backup", self.run_vusbctl("switch", "emu-zero", "web2", "--deadline", "0s", code=4))
        self.run_vusbctl("hold", "emu-zero", "--end")
        self.run_vusbctl("hold", "emu-zero", "--end", code=1)
        self.run_vusbctl("switch", "emu-zero", "web2")

    def test_a_thousand_switches_while_both_guests_read(self):
        fds, threads = self.resources()
        done = threading.Event()
        counts = {"web1": 0, "web2": 0}
        wrong = []

        def read(guest):
            while not done.is_set():
                try:
                    with open(self.vusbd.guest(guest, "devices", "1-1", "ep", "81"), "rb", buffering=0) as file:
                        for _ in range(4):
                            data = file.read(512)
                            counts[guest] += 1
                            if data != PATTERN:
                                wrong.append((guest, data))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBUSY):
                        wrong.append((guest, error))

        readers = [threading.Thread(target=read, args=(guest,)) for guest in counts]
        for reader in readers:
            reader.start()
        try:
            for turn in range(1000):
                target = ("web2", "web1")[turn % 2]
                operation = self.vusbd.ctl(
                    "POST", "/v1/devices/emu-zero/switch",
                    {"guest": target, "deadlineSeconds": 0, "onDeadline": "cancel"})
                self.vusbd.wait(operation)
        finally:
            done.set()
            for reader in readers:
                reader.join(PATIENCE)
        self.assertEqual(wrong, [])
        self.assertEqual(self.holder(), "web1")
        for guest, count in counts.items():
            self.assertGreater(count, 0, guest)
        # What another case has left may have gone meanwhile.
        until(
            lambda: all(now <= before for now, before in zip(self.resources(), (fds, threads))),
            lambda: f"{self.resources()}, not {(fds, threads)}")

    def resources(self):
        process = f"/proc/{self.vusbd.process.pid}"
        return len(os.listdir(process + "/fd")), len(os.listdir(process + "/task"))


class Claims(Case):
    def test_claims_decide_at_each_plug_and_after_a_restart(self):
        vusbd = self.daemon("--emulate", "zero,name=a", "--emulate", "serial,name=b")
        for guest in ("web1", "web2"):
            vusbd.add_guest(guest)
            vusbd.load(guest)

        def ctl(*arguments, code=0):
            result = vusbd.vusbctl(*arguments)
            self.assertEqual(result.returncode, code, f"{arguments}: {result.stdout}{result.stderr}")
            return result.stdout + result.stderr

        def holder(device):
            return vusbd.ctl("GET", f"/v1/devices/{device}").get("attachment", {}).get("guest")

        ctl("claim", "add", "serials", "--match", "class=02", "--guest", "web2")
        ctl("claim", "add", "rest", "--match", "source=emulation", "--except", "port=emu-c", "--guest", "web1", "--guest", "web2")
        until(lambda: (holder("emu-a"), holder("emu-b")) == ("web1", "web2"))
        said = ctl("claim", "add", "late", "--match", "class=02", "--match", "source=emulation", "--guest", "web1", code=1)
        self.assertIn("claim serials, before it", said)
        ctl("claim", "add", "bad", "--match", "class=2", "--guest", "web1", code=2)
        ctl("emulate", "zero,name=c")
        self.assertIn("excepted by port=emu-c", ctl("claim", "explain", "emu-c"))
        ctl("unload", "web1")
        until(lambda: holder("emu-a") == "web2")
        vusbd.kill9()
        vusbd.start()
        self.assertEqual([claim["name"] for claim in vusbd.ctl("GET", "/v1/claims")], ["serials", "rest"])
        until(lambda: (holder("emu-a"), holder("emu-b")) == ("web2", "web2"))
        ctl("claim", "rm", "serials")
        ctl("claim", "rm", "serials", code=1)
        self.assertEqual(vusbd.stop(), 0)


TAP, RELEASED = bytes([0, 0, 0x47, 0, 0, 0, 0, 0]), bytes(8)


class Focus(Case):
    """A desk of a keyboard and a serial adapter, and two guests."""

    CONFIGURATION = """
focus:
  - name: desk
    devices: [emu-keyboard, emu-serial]
    guests: [web1, web2]
"""

    def setUp(self):
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "vusb.yaml").write_text(self.CONFIGURATION)
        self.vusbd = self.daemon(
            "--config", str(directory / "vusb.yaml"), "--emulate", "keyboard", "--emulate", "serial")
        for guest in ("web1", "web2"):
            self.vusbd.add_guest(guest)
            self.vusbd.load(guest)
        for device in ("emu-keyboard", "emu-serial"):
            self.vusbd.attach(device, "web1")

    def ctl(self, *arguments, code=0):
        result = self.vusbd.vusbctl(*arguments)
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def holders(self):
        devices = self.vusbd.ctl("GET", "/v1/devices")
        return {device["id"]: device.get("attachment", {}).get("guest") for device in devices}

    def all_with(self, guest):
        return self.holders() == {"emu-keyboard": guest, "emu-serial": guest}

    def endpoint(self, guest, device, address):
        attachments = self.vusbd.ctl("GET", f"/v1/guests/{guest}")["attachments"]
        [path] = [found["path"] for found in attachments if found["device"] == device]
        return self.vusbd.endpoint(guest, address, path)

    def keyboard(self, guest):
        return self.open(self.endpoint(guest, "emu-keyboard", "81"), os.O_RDONLY)

    def test_all_go_over_or_none(self):
        self.assertIn("desk  web1", self.ctl("focus"))
        keys = self.keyboard("web1")
        reading = Background(os.read, keys, 8)
        self.vusbd.until_in_flight(1)
        with open(self.endpoint("web1", "emu-serial", "81"), "rb", buffering=0):
            said = self.ctl("focus", "web2", "--deadline", "100ms", code=4)
            self.assertIn("1 endpoint file is open", said)
            self.assertTrue(self.all_with("web1"))
            self.assertTrue(reading.is_running)
        self.ctl("focus", "web2")
        self.assertTrue(self.all_with("web2"))
        with self.assertRaises(OSError):
            reading.result()
        self.assertEqual(json.loads(self.ctl("focus", "--json"))[0]["focused"], "web2")
        self.ctl("focus", "nobody", code=1)
        self.ctl("focus", "--deadline", "1s", code=2)

    def test_the_hot_key_moves_them_and_no_guest_sees_it(self):
        keys = self.keyboard("web1")
        reading = Background(os.read, keys, 8)
        self.vusbd.until_in_flight(1)
        self.ctl("type", "emu-keyboard", "--keys", "scrolllock,scrolllock,2")
        until(lambda: self.all_with("web2"))
        with self.assertRaises(OSError):
            reading.result()
        keys = self.keyboard("web2")
        self.ctl("type", "emu-keyboard", "a")
        # What of the digit is left is its release at most.
        report = os.read(keys, 8)
        while report == RELEASED:
            report = os.read(keys, 8)
        self.assertEqual(report, bytes([0, 0, 4, 0, 0, 0, 0, 0]))
        os.read(keys, 8)
        reading = Background(os.read, keys, 8)
        self.vusbd.until_in_flight(1)
        self.ctl("type", "emu-keyboard", "--keys", "scrolllock,scrolllock,1")
        until(lambda: self.all_with("web1"))

    def test_a_tap_that_is_no_chord_comes_to_the_guest_a_little_later(self):
        keys = self.keyboard("web1")
        self.ctl("type", "emu-keyboard", "--keys", "scrolllock")
        self.assertEqual([os.read(keys, 8), os.read(keys, 8)], [TAP, RELEASED])
        self.ctl("type", "emu-keyboard", "--keys", "scrolllock,scrolllock,a")
        reports = [os.read(keys, 8) for _ in range(6)]
        self.assertEqual(reports[:4], [TAP, RELEASED, TAP, RELEASED])
        self.assertEqual([report[2] for report in reports[4:]], [4, 0])
        self.ctl("type", "emu-keyboard", "--keys", "nosuchkey", code=2)


# Reads its device all the time, and says that it lives.
BEATING = """
import os, sys
beats = os.open(sys.argv[1], os.O_WRONLY)
said = False
while True:
    os.write(beats, b"x")
    try:
        with open(sys.argv[2], "rb", buffering=0) as file:
            file.read(512)
        if not said:
            print("reading", flush=True)
        said = True
    except OSError:
        pass  # It may be another's just now.
"""


class Leases(Case):
    """A guest that has promised to be heard of is a process that is stopped."""

    def test_a_stopped_process_loses_its_device_to_the_next_and_has_it_back(self):
        vusbd = self.daemon("--emulate", "zero,name=zero,pattern=mod63")
        self.ctl = vusbd.ctl
        self.ctl("POST", "/v1/claims", {
            "name": "zero", "match": ["source=emulation"], "guests": ["web1", "web2"], "failBack": "now"})
        vusbd.add_guest("web1", heartbeatSeconds=1)
        vusbd.add_guest("web2")
        vusbd.load("web1")
        vusbd.load("web2")
        until(lambda: self.holder() == "web1")
        program = Child(BEATING, vusbd.guest("web1", "heartbeat"), vusbd.endpoint("web1", "81"))
        self.addCleanup(program.kill)
        self.assertEqual(program.line(), "reading")
        program.process.send_signal(signal.SIGSTOP)
        until(lambda: self.holder() == "web2")
        self.assertTrue(self.ctl("GET", "/v1/guests/web1")["silent"])
        with open(vusbd.endpoint("web2", "81"), "rb", buffering=0) as file:
            self.assertEqual(file.read(512), PATTERN)
        program.process.send_signal(signal.SIGCONT)
        until(lambda: self.holder() == "web1")
        self.assertFalse(self.ctl("GET", "/v1/guests/web1")["silent"])

    def holder(self):
        return self.ctl("GET", "/v1/devices/emu-zero").get("attachment", {}).get("guest")

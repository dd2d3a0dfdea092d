# SPDX-License-Identifier: Apache-2.0
"""A guest's whole life by vusbctl, and the same by curl alone."""

import json
import os
import pathlib
import select
import socket
import subprocess
import unittest

from harness import PATIENCE, ROOT, VUSBCTL, Case, NotReady, SharedDaemon


class Vusbctl(SharedDaemon):
    arguments = ["--emulate", "serial", "--emulate", "zero,name=zero"]

    def run_vusbctl(self, *arguments, code=0):
        result = self.vusbd.vusbctl(*arguments)
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stdout}{result.stderr}")
        return result.stdout

    def read_json(self, *arguments):
        return json.loads(self.run_vusbctl(*arguments, "--json"))

    def test_a_guests_life(self):
        self.run_vusbctl("guest", "add", "web1", "--owner", "12001", "--file-mode", "0640", "--device", "emu-serial")
        self.assertEqual(self.vusbd.guest("web1").stat().st_uid, 12001)
        self.run_vusbctl("load", "web1")
        self.run_vusbctl("attach", "0525:a4a0", "web1")
        [guest] = [guest for guest in self.read_json("guests") if guest["name"] == "web1"]
        self.assertEqual([held["device"] for held in guest["attachments"]], ["emu-serial", "emu-zero"])
        self.assertEqual(self.read_json("status")["attachments"], 2)
        states = {device["id"]: device["state"] for device in self.read_json("devices")}
        self.assertEqual(states, {"emu-serial": "attached", "emu-zero": "attached"})
        for table in (("devices",), ("guests",), ("status",)):
            self.assertIn("emu-zero", self.run_vusbctl(*table))
        self.run_vusbctl("detach", "emu-zero")
        self.run_vusbctl("unload", "web1")
        self.assertEqual(self.vusbd.guest("web1", "state").read_text(), "unloaded\n")
        self.run_vusbctl("guest", "rm", "web1")
        self.assertFalse(self.vusbd.guest("web1").exists())

    def test_emulate_and_unplug(self):
        self.assertEqual(self.run_vusbctl("emulate", "zero,name=late"), "emu-late\n")
        self.run_vusbctl("unplug", "emu-late")
        self.run_vusbctl("unplug", "emu-late", code=1)

    def test_a_device_is_given_back_reset(self):
        self.run_vusbctl("guest", "add", "resets")
        self.run_vusbctl("load", "resets")
        self.run_vusbctl("attach", "emu-zero", "resets")
        with open(self.vusbd.endpoint("resets", "00"), "r+b", buffering=0) as file:
            file.write(bytes([1, 11, 2, 0, 0, 0, 0, 0]))  # SET_INTERFACE, alternate setting 2
            self.run_vusbctl("detach", "emu-zero", "--deadline", "0s", code=4)
        steps = [step["name"] for step in self.read_json("detach", "emu-zero")["steps"]]
        self.assertIn("reset emu-zero", steps)
        # Who has it next finds it as it was plugged in.
        self.run_vusbctl("attach", "emu-zero", "resets")
        self.assertEqual(set(os.listdir(self.vusbd.guest("resets", "devices", "1-1", "ep"))), {"00", "81", "02"})
        self.run_vusbctl("unload", "resets")
        self.run_vusbctl("guest", "rm", "resets")

    def test_watch_tells_of_events_as_they_happen(self):
        command = [VUSBCTL, "watch", "--json", "--socket", self.vusbd.socket]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.wait, PATIENCE)
        self.addCleanup(watch.kill)
        names, types = [], []
        # Whether it listens already only shows by what it prints: a guest after the other, until it does.
        while not types:
            names.append(f"watched-{len(names)}")
            self.vusbd.add_guest(names[-1])
            if select.select([watch.stdout], [], [], 0.05)[0]:
                event = json.loads(watch.stdout.readline())
                types.append((event["type"], event["guest"]))
        self.assertEqual(types[0], ("guest-added", types[0][1]))
        for name in names:
            self.vusbd.ctl("DELETE", f"/v1/guests/{name}")
        while ("guest-removed", names[-1]) not in types:
            event = json.loads(watch.stdout.readline())
            types.append((event["type"], event["guest"]))

    def test_a_reader_that_went_away_ends_what_runs_on(self):
        for arguments in (["watch", "--after", "0"], ["status", "--watch"]):
            command = [VUSBCTL, *arguments, "--socket", self.vusbd.socket]
            running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(running.stderr.close)
            self.addCleanup(running.wait, PATIENCE)
            self.addCleanup(running.kill)
            self.assertNotEqual(running.stdout.readline(), "")
            running.stdout.close()
            # Of `watch` nothing more is printed: no event comes.
            self.assertEqual((running.wait(PATIENCE), running.stderr.read()), (141, ""), arguments)

    def test_what_cannot_be_printed_is_a_failure(self):
        for arguments in (["devices"], ["devices", "--json"], ["watch", "--after", "0"], ["--version"]):
            command = [VUSBCTL, *arguments]
            environment = {**os.environ, "VUSB_SOCKET": str(self.vusbd.socket)}
            with open("/dev/full", "w") as full:
                result = subprocess.run(
                    command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE * 2)
            message = "vusbctl: the standard output can't be written: No space left on device\n"
            self.assertEqual((result.returncode, result.stderr), (1, message), arguments)

    def test_doctor_looks_at_the_mount(self):
        findings = self.read_json("doctor")
        self.assertTrue(findings)
        for finding in findings:
            self.assertIn(finding["level"], ("ok", "warning", "error"))
            self.assertTrue(finding["level"] == "ok" or finding.get("remedy"), finding)


    def complaint(self, *arguments, code):
        result = self.vusbd.vusbctl(*arguments)
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stdout}{result.stderr}")
        return result.stderr

    def test_the_command_that_was_probably_meant_is_suggested(self):
        self.assertTrue(self.complaint("improt", "10.0.0.2", code=2).endswith("\ndid you mean 'import'?\n"))
        self.assertTrue(self.complaint("guest", "ad", "web1", code=2).endswith("\ndid you mean 'add'?\n"))
        for arguments in (["frobnicate"], ["status", "--wach"], ["attach"]):
            self.assertNotIn("did you mean 'import'", self.complaint(*arguments, code=2))

    def test_addresses_and_users_that_cannot_be_are_told_of(self):
        self.run_vusbctl("guest", "add", "pc1", "--listen", "tcp:13240")
        self.assertIn("guest pc1 does so at tcp:127.0.0.1:13240",
                      self.complaint("guest", "add", "pc2", "--listen", "tcp:0.0.0.0:13240", code=1))
        self.run_vusbctl("guest", "rm", "pc1")
        said = self.complaint("guest", "add", "pc2", "--client", "user:no-such-user", code=2)
        self.assertIn("this host has no user 'no-such-user'", said)
        self.assertIn("user:1000", said)


class Doctor(Case):
    def test_a_port_that_another_program_has_is_found(self):
        vusbd = self.daemon()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            vusbd.add_guest("pc1", listen=[f"tcp:{port}"])
            vusbd.add_guest("pc2", listen=["tcp:0.0.0.0:13241"])
            found = {item["check"]: item for item in json.loads(vusbd.vusbctl("doctor", "--json").stdout)}
            first = found[f"usbip tcp:127.0.0.1:{port}"]
            self.assertEqual(first["level"], "warning")
            self.assertIn("Address already in use", first["summary"])
            self.assertIn("nothing is encrypted", found["usbip tcp:0.0.0.0:13241"]["summary"])
        found = {item["check"]: item for item in json.loads(vusbd.vusbctl("doctor", "--json").stdout)}
        self.assertEqual(found[f"usbip tcp:127.0.0.1:{port}"]["level"], "ok")
        vusbd.load("pc1")
        self.assertIn("open to clients of guest pc1", vusbd.vusbctl("doctor").stdout)

    def test_a_helper_that_was_named_must_be_there(self):
        vusbd = self.daemon(start=False)
        with self.assertRaises(NotReady) as refused:
            vusbd.start("--attach-helper", "/nope/vusb-attach")
        self.assertEqual(refused.exception.code, 1)
        self.assertIn("vusbd: --attach-helper: /nope/vusb-attach: no such file; ", refused.exception.text)
        vusbd.start("--attach-helper", "/usr/bin/true")
        [found] = [item for item in vusbd.ctl("GET", "/v1/doctor") if item["check"] == "attach-helper"]
        self.assertEqual(found["level"], "warning")
        self.assertIn("isn't static", found["summary"])


class Curl(SharedDaemon):
    arguments = ["--emulate", "serial"]

    def curl(self, method, path, body=None):
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--request", method]
        command += ["--unix-socket", self.vusbd.socket]
        if body is not None:
            command += ["--json", body]
        result = subprocess.run([*command, "http://localhost" + path], capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 0, result)
        return json.loads(result.stdout) if result.stdout else None

    def follow(self, operation):
        ended = self.curl("GET", f"/v1/operations/{operation['id']}?wait=10")
        self.assertEqual(ended["state"], "succeeded", ended)

    def test_curl_alone_can_do_all_of_it(self):
        self.curl("POST", "/v1/guests", '{"name": "web1"}')
        self.follow(self.curl("POST", "/v1/guests/web1/load"))
        self.follow(self.curl("POST", "/v1/devices/0525%3Aa4a7/attach", '{"guest": "web1"}'))
        self.assertTrue(self.vusbd.endpoint("web1", "81").exists())
        self.follow(self.curl("POST", "/v1/devices/emu-serial/detach", "{}"))
        self.follow(self.curl("POST", "/v1/guests/web1/unload", '{"deadlineSeconds": 1, "onDeadline": "cancel"}'))
        self.curl("DELETE", "/v1/guests/web1")
        self.assertEqual(self.curl("GET", "/v1/guests"), [])


class Demo(unittest.TestCase):
    def test_the_demo_ends_by_itself_and_leaves_nothing(self):
        demo = pathlib.Path(__file__).parents[2] / "examples" / "demo.sh"
        place = ROOT / "demo"
        place.mkdir()
        environment = {**os.environ, "TMPDIR": str(place)}
        result = subprocess.run([demo], env=environment, capture_output=True, text=True, timeout=15)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        for text in ("\nhello, serial\n", "\nThese bytes came over USB, through two files.\n", "\nunloaded\n"):
            self.assertIn(text, result.stdout)
        self.assertEqual(os.listdir(place), [])
        self.assertNotIn(str(place), pathlib.Path("/proc/self/mountinfo").read_text())

# SPDX-License-Identifier: Apache-2.0
"""Who may do what on the control socket: operators, viewers, and who owns a guest. Each is a user of its own, who runs
vusbctl."""

import json
import pathlib
import shutil
import subprocess
import tempfile

from harness import PATIENCE, VUSBCTL, Case

OPERATOR, VIEWER, OWNER, STRANGER = 20001, 20002, 20003, 20004
CONFIGURATION = f"""
socket-mode: "0666"
access:
  - user: "{OPERATOR}"
    role: operator
  - user: "{VIEWER}"
    role: viewer
  - group: "{OWNER}"
    role: guest
    guests: [web1]
"""


class Access(Case):
    def setUp(self):
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "vusb.yaml").write_text(CONFIGURATION)
        self.vusbd = self.daemon("--config", str(directory / "vusb.yaml"), "--emulate", "zero", "--emulate", "serial")
        for guest in ("web1", "web2"):
            self.vusbd.add_guest(guest)
            self.vusbd.load(guest)
        self.vusbd.attach("emu-zero", "web2")

    def run_as(self, user, *arguments, code=0):
        """vusbctl as that user, whose group has the same number."""
        command = [VUSBCTL, *arguments, "--socket", self.vusbd.socket]
        result = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, user=user, group=user, extra_groups=[],
            timeout=PATIENCE)
        self.assertEqual(result.returncode, code, f"{user} {arguments}: {result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def refused_to(self, user, *arguments):
        return self.run_as(user, *arguments, code=3)

    def test_an_operator_may_do_all(self):
        self.run_as(OPERATOR, "guest", "add", "web3")
        self.run_as(OPERATOR, "attach", "emu-serial", "web2")
        self.run_as(OPERATOR, "detach", "emu-serial")

    def test_a_viewer_only_looks(self):
        self.assertIn("web1", self.run_as(VIEWER, "guests"))
        said = self.refused_to(VIEWER, "attach", "emu-serial", "web1")
        self.assertIn("access[1]", said)
        for command in (("detach", "emu-zero"), ("load", "web1"), ("guest", "add", "web3"), ("emulate", "zero,name=z")):
            self.refused_to(VIEWER, *command)

    def test_who_owns_a_guest_gives_it_devices_and_takes_no_others_away(self):
        self.run_as(OWNER, "attach", "emu-serial", "web1")
        self.run_as(OWNER, "switch", "emu-zero", "web1")
        self.run_as(OWNER, "detach", "emu-serial")
        self.refused_to(OWNER, "attach", "emu-serial", "web2")
        self.run_as(OPERATOR, "attach", "emu-serial", "web2")
        self.refused_to(OWNER, "detach", "emu-serial")
        self.refused_to(OWNER, "switch", "emu-serial", "web1", "--cancel")
        self.refused_to(OWNER, "unload", "web2")
        self.run_as(OWNER, "unload", "web1")

    def test_who_is_named_nowhere_may_nothing_and_what_is_refused_is_told(self):
        self.refused_to(STRANGER, "status")
        self.refused_to(VIEWER, "detach", "emu-zero")
        events = self.vusbd.log.read_text()
        self.assertIn(f"uid {STRANGER}", events)
        self.assertRegex(events, rf"access-denied.*uid {VIEWER}, process \d+: POST /v1/devices/emu-zero/detach: access\[1\]")

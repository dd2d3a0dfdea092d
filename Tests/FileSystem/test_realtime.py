# SPDX-License-Identifier: Apache-2.0
"""`realtime: true`: threads that carry data come before all others, and memory stays where it is."""

import json
import os
import pathlib
import shutil
import tempfile

from harness import Case


class RealTime(Case):
    def start(self, text, wrapper=()):
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "vusb.yaml").write_text(text)
        vusbd = self.daemon("--config", str(directory / "vusb.yaml"), "--emulate", "zero", start=False)
        return vusbd.start(wrapper=wrapper)

    def policies(self, vusbd):
        """By the threads' names."""
        tasks = pathlib.Path(f"/proc/{vusbd.process.pid}/task")
        return {
            (task / "comm").read_text().strip(): os.sched_getscheduler(int(task.name)) & ~os.SCHED_RESET_ON_FORK
            for task in tasks.iterdir()}

    def locked(self, vusbd):
        status = pathlib.Path(f"/proc/{vusbd.process.pid}/status").read_text()
        return int(status.split("VmLck:")[1].split()[0])

    def findings(self, vusbd):
        result = vusbd.vusbctl("doctor", "--json")
        return {one["check"]: one for one in json.loads(result.stdout) if one["check"].startswith("realtime")}

    def test_data_threads_are_sched_fifo_and_no_others_and_memory_is_locked(self):
        vusbd = self.start("realtime: true\n")
        policies = self.policies(vusbd)
        for name in ("vusb-fuse-0", "vusb-redirect", "vusb-char-0"):
            self.assertEqual(policies.pop(name), os.SCHED_FIFO, name)
        self.assertNotIn(os.SCHED_FIFO, policies.values())
        self.assertGreater(self.locked(vusbd), 1024)
        findings = self.findings(vusbd)
        self.assertEqual([one["level"] for one in findings.values()], ["ok", "ok"])
        self.assertIn("SCHED_FIFO", findings["realtime threads"]["summary"])

    def test_where_it_is_not_wanted_nothing_is_changed(self):
        vusbd = self.start("readers: 1\n")
        self.assertNotIn(os.SCHED_FIFO, self.policies(vusbd).values())
        self.assertEqual(self.locked(vusbd), 0)
        self.assertIn("the limits allow it", self.findings(vusbd)["realtime threads"]["summary"])

    def test_without_the_right_to_it_vusbd_runs_and_doctor_says_what_is_missing(self):
        vusbd = self.start("realtime: true\n", wrapper=("setpriv", "--bounding-set", "-sys_nice"))
        self.assertNotIn(os.SCHED_FIFO, self.policies(vusbd).values())
        finding = self.findings(vusbd)["realtime threads"]
        self.assertEqual(finding["level"], "error")
        self.assertIn("LimitRTPRIO", finding["remedy"])
        vusbd.add_guest("web1")
        vusbd.load("web1")

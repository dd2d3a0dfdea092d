# SPDX-License-Identifier: Apache-2.0
"""Who may do what: owner, group and mode of a guest's files, and who may use the socket."""

import grp
import json
import os
import pwd
import stat
import subprocess

from harness import ROOT, Child, SharedDaemon

# What a process of another user finds. Tries everything on one guest's files and prints errno's names.
PROBE = """
import errno, json, os, socket, sys
guest, control = sys.argv[1:3]
ep = guest + "/devices/1-1/ep/"
found = {}
def attempt(name, call):
    try:
        call()
        found[name] = "ok"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
def opened(path, flags):
    os.close(os.open(path, flags))
def use():
    out = os.open(ep + "01", os.O_WRONLY); os.write(out, b"mine"); os.close(out)
    inward = os.open(ep + "81", os.O_RDONLY); assert os.read(inward, 512) == b"mine"; os.close(inward)
def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(control)
attempt("list", lambda: os.listdir(guest))
attempt("stat", lambda: os.stat(guest + "/state"))
attempt("read attribute", lambda: opened(guest + "/devices/1-1/idVendor", os.O_RDONLY))
attempt("write attribute", lambda: opened(guest + "/devices/1-1/idVendor", os.O_WRONLY))
attempt("read in", lambda: opened(ep + "81", os.O_RDONLY))
attempt("write in", lambda: opened(ep + "81", os.O_WRONLY))
attempt("read out", lambda: opened(ep + "01", os.O_RDONLY))
attempt("write out", lambda: opened(ep + "01", os.O_WRONLY))
attempt("control", lambda: opened(ep + "00", os.O_RDWR))
attempt("events", lambda: opened(guest + "/events", os.O_RDONLY))
attempt("clock", lambda: opened(guest + "/clock", os.O_RDWR))
attempt("node", lambda: opened(guest + "/dev/bus/usb/001/002", os.O_RDWR))
attempt("use", use)
attempt("host", lambda: os.listdir(guest + "/../../devices"))
attempt("host device", lambda: os.stat(guest + "/../../devices/emu-serial"))
attempt("chmod", lambda: os.chmod(guest + "/state", 0o777))
attempt("socket", connect)
print(json.dumps(found))
"""

OWNER, GROUP, STRANGER = 12001, 12002, 12003


class Permissions(SharedDaemon):
    arguments = ["--emulate", "serial", "--emulate", "serial,name=shared", "--emulate", "serial,name=open"]
    guests = {
        "private": {"devices": ["emu-serial"], "owner": str(OWNER), "group": str(GROUP)},
        "shared": {"devices": ["emu-shared"], "owner": str(OWNER), "group": str(GROUP), "fileMode": "0660"},
        "open": {"devices": ["emu-open"], "owner": str(OWNER), "group": str(GROUP), "fileMode": "0644"},
    }

    def probe(self, guest, uid, gid):
        return json.loads(Child(PROBE, self.vusbd.guest(guest), self.vusbd.socket, uid=uid, gid=gid).end())

    def assertUsable(self, found):
        allowed = {"list", "stat", "read attribute", "read in", "write out", "control", "events", "clock", "use"}
        self.assertEqual({name for name, result in found.items() if result == "ok"}, allowed, found)
        self.assertEqual(found["node"], "EACCES")
        for name in ("write attribute", "write in", "read out"):
            self.assertEqual(found[name], "EACCES", name)

    def assertShut(self, found):
        self.assertEqual({name for name, result in found.items() if result == "ok"}, set(), found)
        for name in ("list", "stat", "read in", "write out", "control", "clock"):
            self.assertEqual(found[name], "EACCES", name)

    def test_the_owner_uses_its_files(self):
        self.assertUsable(self.probe("private", OWNER, STRANGER))

    def test_another_user_cannot_even_list(self):
        self.assertShut(self.probe("private", STRANGER, STRANGER))

    def test_without_group_bits_the_group_is_a_stranger(self):
        self.assertShut(self.probe("private", STRANGER, GROUP))

    def test_with_group_bits_the_group_uses_them(self):
        self.assertUsable(self.probe("shared", STRANGER, GROUP))
        self.assertShut(self.probe("shared", STRANGER, STRANGER))

    def test_others_may_read_where_the_mode_says_so(self):
        found = self.probe("open", STRANGER, STRANGER)
        allowed = {name for name, result in found.items() if result == "ok"}
        self.assertEqual(allowed, {"list", "stat", "read attribute", "read in", "events"})

    def test_modes_and_owners_are_shown(self):
        directory = self.vusbd.guest("shared")
        endpoints = directory / "devices" / "1-1" / "ep"
        expected = {
            directory: 0o550, directory / "state": 0o440, endpoints / "00": 0o660, endpoints / "81": 0o440,
            endpoints / "01": 0o220, directory / "dev/bus/usb/001/002": 0o660,
        }
        for path, mode in expected.items():
            found = path.stat()
            self.assertEqual((oct(stat.S_IMODE(found.st_mode)), found.st_uid, found.st_gid), (oct(mode), OWNER, GROUP))

    def test_the_socket_is_not_for_everybody(self):
        mode = stat.S_IMODE(self.vusbd.socket.stat().st_mode)
        self.assertEqual(mode & 0o007, 0, oct(mode))

    def test_a_guest_that_sees_only_its_own_directory(self):
        """As a container has it: a bind mount in a mount namespace of its own, and nothing else of /vusb."""
        place = ROOT / "only-web1"
        place.mkdir()
        script = """
            mount --bind "$1" "$2" && mount -t tmpfs none "$3" && cd "$2" &&
            setpriv --reuid "$4" --regid "$5" --clear-groups sh -c '
                printf hello >devices/1-1/ep/01 && head -c 5 devices/1-1/ep/81 && echo && cat state &&
                ls ../devices .. 2>/dev/null; ls "$0" | wc -l' "$3"
        """
        words = [self.vusbd.guest("private"), place, self.vusbd.mount, OWNER, GROUP]
        command = ["unshare", "-m", "sh", "-c", script, "sh", *map(str, words)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        lines = result.stdout.splitlines()
        self.assertEqual((lines[:2], lines[-1]), (["hello", "loaded"], "0"))
        self.assertNotIn("emu-serial", result.stdout)

    def test_names_of_accounts(self):
        self.vusbd.add_guest("named", owner="nobody", group="daemon")
        self.addCleanup(lambda: self.vusbd.ctl("DELETE", "/v1/guests/named"))
        found = self.vusbd.guest("named").stat()
        self.assertEqual((found.st_uid, found.st_gid), (pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid))
        wrong = lambda: self.vusbd.add_guest("none", owner="nobody-at-all")
        self.assertProblem(400, "malformed", wrong, mentions=["nobody-at-all", "none"])

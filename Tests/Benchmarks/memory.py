# SPDX-License-Identifier: Apache-2.0
"""What vusbd's memory is with nothing to do, and with a thousand devices on a hundred guests."""

import time

from servers import Vusbd

GUESTS = 100
DEVICES = 1000


def settled(server):
    """Its resident memory in KiB, once that has stopped to change."""
    last = server.memory()
    for _ in range(20):
        time.sleep(0.25)
        now = server.memory()
        if now == last:
            break
        last = now
    return last


def read_each(server, guests):
    for guest in guests:
        for device in server.devices(guest):
            with open(device / "ep" / "81", "rb", buffering=0) as file:
                file.read(512)


def memory(directory):
    """Resident memory step by step: a list of (what, devices that are attached, KiB)."""
    steps = []

    def note(server, what, attached):
        steps.append({"what": what, "attached": attached} | settled(server))

    idle = Vusbd(directory, name="idle")
    try:
        note(idle, "idle: no device, no guest", 0)
    finally:
        idle.close()

    each = DEVICES // GUESTS
    guests = {f"guest{number}": [f"emu-zero-{number * each + device + 1}" for device in range(each)]
              for number in range(GUESTS)}
    full = Vusbd(directory, name="full", emulate=[f"zero,count={DEVICES}"], guests=guests)
    try:
        note(full, f"{DEVICES} devices plugged in", 0)
        names = list(guests)
        for guest in names[:GUESTS // 2]:
            full.load(guest)
        note(full, f"{GUESTS // 2} guests loaded", DEVICES // 2)
        for guest in names[GUESTS // 2:]:
            full.load(guest)
        note(full, f"{GUESTS} guests loaded", DEVICES)
        read_each(full, names)
        note(full, "one read of each device", DEVICES)
    finally:
        full.close()
    return steps

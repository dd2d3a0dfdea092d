#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# gadget-cmsis-dap.py DIRECTORY: a debug probe with CMSIS-DAP 2, by FunctionFS mounted in DIRECTORY, and at its wires a
# debug port with nothing behind it.
import errno
import struct
import sys

from functionfs import Function

PACKET = 512
DPIDR = 0x2BA01477
OK, UNKNOWN = b"\x00", b"\xff"
ACKNOWLEDGED, NO_ANSWER = 1, 7


def text(value):
    return bytes([len(value) + 1]) + value.encode() + b"\0"


INFORMATION = {
    0x01: text("vusb tests"),
    0x02: text("CMSIS-DAP"),
    0x03: text("VUSBDAP1"),
    0x04: text("2.1.0"),
    0xF0: b"\x01\x01",  # It has SWD.
    0xFE: b"\x01\x04",  # Four packets at once,
    0xFF: b"\x02" + struct.pack("<H", PACKET),  # of this size.
}


class DebugPort:
    """Its power requests are granted at once; all else reads as it was written."""

    def __init__(self):
        self._registers = {0: DPIDR, 4: 0, 8: 0, 12: 0}

    def read(self, register):
        value = self._registers[register]
        return value | (value & 0x50000000) << 1 if register == 4 else value

    def write(self, register, value):
        # To 0, ABORT is written.
        if register != 0:
            self._registers[register] = value


def transfer(port, command):
    """DAP_Transfer: requests of the debug port, of which those that write have a value behind them."""
    count, position, values = command[2], 3, b""
    for done in range(count):
        request = command[position]
        position += 1
        if request & 1:
            return bytes([done, NO_ANSWER])  # It's for an access port.
        if request & 2:
            values += struct.pack("<I", port.read(request & 12))
        else:
            port.write(request & 12, *struct.unpack_from("<I", command, position))
            position += 4
    return bytes([count, ACKNOWLEDGED]) + values


def answer(port, command):
    kind = command[0]
    if kind == 0x00:  # DAP_Info
        return INFORMATION.get(command[1], b"\0")
    if kind == 0x02:  # DAP_Connect: in mode SWD, or not at all.
        return b"\x01" if command[1] in (0, 1) else b"\0"
    if kind == 0x05:
        return transfer(port, command)
    if kind == 0x10:  # DAP_SWJ_Pins: no reset.
        return b"\xa0"
    # LEDs, DAP_Disconnect, DAP_TransferConfigure, DAP_SWJ_Clock, DAP_SWJ_Sequence, DAP_SWD_Configure
    return OK if kind in (0x01, 0x03, 0x04, 0x11, 0x12, 0x13) else None


def serve(function):
    """Until the host goes."""
    port = DebugPort()
    try:
        while True:
            command = function.packet(PACKET)
            if command:
                reply = answer(port, command)
                function.write(UNKNOWN if reply is None else command[:1] + reply)
    except OSError as error:
        if error.errno != errno.ESHUTDOWN:
            raise


probe = Function(sys.argv[1], 0x00, 0x00, "CMSIS-DAP v2")
while True:
    serve(probe)

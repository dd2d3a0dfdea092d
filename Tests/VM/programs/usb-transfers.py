#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# usb-transfers.py zero|serial|keyboard: all types of transfers by Debian's python3-usb, with the bytes that the emulated
# devices must give (lu-zero.c and lu-serial.c say what they are). What is wrong ends it with 1.
import sys

import usb.core
import usb.util

PACKET = 1024


def find(product):
    device = usb.core.find(idVendor=0x0525, idProduct=product)
    assert device is not None, f"no device 0525:{product:04x}"
    device.set_configuration()
    return device


def pattern(count, packet):
    """mod63, which begins anew with every packet."""
    return bytes(i % packet % 63 for i in range(count))


def zero():
    device = find(0xA4A0)
    data = bytes(i * 7 % 256 for i in range(1000))
    assert device.ctrl_transfer(0x40, 0x5B, 0, 0, data) == len(data)
    assert device.ctrl_transfer(0xC0, 0x5C, 0, 0, len(data)).tobytes() == data
    try:
        device.ctrl_transfer(0xC0, 0x77, 0, 0, 8)
        raise AssertionError("an unknown request must stall")
    except usb.core.USBError as error:
        assert error.errno == 32, error
    print(f"control: {len(data)} bytes")

    assert device.read(0x81, 65536).tobytes() == pattern(65536, 512)
    assert device.write(0x02, pattern(65536, 512)) == 65536
    print("bulk: 65536 bytes")

    device.set_interface_altsetting(interface=0, alternate_setting=1)
    assert device.read(0x83, 32 * PACKET).tobytes() == pattern(32 * PACKET, PACKET)
    assert device.write(0x04, pattern(32 * PACKET, PACKET)) == 32 * PACKET
    print(f"isochronous: {32 * PACKET} bytes")

    device.set_interface_altsetting(interface=0, alternate_setting=2)
    assert device.read(0x85, PACKET).tobytes() == pattern(PACKET, PACKET)
    assert device.write(0x06, pattern(PACKET, PACKET)) == PACKET
    print(f"interrupt: {PACKET} bytes")
    device.set_interface_altsetting(interface=0, alternate_setting=0)
    usb.util.dispose_resources(device)


def serial():
    device = find(0xA4A7)
    data = bytes(i * 13 % 256 for i in range(400))
    assert device.write(0x01, data) == len(data)
    assert device.read(0x81, 512, timeout=10000).tobytes() == data
    print(f"serial: {len(data)} bytes came back")


def keyboard():
    """Two reports: a key goes down, and up again."""
    device = find(0xA4AC)
    for _ in range(2):
        print(device.read(0x81, 8, timeout=0).tobytes().hex(), flush=True)


{"zero": zero, "serial": serial, "keyboard": keyboard}[sys.argv[1]]()

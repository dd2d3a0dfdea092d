# SPDX-License-Identifier: Apache-2.0
prepare() { qemu_arguments=(-device usb-kbd,bus=xhci.0,serial=KBD1); }
step_type() { keys "$@"; }

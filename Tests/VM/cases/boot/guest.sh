# SPDX-License-Identifier: Apache-2.0
# The guest itself: the kernel is there with its USB stack, and the host half answers.
eventually 10 test -d /sys/module/usbcore
modprobe -a dummy_hcd libcomposite
[ "$(lsusb | wc -l)" -ge 3 ] || fail "no root hubs: $(lsusb)"
equal "answer of the host" "$(host echo a b)" "a b"

# SPDX-License-Identifier: Apache-2.0
# 10,000 random ioctls at a node: vusbd doesn't crash, the device works on, and neither memory nor a descriptor is lost.
modprobe cuse
start_vusbd --emulate zero,pattern=mod63
vusbctl guest add web1 --nodes --device emu-zero >/dev/null || fail "guest add web1"
vusbctl load web1 >/dev/null || fail "load web1"
node=/vusb/guests/web1/dev/bus/usb/$(vusbctl run --guest web1 -- lsusb -d 0525:a4a0 | sed 's/Bus \([0-9]*\) Device \([0-9]*\).*/\1\/\2/')
[ -c "$node" ] || fail "$node is no node"
memory() { sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$vusbd_pid/status"; }
descriptors() { ls "/proc/$vusbd_pid/fd" | wc -l; }
threads() { ls "/proc/$vusbd_pid/task" | wc -l; }

# What is kept for the next time is there after that.
usbfs-fuzz "$node" 2000 || fail "usbfs-fuzz"
vusbctl run --guest web1 -- lu-zero 32 >/dev/null || fail "lu-zero before"
eventually 10 idle
pid=$vusbd_pid before=$(memory) files=$(descriptors) workers=$(threads)
usbfs-fuzz "$node" 10000 || fail "usbfs-fuzz"
eventually 10 idle
vusbctl run --guest web1 -- lu-zero 32 || fail "the device doesn't work after that"
eventually 10 idle
kill -0 "$pid" || fail "vusbd has ended"
note "memory $before KiB before, $(memory) KiB after; $files descriptors, $workers threads"
equal "descriptors" "$(descriptors)" "$files"
equal "threads" "$(threads)" "$workers"
[ "$(memory)" -lt $((before + 4096)) ] || fail "vusbd has $(memory) KiB of memory, $before before"

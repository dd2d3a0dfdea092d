# SPDX-License-Identifier: Apache-2.0
# 10,000 random ioctls at a node: vusbd doesn't crash, the device works on, and neither memory nor a descriptor is lost.
modprobe cuse
cat >/tmp/vusb.yaml <<'END'
emulate: ["zero,pattern=mod63"]
guests:
  web1: {nodes: true, load: true, devices: [emu-zero]}
END
start_vusbd --config /tmp/vusb.yaml
eventually 10 attachment web1 emu-zero
# 001 is the root hub.
node=/vusb/guests/web1/dev/bus/usb/001/002
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
note "memory $before KiB before, $(memory) KiB after; descriptors $files, $(descriptors); threads $workers, $(threads)"
# A connection of vusbctl may still be being closed.
has_as_many_descriptors() { [ "$(descriptors)" -le "$files" ]; }
eventually 10 has_as_many_descriptors
# Those of tasks are made when first needed, as many as processors; the emulation's clock goes when nothing is paced.
[ "$(threads)" -le $((workers + 3)) ] || fail "vusbd has $(threads) threads, $workers before"
[ "$(memory)" -lt $((before + 4096)) ] || fail "vusbd has $(memory) KiB of memory, $before before"

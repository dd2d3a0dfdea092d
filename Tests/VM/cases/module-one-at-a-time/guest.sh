# SPDX-License-Identifier: Apache-2.0
# An exporter that serves one request at a time: a parked read would hold up everything. The channel works all the same,
# and doctor says what to change.
usb_drivers
start_agent
ctl load vm1 --mode module
path=$(wait_our_device 0525 a4a5) || exit 1
disk=$(wait_disk "$path") || exit 1
equal "the image" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$(host image_sum)"
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
serial_echo "$tty" 65536
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
read_keys "$keyboard"
usleep 2000000
ctl type emu-keyboard a
eventually 10 were_typed "30 "
stop_keys
equal "what the module says" "$(hcd_state exporter)" "one at a time"
equal "whether vusbd knows" "$(host is_one_at_a_time)" true
host doctor | grep -qi 'thread-pool-size' || fail "doctor doesn't say what to change: $(host doctor)"
timeout 5 cat /vusb/state >/dev/null || fail "the share hangs"
ctl unload vm1
no_module_loaded || fail "unload is done, and the module is still here"

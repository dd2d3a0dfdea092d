# SPDX-License-Identifier: Apache-2.0
# Suspend and resume, as far as the kernel's pm_test goes, with vusbd on the same kernel and so among the frozen
# processes. Frozen and thawed, the devices are the same ones, with what was open. Where the kernel suspends devices,
# which takes transfers that nobody answers, they may come anew, and a disk, which it flushes, may keep it from
# suspending; all work afterwards, and nothing is lost.
usb_drivers
head -c 8388608 /dev/urandom >/tmp/backing
start_vusbd --modules /vm/modules --no-host --emulate disk=/tmp/backing --emulate serial --emulate keyboard
vusbctl guest add vm1 --device emu-serial --device emu-keyboard >/dev/null || fail "guest add"
vusbctl load vm1 --mode module || fail "load"
path=$(wait_our_device 0525 a4ac) || exit 1
keyboard=$(wait_input "$path") || exit 1
path=$(wait_our_device 0525 a4a7) || exit 1
tty=$(wait_tty "$path") || exit 1
read_keys "$keyboard"
note "level freezer"
echo freezer >/sys/power/pm_test || fail "no pm_test"
echo mem >/sys/power/state || fail "the kernel couldn't suspend"
serial_echo "$tty" 10000
vusbctl type emu-keyboard a >/dev/null || fail "type"
eventually 10 were_typed "30 "
stop_keys

# The module may notice only when all is thawed that nobody has answered for long: then the devices go once more and come
# again. So what must hold is that in the end they work, not that the first attempt does.
# echoes: whether the adapter sends back what it gets.
echoes() {
    echoes_tty=$(tty_of "$(our_device 0525 a4a7)") && stty -F "$echoes_tty" raw -echo -echoe -echok || return 1
    head -c 1000 /dev/urandom >/tmp/echo.sent
    timeout 5 head -c 1000 <"$echoes_tty" >/tmp/echo.got 2>/dev/null &
    echoes_reader=$!
    cat /tmp/echo.sent >"$echoes_tty"
    wait $echoes_reader && cmp /tmp/echo.sent /tmp/echo.got
}
image_sum=$(sha256sum </tmp/backing | cut -d' ' -f1)
has_the_bytes() {
    bytes_disk=$(disk_of "$(our_device 0525 a4a5)") || return 1
    [ "$(sha256sum <"/dev/$bytes_disk" | cut -d' ' -f1)" = "$image_sum" ]
}
note "level devices"
echo devices >/sys/power/pm_test
echo mem >/sys/power/state || fail "the kernel couldn't suspend"
eventually 20 echoes

note "with a disk"
vusbctl attach emu-disk vm1 || fail "attach"
path=$(wait_our_device 0525 a4a5) || exit 1
wait_disk "$path" >/dev/null
echo mem >/sys/power/state || note "the kernel couldn't suspend"
eventually 20 echoes
eventually 20 has_the_bytes
vusbctl unload vm1 || fail "unload"
no_module_loaded || fail "unload is done, and the module is still here"

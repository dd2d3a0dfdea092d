# SPDX-License-Identifier: Apache-2.0
# Fifty times loaded and unloaded: each time the disk is there with its bytes, each time nothing is left. Fewer times
# where each takes longer.
usb_drivers
start_agent
image_sum=$(host image_sum) || exit 1
for round in $(seq $((50 / time_factor))); do
    ctl load vm1 --mode module
    path=$(wait_our_device 0525 a4a5) || exit 1
    disk=$(wait_disk "$path") || exit 1
    equal "the bytes in round $round" "$(sha256sum <"/dev/$disk" | cut -d' ' -f1)" "$image_sum"
    ctl unload vm1
    no_module_loaded || fail "the module is still here in round $round"
    [ ! -e "/dev/$disk" ] || fail "the disk is still here in round $round"
done

# SPDX-License-Identifier: Apache-2.0
# The kernel's mass-storage gadget on dummy_hcd: what is read through endpoint files is what its backing file holds.
. /vm/gadget.sh
modprobe -a usb_storage sd_mod
head -c 4194304 /dev/urandom >/tmp/backing
gadget_controllers 1
gadget_create disk 1d6b 0104 DISK1
gadget_function disk mass_storage.0 lun.0/removable=1 lun.0/file=/tmp/backing
gadget_plug disk 0
disk=$(wait_device 1d6b 0104) || exit 1
eventually 20 test -b /dev/sda
start_vusbd
wait_known "$disk" available
make_guest web1
tree=$(lend "$disk" web1) || exit 1

# The gadget numbers its endpoints by itself.
for file in "$tree"/ep/*; do
    case ${file##*/} in
        00) ;;
        8*) in=$file ;;
        *) out=$file ;;
    esac
done
equal "sectors" "$(bot "$in" "$out" capacity)" 8192
bot "$in" "$out" read 0 8192 | cmp - /tmp/backing || fail "what was read differs from the backing file"
head -c 131072 /dev/urandom >/tmp/new
bot "$in" "$out" write 1000 </tmp/new || fail "write"
dd if=/tmp/backing bs=512 skip=1000 count=256 2>/dev/null | cmp - /tmp/new || fail "the backing file lacks what was written"

vusbctl detach "$disk" >/dev/null || fail "detach"
eventually 20 test -b /dev/sda

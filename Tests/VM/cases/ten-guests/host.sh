# SPDX-License-Identifier: Apache-2.0
prepare() {
    local n
    qemu_arguments=()
    for n in {0..9}; do
        random_file "disk$n.img" 2097152
        qemu_arguments+=(
            -blockdev "driver=file,node-name=disk$n,filename=disk$n.img"
            -device "usb-storage,bus=xhci.0,port=$((n + 1)),drive=disk$n,serial=STICK$n"
        )
    done
}
step_image_sum() { sha256 <"disk$1.img"; }

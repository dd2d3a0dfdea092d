# SPDX-License-Identifier: Apache-2.0
# More than once is for a change to how URBs are cancelled: a round takes a minute and more.
rounds=${VUSB_UNLINK_ROUNDS:-1}
kernel_arguments="vusb.rounds=$rounds"
time_limit=$((1200 + 300 * rounds))

prepare() {
    truncate -s 128M capture.img
    mkfs.vfat capture.img
    qemu_arguments=(-drive file=capture.img,format=raw,if=none,id=capture -device virtio-blk-pci,drive=capture)
}

# One answer for each command, and nothing that tshark finds malformed.
verify() {
    mcopy -n -i capture.img ::usbip.pcap usbip.pcap &&
        python3 "$root/Tests/FileSystem/usbip_capture.py" usbip.pcap 3240 ret_list "ret_import with an error" \
            "ret_submit with an error" "ret_unlink with an error" isochronous
}

# SPDX-License-Identifier: Apache-2.0
# containers.sh: gives QEMU the disk with podman and Debian's programs. Read by host halves that need it.

prepare() {
    local disk
    disk=$("$here/../container.sh") || return 1
    # What is written to it ends with the case.
    qemu_arguments=(-drive "if=virtio,format=raw,snapshot=on,file=$disk")
}

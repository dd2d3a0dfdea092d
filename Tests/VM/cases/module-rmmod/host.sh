# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    random_file disk.img 33554432
    start_vusbd --emulate "disk=$work/disk.img" --emulate zero && vm vm1 --device emu-disk --device emu-zero
}

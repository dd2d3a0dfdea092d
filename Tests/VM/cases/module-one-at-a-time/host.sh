# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
# virtiofsd as it is by default: one request at a time.
virtiofsd_options=()
prepare() {
    random_file payload 1048576
    fat_image disk.img 4 payload
    start_vusbd --emulate "disk=$work/disk.img" --emulate serial --emulate keyboard &&
        vm vm1 --device emu-disk --device emu-serial --device emu-keyboard
}
step_image_sum() { sha256 <disk.img; }
step_is_one_at_a_time() { ctl guests --json | jq -e '.[0].channel.oneAtATime'; }
step_doctor() { ctl doctor || true; }

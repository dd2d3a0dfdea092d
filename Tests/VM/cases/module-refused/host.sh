# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
# A kernel that takes signed modules only.
kernel_arguments=module.sig_enforce=1

prepare() {
    modules_directory=$work/modules
    cp -r "$image/modules" modules
    start_vusbd --emulate serial && vm vm1 --device emu-serial
}
# other_builds FROM TO: in place of the builds for this kernel, ones whose vermagic says something else. Both texts are
# of one length.
step_other_builds() {
    local file
    for file in "modules/$(<"$image/$kernel/release")"/*.ko; do
        sed -i "s/\(vermagic=[^\o0]*\)$1/\1$2/" "$file"
        modinfo -F vermagic "$file" | grep -q -- "$2" || { echo "no $1 in the vermagic of $file" >&2; return 1; }
    done
}
step_own_builds() { cp -r "$image/modules/." modules/; }
step_no_builds() { rm -rf modules/*; }

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
# change_vermagic DIRECTORY FROM TO: both texts are of one length.
change_vermagic() {
    local file
    for file in "$1"/*.ko; do
        sed -i "s/\(vermagic=[^\o0]*\)$2/\1$3/" "$file"
        modinfo -F vermagic "$file" | grep -q -- "$3" || { echo "no $2 in the vermagic of $file" >&2; return 1; }
    done
}
# other_builds FROM TO: in place of the builds for this kernel, ones whose vermagic says something else; foreign_builds
# FROM TO: such ones beside them.
step_other_builds() { change_vermagic "modules/$(<"$image/$kernel/release")" "$@"; }
step_foreign_builds() {
    cp -r "modules/$(<"$image/$kernel/release")" modules/foreign
    change_vermagic modules/foreign "$@"
}
step_own_builds() { cp -r "$image/modules/." modules/; }
step_no_builds() { rm -rf modules/*; }

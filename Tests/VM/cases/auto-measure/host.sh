# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() {
    echo 'auto: {window: 20s, dear: 6s, cheap: 1s}' >vusb.yaml
    qemu_arguments+=(-device qemu-xhci,id=xhci)
    start_vusbd --config "$work/vusb.yaml" --emulate serial && vm vm1
}
field() { ctl guests --json | jq -r --arg name "$1" ".[] | select(.name == \$name) | $2"; }
step_mode() { field "$1" .loadedMode; }
step_why() { field "$1" .auto.reason; }
would_be() { [[ $(field "$1" .auto.next) == "$2" ]]; }
step_next() { eventually "$3" would_be "$1" "$2"; }
is_in_mode() { [[ $(field "$1" '[.state, .loadedMode] | join(" ")') == "loaded $2" ]]; }
step_becomes() { eventually "$3" is_in_mode "$1" "$2"; }

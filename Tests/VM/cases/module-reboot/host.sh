# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
time_limit=120
reboots=yes
prepare() { start_vusbd --emulate serial --emulate keyboard && vm vm1 --device emu-serial --device emu-keyboard; }
boots=0
step_boots() { echo $((++boots)); }

# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
step_unloaded() { eventually 20 guest_is vm1 unloaded; }
prepare() { start_vusbd --emulate serial --emulate keyboard && vm vm1 --mode module --policy on-demand; }

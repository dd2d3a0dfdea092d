# SPDX-License-Identifier: Apache-2.0
. "$here/two.sh"
time_limit=420
prepare() { second_vm 2; }

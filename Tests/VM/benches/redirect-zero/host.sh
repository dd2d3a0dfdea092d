# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/two.sh"
time_limit=1800
prepare() { second_vm 1; }
# The table's maker reads this machine's console only.
step_bench() { grep -a '^BENCH ' "$work/second.log" | tr -d '\r' >>"$log"; }

# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/two.sh"
time_limit=420
prepare() { second_vm 2; }

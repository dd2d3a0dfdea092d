# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/containers.sh"

# A minute and a half, where the machine has nothing else to do.
time_limit=600

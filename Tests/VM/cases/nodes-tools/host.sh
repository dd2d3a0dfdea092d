# SPDX-License-Identifier: Apache-2.0
. "$(dirname "${BASH_SOURCE[0]}")/../../host/containers.sh"

# podman takes seconds to start under emulation, on a busy machine ten.
time_limit=900

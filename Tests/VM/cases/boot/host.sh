# SPDX-License-Identifier: Apache-2.0
step_echo() { echo "$*"; }

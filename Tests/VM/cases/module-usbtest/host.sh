# SPDX-License-Identifier: Apache-2.0
daemon=host
memory=512
prepare() { start_vusbd --emulate zero && vm vm1; }

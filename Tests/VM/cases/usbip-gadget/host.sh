# SPDX-License-Identifier: Apache-2.0
# More than once is for a change to how URBs are cancelled: a round takes a minute and more.
rounds=${VUSB_UNLINK_ROUNDS:-1}
kernel_arguments="vusb.rounds=$rounds"
time_limit=$((1200 + 300 * rounds))

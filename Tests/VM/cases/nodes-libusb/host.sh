# SPDX-License-Identifier: Apache-2.0
# A minute, where the machine has nothing else to do.
time_limit=480

# SPDX-License-Identifier: Apache-2.0
# The module takes a host for gone that says nothing for 15 s; then the file's pages are given up, and the power goes.
power_off_limit=60

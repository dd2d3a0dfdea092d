# SPDX-License-Identifier: Apache-2.0
time_limit=900

# SPDX-License-Identifier: Apache-2.0
kernels=(6.1 6.12-rt)

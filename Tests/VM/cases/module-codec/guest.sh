# SPDX-License-Identifier: Apache-2.0
# The module's self-test: its codec against records that a hostile host may send.
modprobe usbcore
insmod "/vm/test/$(uname -r)/vusb_codec_test.ko" || fail "a test failed: $(dmesg | tail -5)"
dmesg | grep vusb_codec_test
dmesg | grep -q 'vusb_codec_test: [0-9]* passed' || fail "the self-test didn't say that it passed"
rmmod vusb_codec_test 2>/dev/null || true # It may have refused to stay, having done its work.

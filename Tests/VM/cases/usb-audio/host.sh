# SPDX-License-Identifier: Apache-2.0
prepare() {
    qemu_arguments=(
        -audiodev wav,id=sound,path=sound.wav,out.frequency=48000,out.channels=2,out.format=s16
        -device usb-audio,bus=xhci.0,audiodev=sound
    )
}

# The guest plays a second of samples 0x1234, which QEMU attenuates a little. Under software emulation the stream may
# have gaps; at least a third of it must have reached the sound card.
verify() {
    python3 -c '
import array, collections, sys
data = open("sound.wav", "rb").read()[44:]
samples = array.array("h", data[: len(data) // 2 * 2])
played = sum(4000 < sample <= 0x1234 for sample in samples)
common = collections.Counter(samples).most_common(3)
print(f"{played} of 96000 samples arrived, {len(samples)} were played, mostly {common}")
sys.exit(played < 32000)
'
}

# SPDX-License-Identifier: Apache-2.0
prepare() {
    qemu_arguments=(
        -audiodev wav,id=sound,path=sound.wav,out.frequency=48000,out.channels=2,out.format=s16
        -device usb-audio,bus=xhci.0,audiodev=sound
    )
}

# The guest plays a second of samples 0x1234. Under software emulation the stream has gaps, and mixing may change a
# sample by one; at least a third of it must have reached the sound card.
verify() {
    python3 -c '
import array, sys
data = open("sound.wav", "rb").read()[44:]
samples = array.array("h", data[: len(data) // 2 * 2])
played = sum(abs(sample - 0x1234) <= 1 for sample in samples)
print(f"{played} of 96000 samples arrived, {len(samples)} were played")
sys.exit(played < 32000)
'
}

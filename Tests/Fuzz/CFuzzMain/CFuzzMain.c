// SPDX-License-Identifier: Apache-2.0

#include "CFuzzMain.h"

/// From the fuzzer's runtime, which only -sanitize=fuzzer links.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one_input)(const uint8_t *data, size_t size));

/// What each fuzz target defines, in Swift, with `@c`.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/// SwiftPM makes `<module>_main` the entry point of an executable; a fuzz target has none of its own.
#define FUZZ_TARGET(name)                                                        \
    int Fuzz##name##_main(int argc, char **argv);                                \
    int Fuzz##name##_main(int argc, char **argv) {                               \
        return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput);        \
    }

// One line a target; a name here that no target has does no harm.
FUZZ_TARGET(ControlFile)
FUZZ_TARGET(Descriptors)
FUZZ_TARGET(Emulation)
FUZZ_TARGET(GuestAgent)
FUZZ_TARGET(HCDChannel)
FUZZ_TARGET(IsochronousFrame)
FUZZ_TARGET(ModuleFile)
FUZZ_TARGET(QMP)
FUZZ_TARGET(Redir)
FUZZ_TARGET(Storage)
FUZZ_TARGET(Uevent)
FUZZ_TARGET(USBIP)
FUZZ_TARGET(USBIPClient)
FUZZ_TARGET(Usbfs)
FUZZ_TARGET(SetupPacket)

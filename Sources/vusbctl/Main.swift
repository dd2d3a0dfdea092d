// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import VUSBControl
@main struct Main: ParsableCommand { }

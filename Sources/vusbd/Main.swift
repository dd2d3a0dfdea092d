// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import VUSBDaemon
@main struct Main: ParsableCommand { }

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build.sh: builds what the suites run: the two programs for release, and the unit tests under Thread Sanitizer. Side by
# side: each alone leaves a processor idle where it waits for a large module.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
swift build -c release --static-swift-stdlib --scratch-path .build-release &
release=$!
swift build --build-tests --sanitize=thread --scratch-path .build-tsan
tests=$?
wait $release && ((tests == 0))

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# unit.sh: builds the unit tests under Thread Sanitizer and runs them, a target at a time: tests that wait for threads of
# their own would starve those of the other targets on a small machine. Prints `N passed, N failed` at the end.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
build=(--sanitize=thread --scratch-path .build-tsan)
swift build --build-tests "${build[@]}" || exit 1

passed=0
failed=0
for folder in Tests/*Tests; do
    target=$(basename "$folder")
    echo "== $target"
    log=$(mktemp)
    status=0
    swift test --skip-build "${build[@]}" --filter "^$target\\." 2>&1 | tee "$log" || status=$?
    total=$(grep -aoE 'Test run with [0-9]+ tests?' "$log" | tail -n 1 | grep -oE '[0-9]+')
    bad=$(grep -acE '^(. )?Test .* failed after ' "$log")
    # Nothing counted, a crash or a sanitizer's report: failed whatever the tests say.
    if ((${total:-0} == 0)) || { ((status != 0)) && ((bad == 0)); }; then bad=$((bad + 1)); fi
    grep -aq 'WARNING: ThreadSanitizer' "$log" && bad=$((bad + 1))
    passed=$((passed + (${total:-0} > bad ? ${total:-0} - bad : 0)))
    failed=$((failed + bad))
    rm -f "$log"
done
echo "$passed passed, $failed failed"
((failed == 0))

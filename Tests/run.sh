#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh: runs the test suites one after another and counts.
#
#   run.sh [SUITE…]        all of them without arguments; --list names them
#
# A suite's output goes to out/test/SUITE.log, a line about it to the terminal, on failure with the log's end. Nothing
# is skipped: a suite that can't be run has failed. Each runs in a session of its own, and what it leaves running is
# ended with it. What failed is told once more at the end; the last line is `N passed, N failed`.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
logs=$root/out/test
export VUSBD=$root/.build-release/release/vusbd
export VUSBCTL=$root/.build-release/release/vusbctl
# Fuzzers find little in this time; it shows that they run and that their corpus is clean.
fuzz_seconds=15

# NAME | SECONDS that it may take | COMMAND
suites='
check      | 300  | Tests/check.sh
build      | 2400 | Tests/build.sh
unit       | 1500 | Tests/unit.sh
filesystem | 300  | Tests/FileSystem/run
control    | 600  | Tests/Control/schemathesis.sh
kmod       | 600  | Tests/kmod.sh
attach     | 300  | Tests/attach.py
fuzz       | 1500 | Tests/Fuzz/run.sh '$fuzz_seconds'
vm         | 3600 | Tests/VM/run.sh
'

trim() { local text="$*"; echo "$text"; }
suite_names() { while IFS='|' read -r name _; do trim $name; done <<<"$suites" | grep .; }
suite_field() {
    while IFS='|' read -r name seconds command; do
        [[ $(trim $name) == "$1" ]] || continue
        case $2 in
            seconds) trim $seconds ;;
            command) trim $command ;;
        esac
    done <<<"$suites"
}

# The session of the suite that runs now; ended when it is done, or when this script is.
session=
end_session() {
    [[ -n $session ]] || return 0
    # Processes of that session only. Politely first, so that they can unmount.
    if pkill -TERM -s "$session"; then
        local attempt
        for attempt in {1..50}; do
            pgrep -s "$session" >/dev/null || break
            sleep 0.1
        done
        pkill -KILL -s "$session"
    fi
    session=
}
trap end_session EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What a log says: `N passed, N failed`, swift-testing's closing line, or nothing. Prints "PASSED FAILED".
counts() {
    local line
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$1" | tail -n 1)
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
        return
    fi
    line=$(grep -aoE 'Test run with [0-9]+ tests? .*(passed|failed) after' "$1" | tail -n 1)
    if [[ $line =~ Test\ run\ with\ ([0-9]+)\ tests? ]]; then
        local total=${BASH_REMATCH[1]} failed
        failed=$(grep -acE '^(. )?Test .* failed after ' "$1")
        echo "$((total - failed)) $failed"
    fi
}

passed=0
failed=0
failures=()
run_suite() {
    local name=$1 log=$logs/$1.log seconds command status=0 suite_passed= suite_failed= started=$SECONDS
    seconds=$(suite_field "$name" seconds)
    command=$(suite_field "$name" command)
    [[ -n $command ]] || { echo "run.sh: no suite $name; see --list" >&2; exit 2; }
    printf '== %-10s ' "$name"
    # setsid makes the child the leader of a session whose id is its process id.
    setsid timeout --foreground --kill-after=20 "$seconds" bash -c "$command" >"$log" 2>&1 </dev/null &
    session=$!
    wait "$session" || status=$?
    end_session

    read -r suite_passed suite_failed <<<"$(counts "$log")"
    if ((status == 0)); then
        : "${suite_passed:=1}" "${suite_failed:=0}"
    else
        # Failed whatever it counted: a crash or a sanitizer's report comes after the closing line, or instead of it.
        : "${suite_passed:=0}" "${suite_failed:=1}"
        ((suite_failed > 0)) || suite_failed=1
    fi
    passed=$((passed + suite_passed))
    failed=$((failed + suite_failed))
    echo "$suite_passed passed, $suite_failed failed ($((SECONDS - started)) s)"
    ((suite_failed == 0)) && return
    failures+=("FAIL $name, status $status after $((SECONDS - started)) s; see $log")
    mapfile -t -O "${#failures[@]}" failures < <(grep -aE '^FAIL(ED)? |^(. )?Test .* failed after ' "$log" | sort -u)
    ((status != 124 && status != 137)) || echo "   not done within $seconds s"
    echo "   the end of $log:"
    tail -n 40 "$log" | sed 's/^/   | /'
}

case ${1:-} in
    --list) suite_names; exit 0 ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
mkdir -p "$logs"
selected=("$@")
((${#selected[@]})) || mapfile -t selected < <(suite_names)
for name in "${selected[@]}"; do run_suite "$name"; done

# All that failed, where nobody has to look for it.
((!failed)) || printf '%s\n' "${failures[@]}"
echo "$passed passed, $failed failed"
((failed == 0))

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh: boots Debian's kernel in QEMU with vusbd inside, once for each case.
#
#   run.sh [--image DIR] [--jobs N] [--list] [CASE[@KERNEL]…]
#
# A case is a folder in cases/ with a guest half (guest.sh, run by the guest's /init) and, where it needs one, a host
# half (host.sh: QEMU's arguments, files, and steps that the guest asks for). See README.md. Logs go to out/vm/CASE.log.
# KERNEL is one of kernel.sh's; a case without it runs on all that it names, by default 6.1. Without --image the guest
# images are built first; all cases share them. Cases that may take long are begun first.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
logs=$root/out/vm
image=
jobs=2

usage() { sed -n '3,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
# case_kernels NAME: CASE@KERNEL for each kernel that it runs on, as its host half says.
case_kernels() (
    kernels=(6.1)
    [[ ! -f $here/cases/$1/host.sh ]] || . "$here/cases/$1/host.sh"
    printf '%s\n' "${kernels[@]/#/$1@}"
)
# case_limit NAME: how many seconds it may take, as its host half says; 0 where it doesn't.
case_limit() (
    time_limit=0
    [[ ! -f $here/cases/$1/host.sh ]] || . "$here/cases/$1/host.sh"
    echo "$time_limit"
)
list_cases() {
    local case
    for case in "$here"/cases/*/guest.sh; do case_kernels "$(basename "$(dirname "$case")")"; done
}

selected=()
while (($#)); do
    case $1 in
        --image) image=$2; shift 2 ;;
        --jobs) jobs=$2; shift 2 ;;
        --list) list_cases; exit 0 ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) selected+=("$1"); shift ;;
    esac
done
wanted=("${selected[@]}")
if ((!${#wanted[@]})); then
    # A list that breaks off must not pass for a short one.
    list=$(list_cases) || { echo "run.sh: the cases can't be listed" >&2; exit 1; }
    mapfile -t wanted <<<"$list"
fi
selected=()
for name in "${wanted[@]}"; do
    [[ -f $here/cases/${name%@*}/guest.sh ]] || { echo "run.sh: no case $name; see run.sh --list" >&2; exit 2; }
    case $name in
        *@*) selected+=("$name") ;;
        *) mapfile -t -O "${#selected[@]}" selected < <(case_kernels "$name") ;;
    esac
done
# At the end both runners have something to do.
mapfile -t selected < <(
    for name in "${selected[@]}"; do echo "$(case_limit "${name%@*}") $name"; done | sort -s -k 1,1 -nr | cut -d ' ' -f 2
)
mapfile -t kernels < <(printf '%s\n' "${selected[@]#*@}" | sort -u)

mkdir -p "$logs"
work=$(mktemp -d)
# The case that each process runs.
declare -A runners=()
stop_all() {
    local pid
    for pid in "${!runners[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

if [[ -z $image ]]; then
    image=$work/image
    "$here/image.sh" --out "$image" "${kernels[@]}" 2>&1 | tee "$logs/image.log" || {
        echo "run.sh: the guest image couldn't be built"
        echo "0 passed, ${#selected[@]} failed"
        exit 1
    }
fi

passed=0
failed=0
failures=()
# Waits for one runner to end, counts it and says what it said.
reap() {
    local status=0 pid
    wait -n -p pid "${!runners[@]}" || status=$?
    local said=$work/${runners[$pid]}.said
    unset "runners[$pid]"
    cat "$said"
    if ((status == 0)); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        failures+=("$(grep -a -m1 '^FAIL' "$said")")
    fi
}

for name in "${selected[@]}"; do
    ((${#runners[@]} < jobs)) || reap
    mkdir "$work/$name"
    "$here/host/run-case.sh" "$name" "$image" "$work/$name" "$logs/${name%@6.1}.log" >"$work/$name.said" 2>&1 &
    runners[$!]=$name
done
while ((${#runners[@]})); do reap; done

# Once more, where nobody has to look for them.
((!failed)) || printf '%s\n' "${failures[@]}"
echo "$passed passed, $failed failed"
((failed == 0))

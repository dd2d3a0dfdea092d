#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# check.sh: what can be checked without running anything: format, shell syntax, licences, which target imports which,
# manual pages. The last line is `N passed, N failed`.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

passed=0
failed=0
# check WHAT COMMAND…: it has passed if the command succeeds; what it prints is shown if not.
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok   $what"
    else
        failed=$((failed + 1))
        echo "FAIL $what"
        sed 's/^/     /' <<<"$output"
    fi
}

# Files of the project: what git has or would take, and that are there. A checkout without git works, too.
project_files() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard
    else
        find . -name '.build*' -prune -o -path ./out -prune -o -type f -printf '%P\n'
    fi | while read -r file; do [[ ! -f $file ]] || echo "$file"; done
}
files_named() { project_files | grep -E "$1"; }

swift_format() { swift format lint --strict --parallel --recursive Package.swift Sources Tests; }

bash_syntax() {
    local file status=0
    while read -r file; do
        case $(head -n 1 "$file") in
            *bash*) bash -n "$file" || status=1 ;;
            *) sh -n "$file" || status=1 ;;
        esac
    done < <(project_files | grep -vE '^Tests/VM/(guest|cases|benches|host)/' |
        while read -r file; do
            [[ $file == *.sh ]] || head -c 64 "$file" | head -n 1 | grep -qaE '^#!.*\b(ba)?sh\b' && echo "$file"
        done)
    return $status
}

# The guest's halves are run by busybox, the host's by bash without a first line that says so.
guest_syntax() {
    local file status=0
    for file in Tests/VM/guest/* Tests/VM/{cases,benches}/*/guest.sh; do busybox sh -n "$file" || status=1; done
    for file in Tests/VM/host/*.sh Tests/VM/{cases,benches}/*/host.sh; do bash -n "$file" || status=1; done
    return $status
}

python_syntax() {
    files_named '\.py$' | while read -r file; do
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" || echo "$file"
    done | { ! grep .; }
}

licences() {
    local file status=0
    while read -r file; do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: ' || { echo "$file: no SPDX line"; status=1; }
    done < <(files_named '\.(swift|c|h|sh|py|rules)$|(^|/)Makefile$' | grep -v '^Package.swift$')
    return $status
}

# Arrows point down only. A line is: target, then the project's targets that it may import.
import_rules='
VUSBCore
VUSBSystem      CVUSBShims
VUSBEmulation   VUSBCore VUSBSystem CVUSBShims
VUSBHost        VUSBCore VUSBSystem CLibUSB CVUSBShims
VUSBFileSystem  VUSBCore CFuse3 CVUSBShims
VUSBUevent      VUSBCore CVUSBShims
VUSBRedir       VUSBCore VUSBSystem CUSBRedirParser CVUSBShims
VUSBCharDevice  VUSBCore VUSBSystem CFuse3 CVUSBShims
VUSBIP          VUSBCore VUSBSystem CVUSBShims
VUSBVMM         VUSBCore CVUSBShims
VUSBControl
VUSBDaemon      VUSBCore VUSBHost VUSBEmulation VUSBFileSystem VUSBCharDevice VUSBUevent VUSBRedir VUSBIP VUSBVMM VUSBControl CVUSBShims
VUSBTestSupport VUSBCore
vusbd           VUSBDaemon
vusbctl         VUSBControl
'
imports_of() {
    grep -rhoE --include='*.swift' \
        '^(@[a-zA-Z(_)]+ +)*((internal|package|private|fileprivate|public) +)?import +[A-Za-z0-9_]+' "Sources/$1" |
        awk '{ print $NF }' | sort -u
}
imports_point_down() {
    local target allowed module status=0
    while read -r target allowed; do
        [[ -n $target ]] || continue
        for module in $(imports_of "$target" | grep -E '^(VUSB|CVUSB|CFuse|CLibUSB)'); do
            [[ " $allowed " == *" $module "* ]] || { echo "$target imports $module"; status=1; }
        done
    done <<<"$import_rules"
    # The core is what everything stands on: the C library, atomics and mutexes are all that it may have.
    for module in $(imports_of VUSBCore); do
        [[ $module =~ ^(Synchronization|Glibc)$ ]] || { echo "VUSBCore imports $module"; status=1; }
    done
    for target in Sources/*/; do
        target=$(basename "$target")
        [[ $target == C* ]] || grep -qE "^$target( |\$)" <<<"$import_rules" || { echo "no rule for $target"; status=1; }
    done
    return $status
}

ascii_sources() {
    ! files_named '^(Sources|Tests)/.*\.(swift|c|h)$' | xargs -r grep -nP '[^\x00-\x7F]'
}

# Lists each warning; a page without one says nothing.
manual_pages() {
    local pages
    mapfile -t pages < <(files_named '^packaging/man/.*\.[1-8]$')
    ((${#pages[@]})) || { echo "packaging/man has no pages"; return 1; }
    mandoc -T lint -W warning "${pages[@]}"
}

check "swift format" swift_format
check "shell syntax" bash_syntax
check "shell syntax of the VM's cases" guest_syntax
check "python syntax" python_syntax
check "SPDX lines" licences
check "imports point down only" imports_point_down
check "sources are ASCII" ascii_sources
check "manual pages" manual_pages

echo "$passed passed, $failed failed"
((failed == 0))

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Tests/Fuzz/one.sh SECONDS NAME
#
# Runs one fuzz target that run.sh has built, beginning with its corpus, and says what came of it in one piece. Exits 1
# when it crashed, hung or grew beyond 2 GiB.
set -u

seconds=$1 name=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/out/fuzz
build=$root/.build-fuzz
# What the fuzzer finds worth keeping goes to the first folder; the corpus here is only read.
found=$build/corpus/$name
mkdir -p "$found" "$here/Corpus/$name"
# Swift's own backtrace reads memory that ASan guards, and hides what was wrong.
export SWIFT_BACKTRACE=enable=no
causes='Fatal error|Precondition failed|Assertion failed|Simultaneous accesses|^==[0-9]+== ?ERROR'
status=0
"$build/debug/Fuzz$name" "$found" "$here/Corpus/$name" -artifact_prefix="$out/$name-" -max_total_time="$seconds" \
    -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 >"$out/$name.log" 2>&1 || status=1
if [ $status -eq 0 ]; then verdict=ok; else verdict=FAIL; fi
{
    echo "== Fuzz$name for $seconds s: $verdict"
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$out/$name.log"
    [ $status -eq 0 ] || grep -m 1 -A 40 -E "$causes" "$out/$name.log" || tail -n 40 "$out/$name.log"
} >"$out/$name.told"
cat "$out/$name.told"
exit $status

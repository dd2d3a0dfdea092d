#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Tests/Fuzz/run.sh SECONDS_EACH [NAME...]
#
# Builds the fuzz targets (all folders here with a Fuzz*.swift or Fuzz*.c, or the named ones) with libFuzzer and ASan
# and runs each for so many seconds, beginning with its corpus. Exits 1 when one crashed, hung or grew beyond 2 GiB; the
# input that did it stays in out/fuzz/. When it's mended, that file goes to Corpus/ to stay mended.
set -eu

seconds=${1:?usage: Tests/Fuzz/run.sh SECONDS_EACH [NAME...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/out/fuzz
build=$root/.build-fuzz
mkdir -p "$out"

if [ $# -eq 0 ]; then
    for source in "$here"/*/Fuzz*.swift "$here"/*/Fuzz*.c; do
        set -- "$@" "$(basename "$(dirname "$source")")"
    done
fi

cd "$root"
export VUSB_FUZZ=1
for name in "$@"; do
    if [ -e "$here/$name/Fuzz$name.c" ]; then
        # What the guest's kernel runs, with the compiler that has libFuzzer.
        mkdir -p "$build/debug"
        "$(dirname "$(readlink -f "$(command -v swift)")")/clang" -std=gnu2x -g -O1 -Wall -Wextra -Werror \
            -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fuse-ld=lld -I"$root/kmod-shim" \
            -o "$build/debug/Fuzz$name" "$here/$name/Fuzz$name.c"
        continue
    fi
    swift build --jobs 2 --scratch-path "$build" --product "Fuzz$name" -Xswiftc -sanitize=fuzzer,address
done

failed=
for name in "$@"; do
    # What the fuzzer finds worth keeping goes to the first folder; the corpus here is only read.
    found=$build/corpus/$name
    mkdir -p "$found" "$here/Corpus/$name"
    echo "== Fuzz$name for $seconds s"
    if ! "$build/debug/Fuzz$name" "$found" "$here/Corpus/$name" -artifact_prefix="$out/$name-" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
        >"$out/$name.log" 2>&1; then
        failed="$failed $name"
        tail -n 40 "$out/$name.log"
    fi
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$out/$name.log" || true
done

if [ -n "$failed" ]; then
    echo "failed:$failed; inputs and logs are in $out" >&2
    exit 1
fi

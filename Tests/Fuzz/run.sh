#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Tests/Fuzz/run.sh SECONDS_EACH [NAME...]
#
# Builds the fuzz targets (all folders here with a Fuzz*.swift or Fuzz*.c, or the named ones) with libFuzzer and ASan
# and has one.sh run each. Exits 1 when one failed; the input that did it stays in out/fuzz/. When it's mended, that file
# goes to Corpus/ to stay mended.
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

# As many at a time as there are processors: each has one thread.
if ! printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$here/one.sh" "$seconds"; then
    echo "inputs and logs of those that failed are in $out" >&2
    exit 1
fi

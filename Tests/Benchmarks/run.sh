#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh: measures vusbd against a FUSE file that does nothing, the guests' module against USB/IP and native use,
# redirection against QEMU's own usb-storage and usbredirect, and USB/IP against an echo server and the kernel's;
# README.md says what and how to read it.
#
#   run.sh [SECTION…]      all sections without arguments: throughput latency readers allocations memory arbiter module redirect nodes usbip
#
# VUSBD names the program to measure. The table goes to the terminal, the figures to out/bench.json. Exits with 1 if a
# bar is missed, with 2 if it can't be run. Needs root, since it mounts for all users, and a quiet machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export VUSBD=${VUSBD:-$root/.build-release/release/vusbd}
out=$root/out/bench

[[ -x $VUSBD ]] || { echo "run.sh: $VUSBD not found; run make release first" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "run.sh: run it as root: it mounts for all users" >&2; exit 2; }
[[ -c /dev/fuse ]] || { echo "run.sh: /dev/fuse not found; try modprobe fuse" >&2; exit 2; }

# Those of the null file, and those that have a program of their own.
sections=()
machines=()
for section; do
    case $section in
        module | redirect | nodes | usbip) machines+=("$section") ;;
        *) sections+=("$section") ;;
    esac
done
(($#)) || machines=(module redirect nodes usbip)

mkdir -p "$out"
read -ra fuse < <(pkg-config --cflags --libs fuse3)
gcc -O2 -Wall -o "$out/nullfile" "$here/nullfile.c" "${fuse[@]}"
gcc -O2 -Wall -o "$out/fileclient" "$here/fileclient.c" -lpthread
gcc -O2 -Wall -o "$out/usbip-client" "$here/usbip/client.c" -lssl -lcrypto
gcc -O2 -Wall -o "$out/usbip-echo" "$here/usbip/echo.c"
gcc -O2 -Wall -shared -fPIC -o "$out/malloccount.so" "$here/malloccount.c"
# A mount namespace of its own: no other program that walks the tree makes requests, and no mount is left behind.
own_mounts=(unshare --mount --propagation private --)
status=0
if (($# == 0 || ${#sections[@]})); then
    "${own_mounts[@]}" \
        python3 -B "$here/bench.py" --programs "$out" --json "$root/out/bench.json" "${sections[@]}" || status=$?
fi
for machine in "${machines[@]}"; do
    machine_status=0
    arguments=()
    [[ $machine != usbip ]] || arguments=(--programs "$out")
    "${own_mounts[@]}" python3 -B "$here/$machine.py" "${arguments[@]}" || machine_status=$?
    ((machine_status <= status)) || status=$machine_status
done
exit $status

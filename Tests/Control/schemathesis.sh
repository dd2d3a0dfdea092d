#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# schemathesis.sh [SOCKET [VENV]]
#
# Runs the property-based tester schemathesis on a daemon's own /openapi.json, through its Unix socket. Anything that
# the document doesn't say (a status, a field, a header, a wrong request that's taken, a right one that's refused) and
# any 5xx is a failure. What it does, it does for real: devices are emulated, guests declared, loaded and removed.
#
# Without SOCKET it starts $VUSBD with emulated devices on a temporary mount, and stops it again.
# schemathesis is taken from VENV, or installed from PyPI into one that's kept in $VUSB_CACHE.
# Environment: EXAMPLES, cases for each operation and phase (default 40); SECONDS_AT_MOST (default 60); SEED (default 1).
# Exit code: 0 no mismatch, 1 mismatches or it could not be run.
set -euo pipefail

socket=${1:-}
venv=${2:-${VUSB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vusb}/schemathesis}
examples=${EXAMPLES:-40}
limit=${SECONDS_AT_MOST:-60}
here=$(cd "$(dirname "$0")" && pwd)

for tool in socat curl python3; do
    command -v "$tool" > /dev/null || { echo "schemathesis.sh: $tool is missing: apt install $tool" >&2; exit 1; }
done
work=$(mktemp -d)
relay=
daemon=
# vusbd unmounts as it stops, so it's waited for before the directory goes.
finish() {
    [ -z "$relay" ] || kill "$relay" 2> /dev/null || true
    [ -z "$daemon" ] || { kill "$daemon" 2> /dev/null && wait "$daemon"; } || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT
if [ -z "$socket" ]; then
    socket=$work/vusb.sock
    mkdir "$work/vusb" "$work/state"
    "${VUSBD:?schemathesis.sh: give SOCKET, or the path of vusbd in VUSBD}" --mount "$work/vusb" --state "$work/state" \
        --socket "$socket" --no-host --emulate zero --emulate serial --emulate keyboard \
        > "$work/vusbd.log" 2>&1 &
    daemon=$!
    for _ in {1..100}; do
        [ -S "$socket" ] || ! kill -0 "$daemon" 2> /dev/null || { sleep 0.1; continue; }
        break
    done
    [ -S "$socket" ] || { cat "$work/vusbd.log" >&2; exit 1; }
fi
[ -S "$socket" ] || { echo "schemathesis.sh: $socket isn't a socket: start vusbd first" >&2; exit 1; }
if ! [ -x "$venv/bin/schemathesis" ]; then
    echo "installing schemathesis into $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'schemathesis>=4.32,<5' || {
        echo "schemathesis.sh: pip can't install schemathesis: is there a network?" >&2
        exit 1
    }
fi

# A free port of the loopback interface, and the relay from there to the socket.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,backlog=64" "UNIX-CONNECT:$socket" 2> "$work/socat.log" &
relay=$!
curl --silent --fail --retry 20 --retry-connrefused --retry-delay 1 --retry-max-time 10 --max-time 10 \
    --output "$work/openapi.json" "http://127.0.0.1:$port/openapi.json"

# /v1/events is a stream without end: looked at by itself below. One check is left out, since it takes every 404 after
# a device was made as the device's, also where it's for the guest that the body of attach names. What would have vusbd
# connect to servers with made-up names is left to the unit tests.
status=0
cd "$work"
timeout --signal=INT --kill-after=10 "$limit" "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run \
    --no-color --checks all --exclude-checks ensure_resource_availability --exclude-path /v1/events \
    --exclude-operation-id addImport --exclude-operation-id offers \
    --max-examples "$examples" --seed "${SEED:-1}" \
    --request-timeout 10 --generation-database none --url "http://127.0.0.1:$port" "$work/openapi.json" || status=$?
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    echo "schemathesis.sh: not done after $limit s: set EXAMPLES lower than $examples" >&2
    exit 1
fi

# The stream: its head, its first comment, and a wrong header.
stream=$(curl --silent --no-buffer --max-time 2 --dump-header - --unix-socket "$socket" http://localhost/v1/events || true)
grep --quiet --ignore-case '^content-type: text/event-stream' <<< "$stream" && grep --quiet '^: ' <<< "$stream" || {
    echo "schemathesis.sh: /v1/events doesn't begin a stream: $stream" >&2
    status=1
}
code=$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --header 'Last-Event-ID: x' \
    --unix-socket "$socket" http://localhost/v1/events)
[ "$code" = 400 ] || { echo "schemathesis.sh: /v1/events takes a wrong Last-Event-ID: $code" >&2; status=1; }

# Still alive and well after all that.
curl --silent --fail --max-time 5 --unix-socket "$socket" http://localhost/v1/status > /dev/null || {
    echo "schemathesis.sh: the daemon doesn't answer any more" >&2
    status=1
}
[ "$status" -eq 0 ] || exit 1

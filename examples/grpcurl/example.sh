#!/bin/sh
# Makes a sandbox, runs a command in it, removes it. usage: example.sh [SOCKET]
set -eu
socket=${1:-${SANDBOXD_SOCKET:-/run/sandboxd/sandboxd.sock}}
box=example-$$

# call METHOD JSON: prints the responses, as they come.
call()
{
        grpcurl -plaintext -unix -max-time 60 -d "$2" "$socket" "sandboxd.v1.$1"
}

call SandboxService/Create "{\"name\": \"$box\"}"
trap 'call SandboxService/Delete "{\"sandbox_id\": \"$box\"}"; echo deleted' EXIT

# What the command prints is of type bytes, which JSON shows in base64; the last event has its exit
# status.
script='echo to stdout; echo to stderr >&2; exit 3'
call ProcessService/Start "{\"sandbox_id\": \"$box\", \"args\": [\"sh\", \"-c\", \"$script\"]}"

call SandboxService/Get '{"sandbox_id": "no-such-box"}' || echo "grpcurl: status $?"

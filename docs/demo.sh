#!/bin/bash
# Shows sandboxd at work on real parts, in a private directory; leaves nothing running or mounted.
# `sudo make demo` calls it with everything installed and built.
#
# usage: demo.sh BUILD_DIRECTORY DEPS_DIRECTORY
set -euo pipefail

build=$(realpath "$1")
deps=$(realpath -m "$2")
[ "$(id -u)" = 0 ] || {
        echo "demo: sandboxes need root: run 'sudo make demo'" >&2
        exit 1
}
# Debian 13 has it installed; on Debian 12 `make build-deps` has put Debian 13's there.
runsc=$deps/runsc-r24/usr/bin/runsc
[ -x "$runsc" ] || runsc=runsc

dir=$(mktemp -d /tmp/sandboxd-demo.XXXXXX)
export SANDBOXD_SOCKET=$dir/sandboxd.sock
daemon=

say()
{
        printf '\n== %s\n' "$*"
}

# Shows a command as a user would type it.
show()
{
        local word
        printf '$ sandboxctl'
        for word; do
                [[ $word =~ ^[a-z0-9./=-]+$ ]] || word="'$word'"
                printf ' %s' "$word"
        done
        printf '\n'
}

sandboxctl()
{
        show "$@"
        "$build/sandboxctl" "$@"
}

# The same, and puts the time before each line of the output as it comes.
streamed()
{
        show "$@"
        "$build/sandboxctl" "$@" | while IFS= read -r line; do printf '%(%T)T  %s\n' -1 "$line"; done
}

# Until it answers, or has ended.
start_daemon()
{
        "$build/sandboxd" --config "$dir/sandboxd.yaml" >>"$dir/log" 2>&1 &
        daemon=$!
        for _ in $(seq 100); do
                ! "$build/sandboxctl" info >/dev/null 2>&1 || break
                kill -0 "$daemon" 2>/dev/null || break
                sleep 0.1
        done
}

cleanup()
{
        local status=$?
        trap - EXIT
        if [ "$daemon" ]; then
                "$build/sandboxctl" rm demo-runc >/dev/null 2>&1 || true # gone already, as a rule
                "$build/sandboxctl" rm demo-gvisor >/dev/null 2>&1 || true
                kill "$daemon" 2>/dev/null || true
                wait "$daemon" || true
        fi
        if [ $status != 0 ]; then
                echo "demo: failed; the daemon's log:" >&2
                cat "$dir/log" >&2 || true
        fi
        rm -rf "$dir"
        exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "A daemon in a private directory. Its whole configuration:"
cat >"$dir/sandboxd.yaml" <<YAML
socket: $SANDBOXD_SOCKET
data_dir: $dir/data
state_dir: $dir/state
runtimes:
  runsc:
    path: $runsc
dns:
  servers: [1.1.1.1, 8.8.8.8]
YAML
cat "$dir/sandboxd.yaml"
start_daemon
sandboxctl info

say "Two sandboxes: one under runc, one under gVisor (runsc)"
sandboxctl create --name demo-runc --runtime runc
sandboxctl create --name demo-gvisor --runtime runsc

for box in demo-runc demo-gvisor; do
        say "Inside $box"
        sandboxctl exec "$box" -- uname -r
        sandboxctl exec "$box" -- id
        sandboxctl exec "$box" -- cat /etc/resolv.conf
        echo "# A stream; on the left, when each line came:"
        # shellcheck disable=SC2016 # $i is for the shell in the sandbox
        streamed exec "$box" -- sh -c 'for i in 1 2 3; do echo "line $i"; sleep 1; done'
done

say "The daemon is killed, and started again"
# shellcheck disable=SC2016 # for the shell in the sandbox
counting='i=0; while :; do i=$((i+1)); echo $i >count; sleep 0.1; done >/dev/null 2>&1 & echo pid $!'
sandboxctl exec demo-gvisor -- sh -c "$counting"
echo "# kill -9 $daemon"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
start_daemon
sandboxctl exec demo-gvisor -- sh -c 'cat count; sleep 1; cat count'
sandboxctl pause demo-gvisor
sandboxctl resume demo-gvisor
sandboxctl get demo-gvisor

say "Both of them, and then none"
sandboxctl ls
sandboxctl rm demo-runc
sandboxctl rm demo-gvisor
sandboxctl ls
kill "$daemon"
wait "$daemon"
daemon=

say "What you saw"
cat <<TEXT
The daemon made two sandboxes from one image. The one under runc shares the host's kernel
($(uname -r)); the one under gVisor has a kernel of its own, as its 'uname -r' told. In each a
command ran as an unprivileged user, and what it printed came while it ran. When the daemon was
killed and started again, the sandboxes and their processes went on as if nothing had happened.
Nothing is left of it: no process, no mount, and $dir is removed.

What to try next:
  sudo make check                   the unit tests, and the end-to-end tests on both runtimes
  sudo ${build#"$PWD/"}/sandboxd              the daemon with its defaults (README.md: "By hand")
  sudo ${build#"$PWD/"}/sandboxctl --help     the client
TEXT

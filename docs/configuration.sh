#!/bin/bash
# Writes what the option table says to where people read it: docs/configuration.md, made of
# docs/configuration.in.md, and config/sandboxd.yaml.
#
# usage: configuration.sh SANDBOXD [--check]
#
# --check writes nothing and fails when one of them is not what it would be now.
set -euo pipefail
sandboxd=$1
check=${2:-}
cd "$(dirname "$0")/.."

page()
{
        local line
        while IFS= read -r line; do
                if [ "$line" = @KEYS@ ]; then
                        "$sandboxd" --print-config=reference
                else
                        printf '%s\n' "$line"
                fi
        done <docs/configuration.in.md
}

put()
{
        if [ -z "$check" ]; then
                cat >"$1"
        elif ! cmp -s - "$1"; then
                echo "$1 is not what config/options.c says now: run 'make docs'"
                return 1
        fi
}

failed=0
page | put docs/configuration.md || failed=1
"$sandboxd" --print-config=example | put config/sandboxd.yaml || failed=1
exit $failed

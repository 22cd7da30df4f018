#!/bin/bash
# Runs unit test programs, each to its end; shows the whole output of those that fail, and one line
# for each at the end. With STRICT=1 a skipped test is a failure.
#
# usage: unit.sh PROGRAM...
#
# EMULATOR: a command that runs them, for those of another machine; then the tests that are skipped
# must be those that unit/emulation.txt lists, with STRICT=1 or without.
set -u
failed=0
summary=()
read -ra emulator <<<"${EMULATOR:-}"
list=$(dirname "$0")/unit/emulation.txt

# Those that this program may skip.
excused()
{
        [ ${#emulator[@]} = 0 ] || awk -v program="$1" '$1 == program {print $2}' "$list" | sort
}

for program in "$@"; do
        log=$program.log
        name=$(basename "$program")
        verdict=passed
        timeout --kill-after=5 300 "${emulator[@]}" "$program" >"$log" 2>&1 ||
                verdict="FAILED (status $?)"
        skipped=$(sed -n 's/^\[  SKIPPED \] \([^ ]*\)$/\1/p' "$log" | sort -u)
        if [ "${STRICT:-0}" = 1 ] || [ ${#emulator[@]} -gt 0 ]; then
                [ "$skipped" = "$(excused "$name")" ] ||
                        verdict="FAILED (skipped '$skipped', not '$(excused "$name")')"
        fi
        if [ "$verdict" != passed ]; then
                cat "$log"
                failed=1
        fi
        tests=$(sed -n 's/^\[==========\] \(.*: \)\{0,1\}Running \([0-9]*\) test.*/\2/p' "$log" |
                awk '{n += $1} END {print n + 0}')
        summary+=("$(printf '  %-28s %3d tests, %d skipped: %s' \
                "$name" "$tests" "$(wc -w <<<"$skipped")" "$verdict")")
done
[ ${#summary[@]} -eq 0 ] || printf '%s\n' "${summary[@]}"
exit $failed

#!/bin/bash
# Runs unit test programs, each to its end; shows the whole output of those that fail, and one line
# for each at the end. With STRICT=1 a skipped test is a failure.
#
# usage: unit.sh PROGRAM...
#
# EMULATOR: a command that runs them, for those of another machine.
set -u
read -ra emulator <<<"${EMULATOR:-}"
failed=0
summary=()
for program in "$@"; do
        log=$program.log
        verdict=passed
        timeout --kill-after=5 120 "${emulator[@]}" "$program" >"$log" 2>&1 || verdict="FAILED (status $?)"
        skipped=$(sed -n 's/^\[  SKIPPED \] \([^ ]*\)$/\1/p' "$log" | sort -u | wc -l)
        [ "$skipped" = 0 ] || [ "${STRICT:-0}" != 1 ] || verdict="FAILED (skipped under STRICT=1)"
        if [ "$verdict" != passed ]; then
                cat "$log"
                failed=1
        fi
        tests=$(sed -n 's/^\[==========\] \(.*: \)\{0,1\}Running \([0-9]*\) test.*/\2/p' "$log" |
                awk '{n += $1} END {print n + 0}')
        summary+=("$(printf '  %-28s %3d tests, %d skipped: %s' \
                "$(basename "$program")" "$tests" "$skipped" "$verdict")")
done
[ ${#summary[@]} -eq 0 ] || printf '%s\n' "${summary[@]}"
exit $failed

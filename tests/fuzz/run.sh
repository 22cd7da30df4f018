#!/bin/bash
# Runs the fuzzers, two at a time, from the seeds and what earlier runs have found.
#
# usage: run.sh BUILD_DIRECTORY SECONDS NAME...
#
# A fuzzer has the dictionary of its name, if there is one, else the one that the RPC fuzzers share.
# BUILD_DIRECTORY/corpus/NAME keeps what a run finds of use; an input that fails is left in
# BUILD_DIRECTORY/findings with the name of its fuzzer, and with it the fuzzer's output. To see it
# again: BUILD_DIRECTORY/tests/fuzz_NAME FINDING.
set -eu
build=$1
seconds=$2
shift 2
here=$(dirname "$0")

rm -rf "$build/seeds" "$build/findings"
mkdir -p "$build/findings"
"$here/seeds.py" "$build/seeds"
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# An input has -timeout seconds; the whole may take longer than it should only to end the last one.
fuzz()
{
        local dict=$here/fuzz_$1.dict
        [ -e "$dict" ] || dict=$here/fuzz.dict
        mkdir -p "$build/corpus/$1"
        timeout --kill-after=5 $((seconds + 60)) "$build/tests/fuzz_$1" \
                -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1500 -max_len=2000 \
                -dict="$dict" -artifact_prefix="$build/findings/$1-" \
                -print_final_stats=1 -verbosity=1 \
                "$build/corpus/$1" "$build/seeds/$1" >"$build/findings/$1.log" 2>&1
}

report()
{
        local log=$build/findings/$1.log runs coverage
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        coverage=$(sed -n 's/.* cov: \([0-9]*\) ft: .*/\1/p' "$log" | tail -n 1)
        printf '  %-14s %10s runs, %5s edges, %5d inputs: %s\n' "$1" "${runs:-?}" "${coverage:-?}" \
                "$(find "$build/corpus/$1" -type f | wc -l)" "$2"
}

passed=0
failed=0
names=()
pids=()
summary=()
wait_for_all()
{
        local i verdict
        for i in "${!names[@]}"; do
                if wait "${pids[i]}"; then
                        verdict=passed
                        passed=$((passed + 1))
                else
                        verdict="FAILED, see $build/findings"
                        failed=$((failed + 1))
                        tail -n 60 "$build/findings/${names[i]}.log"
                fi
                summary+=("$(report "${names[i]}" "$verdict")")
        done
        names=()
        pids=()
}

for name in "$@"; do
        fuzz "$name" &
        names+=("$name")
        pids+=($!)
        [ ${#names[@]} -lt 2 ] || wait_for_all
done
wait_for_all
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

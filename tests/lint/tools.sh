#!/bin/bash
# The checkers that others wrote: clang-format, cppcheck, shellcheck; and whether docs/api.md is
# stale.
#
# usage: tools.sh CACHE_DIRECTORY
set -u
cache=$1
failed=0
shopt -s nullglob

sources=({base,rpc,runtimed-client,config,manifest,daemon,runtimed,cli}/*.[ch]
        tests/{unit,e2e,interop,fuzz,torture,bench,bench/rpc}/*.[ch])
product=({base,rpc,runtimed-client,config,manifest,daemon,runtimed,cli}/*.c)
scripts=({packaging,docs,examples,examples/grpcurl,tests,tests/{lint,interop,fuzz,bench/rpc}}/*.sh
        .ci/run cli/completion.bash)

# The layout is what version 14 (Debian 12) makes of .clang-format; others differ in places.
version=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
if [ "$version" = 14 ]; then
        clang-format --dry-run -Werror "${sources[@]}" || failed=1
else
        echo "lint: the layout is left unchecked: this is clang-format $version, not 14"
fi

mkdir -p "$cache"
# System headers are left out: it is faster, and cppcheck knows the C library by itself. What it needs
# of the others is in cppcheck.h.
suppressed=(
        --suppress=fgetpwentCalled             # runtimed has one thread, and nothing else reads them
        --suppress=fgetgrentCalled
        --suppress=missingIncludeSystem        # on purpose, see above
        --suppress=resourceLeak                # it does not see what _cleanup_close_ does,
        --suppress=memleak                     # nor _cleanup_free_
        --suppress=readdirCalled               # glibc's readdir is fine, readdir_r is deprecated
        --suppress=ctuuninitvar                # takes outputs for inputs
        --suppress=nullPointerOutOfMemory      # it loses `r = p ? 0 : -ENOMEM`
        --suppress=normalCheckLevelMaxBranches # a remark on itself
)
cppcheck --quiet --std=c11 --language=c -j"$(nproc)" --cppcheck-build-dir="$cache" \
        --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
        "${suppressed[@]}" --library=posix --template=gcc \
        --include=tests/lint/cppcheck.h -I. "${product[@]}" || failed=1

shellcheck "${scripts[@]}" || failed=1
docs/api.py --check || failed=1
exit $failed

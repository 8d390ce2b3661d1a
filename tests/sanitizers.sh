#!/usr/bin/env bash
# Runs unit tests, the zoo and hostile files with the programs of the dev preset, which report bad
# memory use and undefined behaviour.
#     sanitizers.sh BUILD_DIR
set -euo pipefail
build=$1
if [ ! -f "$build/CMakeCache.txt" ]; then
    echo "no dev build: cmake --preset dev && cmake --build --preset dev"
    exit 77
fi
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" -L 'unit|zoo|hostile'

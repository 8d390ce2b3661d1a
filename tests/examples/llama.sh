#!/usr/bin/env bash
# llama.sh PROGRAM: exports the model where that has not been done, asks two questions, and compares
# the answers. Status 77: no model, and none can be made here.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
model=${KN_CACHE:?}/llama
if [ ! -e "$model/done" ] && ! python3 "$here/../../examples/llama/export.py"; then
    echo "SKIPPED: no model in $model, and it cannot be made here (export.py needs pip)"
    exit 77
fi
failed=0
ask() {  # ask EXPECTED ARGUMENTS...
    local expected=$1 got
    shift
    got=$("$program" --model "$model" "$@") && [[ $got == $expected ]] && return
    echo "FAILED: $program --model $model $*"$'\n'"  expected: $expected"$'\n'"  got:      $got"
    failed=1
}
program=$1
ask 'The capital of France is Paris.' --prompt 'What is the capital of France?'
ask ' 5, 6,*' --plain --prompt '1, 2, 3, 4,' --tokens 6
exit $failed

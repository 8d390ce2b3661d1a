#!/usr/bin/env bash
# Public headers include the standard library (<name>) and kn (kn/...), nothing else; those of the
# CUDA parts also the runtime's types.
#     headers.sh INCLUDE_DIR...
set -euo pipefail
foreign=$(grep -rnE '^[[:space:]]*#[[:space:]]*include' --include='*.h' "$@" |
    grep -vE 'include[[:space:]]*([<"]kn/[^">]+[">]|<[a-z_0-9]+>)' |
    grep -vE '/kn/cuda_[a-z]+/[^:]*:[0-9]+:#include <cuda_runtime_api\.h>' || true)
if [ -n "$foreign" ]; then
    printf 'foreign includes in public headers:\n%s\n' "$foreign"
    exit 1
fi

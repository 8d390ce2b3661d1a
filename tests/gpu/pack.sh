#!/bin/bash
# pack.sh BUILD [OUT]: stripped copies of what run.sh needs, from the build folder BUILD into OUT (.gpu/bin in the repository, which git ignores), so
# that they travel to a machine with a GPU together with the sources.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath "$1"); out=${2:-$root/.gpu/bin}
mkdir -p "$out"
for name in kn test_cuda_sys test_cuda_eval dump_device llama stable_diffusion; do
    file=$(find "$build" -type f -perm -u+x -name "$name" | head -1)
    if [ -z "$file" ]; then echo "pack: $name is not built"; continue; fi
    strip -o "$out/$name" "$file"
done
find "$build" -name 'libkn*.so*' -type f -exec cp {} "$out" \;
du -shc "$out"/* | tail -20

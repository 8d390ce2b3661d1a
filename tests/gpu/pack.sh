#!/bin/bash
# pack.sh BUILD [OUT]: stripped copies of what run.sh needs, from the build folder BUILD, as
# OUT.tar.xz (.gpu/bin.tar.xz in the repository, which git ignores), so that they travel to a
# machine with a GPU together with the sources.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath "$1"); out=${2:-$root/.gpu/bin}
rm -rf "$out"; mkdir -p "$out"
for name in kn test_cuda_sys test_cuda_eval dump_device llama stable_diffusion; do
    file=$(find "$build" -type f -perm -u+x -name "$name" | head -1)
    if [ -z "$file" ]; then echo "pack: $name is not built"; continue; fi
    strip -o "$out/$name" "$file"
done
find "$build" -name 'libkn*.so*' -type f -exec cp {} "$out" \;
# The programs have much in common: a window over all of them.
tar -C "$out" -cf - . | xz -T2 --lzma2=preset=6,dict=128MiB >"$out.tar.xz"
rm -rf "$out"
du -h "$out.tar.xz"

#!/usr/bin/env bash
# Installs a build of kn into a temporary prefix and builds and runs the consumer project against
# it.
#     run.sh BUILD_DIR graph|kn|pkg-config|shared|source
set -euo pipefail
build=$1
way=$2
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source=$(dirname "$tests")
work=$build-$way
prefix=$work/prefix
# The library is compiled in folders as deep as the build's own, for ccache's sake.
consumer=$work/consumer
[ "$way" != source ] || consumer=$work
rm -rf "$work"
mkdir -p "$work"

# The flags of the build itself, so that ccache spares what was compiled there.
configure=(cmake -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG"
           --no-warn-unused-cli
           "-DKN_CUDA=$(sed -n 's/^KN_CUDA:[A-Z]*=//p' "$build/CMakeCache.txt")"
           "-DKN_CACHE=$(sed -n 's/^KN_CACHE:[A-Z]*=//p' "$build/CMakeCache.txt")")
! command -v ccache >/dev/null || configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

build_consumer() {  # build_consumer CMAKE_ARGUMENT...
    "${configure[@]}" -S "$tests/consumer" -B "$consumer" "$@" >"$work/configure.log" ||
        { cat "$work/configure.log"; return 1; }
    cmake --build "$consumer" --parallel 2
}

# What a plugin shows to the process that loads it: its own functions, none of what kn is made of.
check_symbols() {
    local foreign
    foreign=$(nm -DC --defined-only "$1" | grep -E 'cblas_|gotoblas|google::protobuf|onnx_pb|fmt::' || true)
    if [ -n "$foreign" ]; then
        printf 'symbols of private libraries are exported by %s:\n%s\n' "$1" "$foreign" | head -20
        return 1
    fi
}

case $way in
graph | kn)
    cmake --install "$build" --prefix "$prefix" >/dev/null
    build_consumer -DUSE="$way" -DCMAKE_PREFIX_PATH="$prefix"
    check_symbols "$consumer/libplugin.so"
    ;;
shared)
    "${configure[@]}" -S "$source" -B "$work" -DBUILD_SHARED_LIBS=ON -DKN_TESTS=OFF \
        -DKN_EXAMPLES=OFF >/dev/null
    cmake --build "$work" --parallel 2
    cmake --install "$work" --prefix "$prefix" >/dev/null
    build_consumer -DUSE=kn -DCMAKE_PREFIX_PATH="$prefix"
    check_symbols "$prefix"/lib*/libkn_graph.so
    ;;
pkg-config)
    cmake --install "$build" --prefix "$prefix" >/dev/null
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name kn.pc)")
    export PKG_CONFIG_PATH
    mkdir "$consumer"
    # shellcheck disable=SC2046
    g++ -std=c++20 -DCONSUMER_HAS_UMBRELLA "$tests/consumer/main.cpp" $(pkg-config --cflags --libs kn) \
        -o "$consumer/consumer"
    ;;
source)
    build_consumer -DUSE=source -DKN_SOURCE="$source"
    ;;
*)
    echo "unknown way: $way" >&2
    exit 2
    ;;
esac
"$consumer/consumer" "$tests/data/zoo/vae_decoder-dynamo/model.onnx"
rm -rf "$work"

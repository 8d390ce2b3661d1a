#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job on real input: a trained network reads the line of text
# in a picture.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
third_party/install.sh

cmake --preset release >/dev/null
cmake --build --preset release --parallel "$(nproc)" --target read_text

model=${KN_CACHE:-.cache}/unpacked/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx
build/release/bin/read_text --model "$model" examples/read_text/line.png

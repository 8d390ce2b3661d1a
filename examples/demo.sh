#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job on real input: a tiny Stable Diffusion
# model draws four prompts (the last line printed is the picture's path), and a trained network
# reads the line of text in a picture.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
third_party/install.sh

cmake --preset release >/dev/null
cmake --build --preset release --parallel "$(nproc)" --target read_text stable_diffusion

model=${KN_CACHE:-.cache}/unpacked/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx
build/release/bin/read_text --model "$model" examples/read_text/line.png

mkdir -p build/demo
build/release/bin/stable_diffusion --seed 6 --output build/demo/contact_sheet.png \
    --prompt "a blue moon left of an orange star on a black background" \
    --prompt "a large red heart on a white background" \
    --prompt "a small green square above a large purple ring on a yellow background" \
    --prompt "a white cross right of a red triangle on a blue background"
echo "$PWD/build/demo/contact_sheet.png"

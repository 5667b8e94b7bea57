#!/usr/bin/env bash
# Downloads into .whl/ the wheels that ci/gpu.sh brings to a machine without a network: Python 3.12, Linux, x86-64.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .whl
python3 -m pip download --disable-pip-version-check -q --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d .whl \
    'array-api-compat>=1.12' array-api-extra==0.11.5 array-api-strict==2.6.1 einops==0.8.2 'rich>=13' \
    markdown-it-py mdurl pygments safetensors==0.8.0
ls -l .whl

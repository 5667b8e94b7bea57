#!/usr/bin/env bash
# Tries anynet on a machine with a CUDA GPU and writes ci/gpu/: REPORT.md, parity.safetensors (every operation) and trace*.safetensors
# (a training in each precision, layer by layer); these `anynet parity check` compares elsewhere. Needs no network: Python 3.12 with
# NumPy, CuPy 14, torch, pytest and hypothesis are there, and ci/wheels.sh has put the other wheels into .whl/.
# `--small`: few tests and tiny networks, the report shown and not kept; so CI runs it to its end in the emulator.
# This script has not been run on a GPU yet: until ci/gpu/REPORT.md exists, what it checks is not known to hold.
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if compgen -G '.whl/*.whl' > /dev/null; then
    "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --target "$work/site" .whl/*.whl || exit 1
fi
export PYTHONPATH="$PWD:$PWD/backends:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
"$python" -c 'from anynet_backends import probe; answer = probe("cuda"); raise SystemExit(answer != "ok" and "no GPU: " + answer)' || exit 1

tests=(tests)
folders=(tests/backends tests/parity tests/conformance tests/cuda)
report=ci/gpu/REPORT.md
small=()
if [ "${1:-}" = --small ]; then
    tests=(tests/backends/test_registry.py)
    folders=(tests/cuda/test_memory.py)
    report="$work/REPORT.md"
    small=(--small)
else
    mkdir -p ci/gpu
fi
failed=0
{
    echo "# anynet on a GPU"
    echo
    echo "Written by ci/gpu.sh, $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD 2> /dev/null || echo unknown)."
    echo
    "$python" ci/gpu_facts.py
} > "$report"

step() { # title, command …: runs it, adds its result and the end of its output to the report
    local title="$1" status=0
    shift
    echo "== $title"
    "$@" > "$work/log" 2>&1 || status=$?
    tail -n 40 "$work/log"
    [ "$status" -eq 0 ] || failed=1
    {
        echo
        echo "## $title: $([ "$status" -eq 0 ] && echo passed || echo "FAILED (exit status $status)")"
        echo
        echo '```'
        tail -n 200 "$work/log"
        echo '```'
    } >> "$report"
}

step "Tests marked gpu" "$python" -m pytest -q -p no:cacheprovider -m gpu "${tests[@]}"
step "Backends, kernels, capture and parity" "$python" -m pytest -q -p no:cacheprovider "${folders[@]}"
step "Twenty steps on the CPU and on the GPU" "$python" ci/gpu_training.py cuda
step "Training steps beside PyTorch" "$python" -m ci.gpu_benchmark ${small[@]+"${small[@]}"}
if [ "${1:-}" != --small ]; then
    step "anynet parity" "$python" -m anynet parity cuda
fi
step "Recording for machines without a GPU" "$python" -m anynet parity record "$(dirname "$report")/parity.safetensors" cuda
traces="$(dirname "$report")"
step "A trace of a training" "$python" -m ci.traces cuda "$traces/trace.safetensors" "ci/gpu.sh"
step "The trace beside this processor" "$python" -m anynet parity check "$traces/trace.safetensors"
for precision in tf32 mixed-bf16 mixed-fp16; do
    trace="$traces/trace-$precision.safetensors"
    step "A trace in $precision" "$python" -m anynet parity record ci/traces.py:network "$trace" cuda loss=cross_entropy optimizer=adam \
        lr=0.01 "precision=$precision"
    step "The trace in $precision beside this processor" "$python" -m anynet parity check "$trace" ci/traces.py:network
done
step "anynet doctor" "$python" -m anynet doctor
if [ "${1:-}" = --small ]; then
    exit "$failed"
fi
echo "report: $report"
exit "$failed"

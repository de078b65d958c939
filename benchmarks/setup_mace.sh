#!/usr/bin/env bash
# Install mace-torch 0.3.16 into an environment of its own: it pins e3nn 0.4.4, which adatom has no
# use for. Set ADATOM_MACE_PYTHON to use one that exists already.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${ADATOM_MACE_PYTHON:-.venv-mace/bin/python}
if ! [ -x "$python" ]; then
    if [ -n "${ADATOM_MACE_PYTHON:-}" ]; then
        echo "ADATOM_MACE_PYTHON is $python, which is not a program" >&2
        exit 2
    fi
    echo "Making .venv-mace" >&2
    "${PYTHON:-python3}" -m venv .venv-mace
    # The CPU build first: mace-torch would take the one with CUDA.
    "$python" -m pip install --quiet "torch==2.13.0+cpu" 2>/dev/null ||
        "$python" -m pip install --quiet "torch==2.13.0" \
            --index-url https://download.pytorch.org/whl/cpu ||
        "$python" -m pip install --quiet "torch==2.13.0"
    "$python" -m pip install --quiet "torch==2.13.0" "mace-torch==0.3.16"
fi
"$python" -c 'from importlib.metadata import version; print("mace-torch", version("mace-torch"))'

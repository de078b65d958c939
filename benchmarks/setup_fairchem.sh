#!/usr/bin/env bash
# Install fairchem-core 2.24.0 into an environment of its own: its requirements and adatom's
# exclude each other. Set ADATOM_FAIRCHEM_PYTHON to use one that exists already.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${ADATOM_FAIRCHEM_PYTHON:-.venv-fairchem/bin/python}
if ! [ -x "$python" ]; then
    if [ -n "${ADATOM_FAIRCHEM_PYTHON:-}" ]; then
        echo "ADATOM_FAIRCHEM_PYTHON is $python, which is not a program" >&2
        exit 2
    fi
    echo "Making .venv-fairchem" >&2
    "${PYTHON:-python3}" -m venv .venv-fairchem
    # The CPU build first: fairchem-core would take the one with CUDA.
    "$python" -m pip install --quiet "torch==2.13.0+cpu" 2>/dev/null ||
        "$python" -m pip install --quiet "torch==2.13.0" \
            --index-url https://download.pytorch.org/whl/cpu ||
        "$python" -m pip install --quiet "torch==2.13.0"
    "$python" -m pip install --quiet "fairchem-core==2.24.0"
fi
"$python" -c 'from importlib.metadata import version; print("fairchem-core", version("fairchem-core"))'

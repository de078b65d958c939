"""Compile the kernel once per machine, and load it.

The library stands in the cache folder (``ADATOM_CACHE_DIR``, else ``~/.cache/adatom``) under a
name made from the sources, the compiler, its flags and the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

_SOURCES = Path(__file__).parent / "cpp"
_REAL = {torch.float32: "float", torch.float64: "double"}
# No -ffast-math: it would change how the whole process treats very small numbers, NaN must stay
# NaN, and the exponential relies on the order of its operations.
_FLAGS = (
    "-std=c++20",
    "-O2",
    "-ftree-vectorize",
    "-fvect-cost-model=dynamic",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
)
_SECONDS = 300
_lock = threading.Lock()


@dataclass(frozen=True)
class Kernel:
    """A compiled library for one dtype.

    Attributes:
        library: Its functions; see ``cpp/engine.cpp``.
        dtype: Of all its numbers.
        panel: Columns per panel of packed matrices.
        max_degree: Highest lmax.
    """

    library: ctypes.CDLL
    dtype: torch.dtype
    panel: int
    max_degree: int


def kernel_for(dtype: torch.dtype) -> Kernel | str:
    """Return the kernel for a dtype, compiled now if it is not in the cache.

    Returns:
        The kernel, or one sentence that says why there is none.
    """
    if dtype not in _REAL:
        return f"The compiled kernel has no {dtype}, only float32 and float64."
    with _lock:
        return _kernel(dtype)


def kernel_from_scratch(dtype: torch.dtype) -> Kernel | str:
    """Return what :func:`kernel_for` would in a new process."""
    compiler = _compiler()
    if compiler is None:
        return "There is no C++ compiler (install g++ or clang++, or set CXX)."
    try:
        path = _compiled(compiler, dtype)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        last = detail.strip().splitlines()[-1] if detail.strip() else type(error).__name__
        return f"The C++ compiler {compiler!r} could not build the kernel: {last}"
    try:
        return _load(path, dtype)
    except OSError as error:
        return f"The compiled kernel {str(path)!r} cannot be loaded: {error}"


_kernel = lru_cache(maxsize=len(_REAL))(kernel_from_scratch)


def cache_folder() -> Path:
    """Return where compiled kernels stand."""
    named = os.environ.get("ADATOM_CACHE_DIR")
    base = Path(named) if named else Path("~/.cache/adatom").expanduser()
    return base / "kernels"


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++", "c++"]
    return next((found for name in candidates if (found := shutil.which(name))), None)


def _compiled(compiler: str, dtype: torch.dtype) -> Path:
    """Return the library, compiled unless it is in the cache."""
    sources = sorted(_SOURCES.iterdir())
    flags = [*_FLAGS, f"-DADATOM_REAL={_REAL[dtype]}"]
    version = _run([compiler, "--version"])
    digest = hashlib.sha256()
    for part in [compiler, version, *flags, _processor(), *(s.read_text() for s in sources)]:
        digest.update(part.encode() + b"\0")
    folder = _private_folder(cache_folder())
    path = folder / f"escn-{_REAL[dtype]}-{digest.hexdigest()[:24]}.so"
    if path.is_file():
        return path
    unfinished = Path(tempfile.mkstemp(dir=folder, suffix=".so")[1])
    try:
        command = [compiler, *flags, str(_SOURCES / "engine.cpp"), "-o", str(unfinished)]
        try:
            _run([*command, "-march=native"])
        except subprocess.CalledProcessError:
            # Some compilers do not know this flag on some processors.
            _run(command)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _private_folder(folder: Path) -> Path:
    """Return the folder if nobody else can write there, otherwise a new one for this process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about = folder.stat()
        mine = about.st_uid == os.getuid() and not about.st_mode & 0o022
        if mine and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="adatom-kernels-"))


def _processor() -> str:
    """Return what the machine code depends on."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        wanted = ("model name", "flags", "Features")
        lines = information.read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()} {platform.processor()}"


def _run(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 - the user's compiler, no shell
        command, capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return done.stdout


def _load(path: Path, dtype: torch.dtype) -> Kernel:
    library = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.adatom_panel.restype = number
    library.adatom_max_degree.restype = number
    library.adatom_engine_new.restype = pointer
    library.adatom_engine_new.argtypes = [pointer]
    library.adatom_engine_free.restype = None
    library.adatom_engine_free.argtypes = [pointer]
    library.adatom_engine_bytes.restype = ctypes.c_int64
    library.adatom_engine_bytes.argtypes = [pointer]
    library.adatom_forward.restype = number
    library.adatom_forward.argtypes = [pointer] * 4
    library.adatom_backward.restype = number
    library.adatom_backward.argtypes = [pointer] * 5
    return Kernel(library, dtype, library.adatom_panel(), library.adatom_max_degree())

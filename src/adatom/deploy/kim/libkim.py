"""The C library of the KIM API, through ctypes: what is needed to run a portable model."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_int, c_void_p
from typing import Any

from adatom.core.errors import AdatomError, ConfigError

#: int f(void* data, int lists, double* cutoffs, int list, int particle, int* count, int** out)
GET_NEIGHBORS = CFUNCTYPE(
    c_int,
    c_void_p,
    c_int,
    POINTER(c_double),
    c_int,
    c_int,
    POINTER(c_int),
    POINTER(c_void_p),
)
_PRINT = CFUNCTYPE(c_int, c_char_p)
#: Functions that return a text, or nothing; all others return an error code.
_TEXT = ("SpeciesName_ToString", "SEM_VER_GetSemVer")
_NOTHING = ("Model_GetInfluenceDistance", "Model_GetNeighborListPointers", "Model_Destroy")


class KimError(AdatomError, RuntimeError):
    """KIM, or a model in it, refused to do something."""


class Constant(ctypes.Structure):
    """A value of one of KIM's enumerations: a structure with one integer, passed by value."""

    _fields_ = (("value", c_int),)


class KimLibrary:
    """The loaded library.

    Args:
        loader: ``ctypes.CDLL`` releases Python's lock during calls; ``ctypes.PyDLL`` keeps it, as
            other bindings do.

    Raises:
        KimError: If the library is not installed.
    """

    def __init__(self, loader: Callable[[str], Any] = ctypes.CDLL) -> None:
        name = ctypes.util.find_library("kim-api")
        if name is None:
            raise KimError(
                "The KIM API library (libkim-api) is not installed",
                fix="On Debian or Ubuntu: apt-get install libkim-api-dev. See: adatom kim doctor",
            )
        self.name = name
        self._library = loader(name)
        for function in _TEXT:
            self.function(function).restype = c_char_p
        for function in _NOTHING:
            self.function(function).restype = None
        self.function("SpeciesName_FromString").restype = Constant
        self._listeners = _Listeners(self)

    def function(self, name: str) -> Any:
        """Return the function ``KIM_<name>``."""
        return getattr(self._library, f"KIM_{name}")

    def constant(self, kind: str, name: str) -> Constant:
        """Return a constant such as ``constant("LENGTH_UNIT", "A")``.

        Raises:
            ConfigError: If KIM has no such constant.
        """
        try:
            return Constant.in_dll(self._library, f"KIM_{kind}_{name}")
        except ValueError as error:
            raise ConfigError(f"KIM has no {kind.lower().replace('_', ' ')} {name!r}") from error

    @property
    def version(self) -> str:
        """The version of the KIM API, such as ``"2.3.0"``."""
        text: bytes = self.function("SEM_VER_GetSemVer")()
        return text.decode()

    @contextmanager
    def messages(self) -> Iterator[list[str]]:
        """Collect what KIM and models log in this thread, instead of in a file kim.log."""
        with self._listeners.listening() as said:
            yield said


class _Listeners:
    """Receives KIM's log of all threads while some thread listens, and sorts it by thread."""

    def __init__(self, library: KimLibrary) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._count = 0
        self._here = threading.local()
        self._callback = _PRINT(self._receive)

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        said: list[str] = []
        before = getattr(self._here, "said", None)
        self._here.said = said
        self._change(1)
        try:
            yield said
        finally:
            self._change(-1)
            self._here.said = before

    def _change(self, by: int) -> None:
        with self._lock:
            if by == 1 and self._count == 0:
                language = self._library.constant("LANGUAGE_NAME", "c")
                push = self._library.function("Log_PushDefaultPrintFunction")
                push(language, self._callback)
            self._count += by
            if self._count == 0:
                self._library.function("Log_PopDefaultPrintFunction")()

    def _receive(self, entry: bytes) -> int:
        said = getattr(self._here, "said", None)
        if said is not None:
            said.append(entry.decode(errors="replace"))
        return 0


@functools.cache
def load_library() -> KimLibrary:
    """Load the library once.

    Raises:
        KimError: If the library is not installed.
    """
    return KimLibrary()

"""One portable model of KIM, open in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import POINTER, byref, c_double, c_int, c_void_p
from typing import Any, Self

import numpy as np

from adatom.deploy.kim.configuration import Configuration
from adatom.deploy.kim.libkim import GET_NEIGHBORS, KimError, KimLibrary, load_library
from adatom.deploy.kim.neighbor_lists import NeighborLists, neighbor_lists
from adatom.deploy.kim.results import Results

#: What a model may be asked for, by KIM's name, with the shape behind the number of particles.
_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "partialEnergy": (),
    "partialForces": (3,),
    "partialParticleEnergy": (),
    "partialVirial": (6,),
    "partialParticleVirial": (6,),
}
_OF_ALL = ("partialEnergy", "partialVirial")
_FIELDS = {
    "partialForces": "forces",
    "partialParticleEnergy": "particle_energies",
    "partialVirial": "virial",
    "partialParticleVirial": "particle_virial",
}


class KimModel(AbstractContextManager["KimModel"]):
    """A model of KIM; several threads may compute with it at once.

    Attributes:
        name: KIM's name.
        species_codes: Chemical symbol to code, for all elements that the model supports.
        influence_distance: In the length unit: how far atoms act.
        cutoffs: Of its neighbor lists.
        needs_ghost_lists: Per list: whether it asks for neighbors of ghosts.
        supported: What it can compute: some of ``partialEnergy``, ``partialForces``,
            ``partialParticleEnergy``, ``partialVirial``, ``partialParticleVirial``.

    Args:
        name: KIM's name of an installed portable model.
        length: KIM's name of the length unit: A, Bohr, cm, m or nm.
        energy: KIM's name of the energy unit: eV, Hartree, J, kcal_mol, amu_A2_per_ps2 or erg.
        library: The KIM API; None loads it.

    Raises:
        KimError: If there is no such model or it cannot be created; says what the model said.
        ConfigError: If KIM does not know a unit.
    """

    def __init__(
        self,
        name: str,
        *,
        length: str = "A",
        energy: str = "eV",
        library: KimLibrary | None = None,
    ) -> None:
        self.name = name
        self._kim = library or load_library()
        self._handle = self._create(length, energy)
        self.influence_distance, self.cutoffs, self.needs_ghost_lists = self._lists()
        self.species_codes = self._species()
        self.supported = self._supported()

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def __enter__(self) -> Self:
        """Return the model; it is closed at the end of the block."""
        return self

    def close(self) -> None:
        """Free the model; it cannot be used afterwards."""
        if self._handle:
            with self._kim.messages():
                self._kim.function("Model_Destroy")(byref(self._handle))
            self._handle = c_void_p()

    def compute(
        self, configuration: Configuration, wanted: Sequence[str] = ("partialForces",)
    ) -> Results:
        """Compute the energy and what else is wanted.

        Args:
            configuration: Particles with coordinates in the model's length unit, at least to the
                influence distance.
            wanted: Some of :attr:`supported`.

        Raises:
            KimError: If the model fails, says what it said; or does not offer what is wanted.
        """
        names = ["partialEnergy", *wanted]
        missing = [name for name in names if name not in self.supported]
        if missing:
            raise KimError(f"The model {self.name} does not compute {', '.join(missing)}")
        lists = [
            neighbor_lists(configuration, cutoff, of_ghosts=ghosts)
            for cutoff, ghosts in zip(self.cutoffs, self.needs_ghost_lists, strict=True)
        ]
        count = len(configuration.species)
        found = {
            name: np.zeros((() if name in _OF_ALL else (count,)) + _ARGUMENTS[name])
            for name in names
        }
        self._run(configuration, lists, found)
        fields = {_FIELDS[name]: values for name, values in found.items() if name in _FIELDS}
        return Results(energy=float(found["partialEnergy"]), **fields)

    def _create(self, length: str, energy: str) -> c_void_p:
        constant, handle, accepted = self._kim.constant, c_void_p(), c_int()
        with self._kim.messages() as said:
            error = self._kim.function("Model_Create")(
                constant("NUMBERING", "zeroBased"),
                constant("LENGTH_UNIT", length),
                constant("ENERGY_UNIT", energy),
                constant("CHARGE_UNIT", "e"),
                constant("TEMPERATURE_UNIT", "K"),
                constant("TIME_UNIT", "ps"),
                self.name.encode(),
                byref(accepted),
                byref(handle),
            )
        if error:
            raise KimError(f"KIM cannot open the model {self.name!r}: {_errors(said)}")
        if not accepted.value:
            with self._kim.messages():
                self._kim.function("Model_Destroy")(byref(handle))
            raise KimError(f"The model {self.name!r} does not work in {length} and {energy}")
        return handle

    def _lists(self) -> tuple[float, tuple[float, ...], tuple[bool, ...]]:
        distance, count = c_double(), c_int()
        cutoffs, will_not = POINTER(c_double)(), POINTER(c_int)()
        self._kim.function("Model_GetInfluenceDistance")(self._handle, byref(distance))
        self._kim.function("Model_GetNeighborListPointers")(
            self._handle, byref(count), byref(cutoffs), byref(will_not)
        )
        lists = range(count.value)
        return (
            distance.value,
            tuple(cutoffs[i] for i in lists),
            tuple(not will_not[i] for i in lists),
        )

    def _species(self) -> dict[str, int]:
        from ase.data import chemical_symbols

        codes = {}
        with self._kim.messages():
            for symbol in chemical_symbols[1:]:
                species = self._kim.function("SpeciesName_FromString")(symbol.encode())
                supported, code = c_int(), c_int()
                failed = self._kim.function("Model_GetSpeciesSupportAndCode")(
                    self._handle, species, byref(supported), byref(code)
                )
                if not failed and supported.value:
                    codes[symbol] = code.value
        return codes

    def _supported(self) -> tuple[str, ...]:
        not_supported = self._kim.constant("SUPPORT_STATUS", "notSupported").value
        found = []
        with self._kim.messages() as said, _Arguments(self._kim, self._handle, said) as arguments:
            for name in _ARGUMENTS:
                status = type(self._kim.constant("SUPPORT_STATUS", "optional"))()
                self._kim.function("ComputeArguments_GetArgumentSupportStatus")(
                    arguments, self._kim.constant("COMPUTE_ARGUMENT_NAME", name), byref(status)
                )
                if status.value != not_supported:
                    found.append(name)
        return tuple(found)

    def _run(
        self,
        configuration: Configuration,
        lists: Sequence[NeighborLists],
        found: dict[str, np.ndarray],
    ) -> None:
        """Let the model write into the arrays of ``found``."""
        given: dict[str, np.ndarray] = {
            "numberOfParticles": np.array([len(configuration.species)], dtype=np.int32),
            "particleSpeciesCodes": configuration.species.astype(np.int32),
            "particleContributing": configuration.contributing.astype(np.int32),
            "coordinates": np.ascontiguousarray(configuration.coordinates, dtype=np.float64),
        }
        callback = GET_NEIGHBORS(_neighbors_from(lists))
        with self._kim.messages() as said, _Arguments(self._kim, self._handle, said) as arguments:
            for name, values in {**given, **found}.items():
                _set_pointer(self._kim, arguments, name, values)
            self._kim.function("ComputeArguments_SetCallbackPointer")(
                arguments,
                self._kim.constant("COMPUTE_CALLBACK_NAME", "GetNeighborList"),
                self._kim.constant("LANGUAGE_NAME", "c"),
                callback,
                c_void_p(),
            )
            if self._kim.function("Model_Compute")(self._handle, arguments):
                raise KimError(f"The model {self.name} failed: {_errors(said)}")


class _Arguments(AbstractContextManager[c_void_p]):
    """KIM's object for the arguments of one call."""

    def __init__(self, kim: KimLibrary, model: c_void_p, said: list[str]) -> None:
        self._kim, self._model, self._said = kim, model, said
        self._handle = c_void_p()

    def __enter__(self) -> c_void_p:
        create = self._kim.function("Model_ComputeArgumentsCreate")
        if create(self._model, byref(self._handle)):
            raise KimError(f"KIM cannot prepare a computation: {_errors(self._said)}")
        return self._handle

    def __exit__(self, *_: object) -> None:
        self._kim.function("Model_ComputeArgumentsDestroy")(self._model, byref(self._handle))


def _set_pointer(kim: KimLibrary, arguments: c_void_p, name: str, values: np.ndarray) -> None:
    kind = "Double" if values.dtype == np.float64 else "Integer"
    pointer = values.ctypes.data_as(c_void_p)
    kim.function(f"ComputeArguments_SetArgumentPointer{kind}")(
        arguments, kim.constant("COMPUTE_ARGUMENT_NAME", name), pointer
    )


def _neighbors_from(lists: Sequence[NeighborLists]) -> Any:
    """Return the function that a model asks for the list of one particle."""
    starts = [each.start.tolist() for each in lists]
    addresses = [each.particles.ctypes.data for each in lists]
    size = ctypes.sizeof(c_int)

    def neighbors(
        _data: int, _count: int, _cutoffs: Any, which: int, particle: int, number: Any, out: Any
    ) -> int:
        if not (0 <= which < len(starts) and 0 <= particle < len(starts[which]) - 1):
            return 1
        first = starts[which][particle]
        number[0] = starts[which][particle + 1] - first
        out[0] = addresses[which] + size * first
        return 0

    return neighbors


def _errors(said: Sequence[str]) -> str:
    """Return what KIM's log says went wrong: the model's own words, else those of KIM."""
    # time * number * level * object * file:line * message
    entries = [entry.rstrip("\n").split(" * ", 5) for entry in said]
    errors = [entry for entry in entries if len(entry) == 6 and entry[2] in ("error", "fatal")]
    of_model = [entry[5] for entry in errors if not entry[4].startswith("KIM_")]
    return " ".join(of_model or [entry[5] for entry in errors]) or "it does not say why."

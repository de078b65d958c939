"""Formation energies instead of total energies, from any ASE calculator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, DataError, unknown_name

#: Which table of corrections to energies of oxides, fluorides, transition metals and so on.
CorrectionType = Literal["MP2020", "OMat24"]


class FormationEnergyCalculator(Calculator):
    """Subtract an energy per element from the energy that another calculator gives.

    ``energy = E - sum over atoms of reference[element]`` in eV, likewise ``free_energy`` and, where
    the calculator gives them, ``energies`` (these without corrections). Forces, stress and all
    else are passed on.

    Args:
        calculator: The calculator of total energies.
        element_references: Reference energy in eV per atom by element symbol. None takes those of
            the potential's checkpoint for the calculator's task.
        apply_corrections: Whether to add the empirical corrections (Materials Project style, of
            anions and of elements with +U) that make energies of different classes of compounds
            comparable. They come from the package fairchem-data-omat. None means True for the
            task ``omat`` of a potential, else False.
        correction_type: Which table of corrections.

    Raises:
        ConfigError: If there are no references, or corrections belong to another task, or the
            package with the corrections is not installed.
        UnknownNameError: If there is no such type of corrections.
    """

    def __init__(
        self,
        calculator: Calculator,
        element_references: Mapping[str, float] | None = None,
        apply_corrections: bool | None = None,
        correction_type: CorrectionType = "OMat24",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if correction_type not in get_args(CorrectionType):
            raise unknown_name("type of corrections", correction_type, get_args(CorrectionType))
        self._correct = _corrections(calculator, apply_corrections, correction_type)
        self.calculator = calculator
        self.element_references = _references(calculator, element_references)
        self.implemented_properties = list(calculator.implemented_properties)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute the inner calculator's results and subtract the references; called by ASE.

        Raises:
            DataError: If there is no reference for an element.
            AdatomError: As the inner calculator.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise DataError("The calculator has no structure", fix="Call it with atoms.")
        counts = Counter(atoms.get_chemical_symbols())
        missing = sorted(set(counts) - set(self.element_references))
        if missing:
            raise DataError(
                f"There is no reference energy for {', '.join(missing)}",
                expected=f"elements among {', '.join(sorted(self.element_references))}",
                fix="Give element_references with them.",
            )
        for name in properties:
            self.calculator.get_property(name, atoms)
        results: dict[str, Any] = dict(self.calculator.results)
        shift = -sum(self.element_references[symbol] * n for symbol, n in counts.items())
        if self._correct is not None and "energy" in results:
            shift += self._correct(results["energy"], atoms) - results["energy"]
        for name in ("energy", "free_energy"):
            if name in results:
                results[name] = results[name] + shift
        if "energies" in results:
            results["energies"] = results["energies"] - [
                self.element_references[symbol] for symbol in atoms.get_chemical_symbols()
            ]
        super().calculate(  # type: ignore[no-untyped-call]
            atoms, list(properties), list(system_changes)
        )
        self.results = results

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """List what changed since the last calculation, as the inner calculator sees it."""
        changes: list[str] = self.calculator.check_state(atoms, tol)
        return changes or super().check_state(atoms, tol)  # type: ignore[no-untyped-call]


def _corrections(
    calculator: Calculator, wanted: bool | None, kind: CorrectionType
) -> Callable[[float, Atoms], float] | None:
    task = calculator.task_name if isinstance(calculator, MLIPCalculator) else None
    wanted = task == "omat" if wanted is None else wanted
    if not wanted:
        return None
    if task not in (None, "omat"):
        raise ConfigError(
            f"Corrections were asked for, but the calculator's task is {task!r}",
            expected="the task 'omat', whose level of theory they were made for",
            fix="Pass apply_corrections=False.",
        )
    try:
        from fairchem.data.omat.entries.compatibility import apply_mp_style_corrections
    except ImportError as error:
        raise ConfigError(
            f"The {kind} corrections need the package 'fairchem-data-omat', which is not installed",
            fix="Install it with: pip install fairchem-data-omat. Or pass apply_corrections=False "
            "to get formation energies without corrections.",
        ) from error
    return lambda energy, atoms: float(
        apply_mp_style_corrections(energy, atoms, correction_type=kind)
    )


def _references(calculator: Calculator, given: Mapping[str, float] | None) -> dict[str, float]:
    if given is not None:
        return {str(symbol): float(value) for symbol, value in given.items()}
    if not isinstance(calculator, MLIPCalculator):
        raise ConfigError(
            f"{type(calculator).__name__} knows no reference energies",
            expected="element_references: energy in eV per atom by element symbol",
        )
    task = calculator.task_name
    tables = calculator.predict_unit.potential.metadata.get("form_elem_refs") or {}
    if task not in tables:
        raise ConfigError(
            f"The potential's checkpoint has no formation reference energies for {task!r}",
            expected="element_references: energy in eV per atom by element symbol",
        )
    return {str(symbol): float(value) for symbol, value in tables[task].items()}

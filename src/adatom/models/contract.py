"""The promises that every backbone keeps, as checks that authors of models can run.

A new backbone is used by training, inference, simulation and export without further code, because
all of them rely on these promises and on nothing else. In a test:

    from adatom.models.contract import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        CHECKS[check](Subject(lambda: (MyBackbone(), MyHead())))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adatom.core.errors import unknown_name
from adatom.models import contract_numerics as numerics
from adatom.models import contract_symmetry as symmetry
from adatom.models.contract_partition import partition_equals_whole
from adatom.models.contract_subject import ContractError, ModelFactory, Subject

__all__ = ["CHECKS", "ContractError", "ModelFactory", "Subject", "run_contract"]

#: Every check by name; each takes a :class:`Subject` and raises :class:`ContractError`.
CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        numerics.input_not_mutated,
        symmetry.batch_equals_singles,
        symmetry.atom_permutation,
        symmetry.rotation,
        symmetry.reflection,
        symmetry.translation,
        numerics.forces_are_gradients,
        numerics.stress_is_gradient,
        numerics.smooth_at_cutoff,
        symmetry.extensivity,
        symmetry.isolated_atom,
        symmetry.empty_neighborhood,
        symmetry.nested_edges,
        partition_equals_whole,
        numerics.single_and_double_precision,
        numerics.double_backward,
        numerics.state_dict_round_trip,
        numerics.deterministic,
    )
}


def run_contract(
    make_model: ModelFactory,
    *,
    elements: Iterable[int] = (1, 6, 8),
    datasets: Iterable[str] = ("default",),
    charges: Iterable[int] = (0,),
    spins: Iterable[int] = (0,),
    checks: Iterable[str] | None = None,
) -> list[str]:
    """Run the contract suite on one model.

    Args:
        make_model: Returns a freshly built ``(backbone, head)``; called several times, with
            torch's random state seeded (and restored) around each call.
        elements: Atomic numbers to build structures from.
        datasets: Dataset names to use.
        charges: Total charges to use.
        spins: Multiplicities to use.
        checks: Names among :data:`CHECKS`; None runs all.

    Returns:
        The names of the checks that were run.

    Raises:
        ContractError: At the first broken promise, with what was found and expected.
        UnknownNameError: If a check has no such name.
    """
    subject = Subject(make_model, tuple(elements), tuple(datasets), tuple(charges), tuple(spins))
    names = list(CHECKS) if checks is None else list(checks)
    for name in names:
        if name not in CHECKS:
            raise unknown_name("contract check", name, CHECKS)
        CHECKS[name](subject)
    return names

"""From a base and facts about the data to the potential that is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ase.data import chemical_symbols

from adatom.core.console import print_table, say
from adatom.core.errors import MissingLabelError, OutOfDomainError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.tasks.domain import Domain, as_ranges
from adatom.tasks.losses import build_loss
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.finetuning.new_dataset import add_dataset
from adatom.training.finetuning.references import ReferenceRefit, refit_references, rescale
from adatom.training.finetuning.settings import FinetuningSettings
from adatom.training.finetuning.source_names import like_of
from adatom.training.sources import DatasetFacts
from adatom.training.train_unit import DEFAULT_LOSSES


@dataclass(slots=True)
class Prepared:
    """What is trained, and how it was made.

    Attributes:
        potential: With the datasets of the data and those that are kept.
        likes: From each dataset of the data to that of the base which it began as.
        refits: Of the new datasets, unless their references were kept.
    """

    potential: Potential
    likes: dict[str, str]
    refits: list[ReferenceRefit] = field(default_factory=list)


def prepare(
    base: Potential,
    facts: Mapping[str, DatasetFacts],
    systems: Sequence[AtomicData],
    settings: FinetuningSettings,
) -> Prepared:
    """Give a base the datasets of the data.

    Args:
        base: Its modules are shared where nothing has to be added.
        facts: About the training structures, by dataset.
        systems: Training structures, for the references.
        settings: Of the fine-tuning.

    Raises:
        OutOfDomainError: If the data have elements that the base never saw.
        MissingLabelError: If a loss has no labels.
        ConfigError: If it has to be said which dataset a new one is like.
        UnknownNameError: If a dataset, property or loss is not known.
    """
    potential = base
    out = Prepared(base, {})
    for name, fact in facts.items():
        if name in base.datasets:
            out.likes[name] = name
            potential = _with_domain(potential, name, _joined(base.domains[name], fact.domain))
            continue
        like = out.likes[name] = like_of(settings.like, name, base.datasets)
        if not settings.new_elements:
            _check_elements(fact.domain, base.domains[like], name, like)
        potential = add_dataset(potential, name, like, fact.domain)
        if settings.scale == "data":
            potential = rescale(potential, name, fact.scale)
        if settings.references == "refit":
            own = [system for system in systems if system.dataset[0] == name]
            potential, refit = refit_references(potential, name, own)
            out.refits.append(refit)
    kept = _kept(base, settings)
    tasks = trained_tasks(potential.tasks, facts, settings.losses, kept=kept)
    domains = {name: d for name, d in potential.domains.items() if name in {*facts, *kept}}
    out.potential = Potential(
        potential.backbone, potential.head, tasks, domains, metadata=potential.metadata
    )
    return out


def trained_tasks(
    tasks: Sequence[Task],
    facts: Mapping[str, DatasetFacts],
    losses: Mapping[str, Mapping[str, Any]] | None,
    *,
    kept: Collection[str],
) -> list[Task]:
    """Return the tasks of the data with their losses, and those that are kept without one.

    Args:
        tasks: Of all datasets.
        facts: Of the training structures, by dataset.
        losses: From property to its loss; None takes the loss of the task, or the usual one.
        kept: Datasets that stay without being trained.

    Raises:
        MissingLabelError: If ``losses`` has a property without labels, or nothing has a label.
        UnknownNameError: If a property or loss is not known.
    """
    for prop, chosen in (losses or {}).items():
        build_loss(prop, chosen)
    out: list[Task] = []
    used: set[str] = set()
    for task in tasks:
        datasets = [name for name in task.datasets if name in {*facts, *kept}]
        if not datasets:
            continue
        labelled = any(facts[d].labelled.get(task.property) for d in datasets if d in facts)
        given = losses if losses is not None else _usual_losses(task)
        spec: dict[str, Any] | None = None
        if labelled and task.property in given:
            spec = dict(given[task.property])
            used.add(task.property)
        out.append(replace(task, datasets=datasets, loss_fn=spec, inference_only=spec is None))
    missing = sorted(set(losses or {}) - used)
    if missing or not used:
        there = sorted({name for fact in facts.values() for name in fact.labelled})
        raise MissingLabelError(
            f"There is a loss of {missing[0] if missing else 'energy and forces'}, but no training "
            "structure has that label",
            expected=f"losses among the labels that are there: {', '.join(there)}",
            fix="Name the label's key with label_keys, or change losses.",
        )
    return out


def show_tasks(prepared: Prepared, facts: Mapping[str, DatasetFacts]) -> None:
    """Print what is trained on which data, beginning from what."""
    rows = []
    for name, fact in facts.items():
        for task in prepared.potential.tasks:
            if name in task.datasets and task.loss_fn is not None:
                like = prepared.likes[name]
                begun = "itself" if like == name else like
                count = fact.labelled.get(task.property, 0)
                loss = f"{task.loss_fn.get('coefficient', 1.0):g} {task.loss_fn['name']}"
                rows.append((name, begun, task.property, count, loss))
    columns = ("dataset", "begins as", "property", "training structures", "loss")
    print_table("What is trained", columns, rows)
    idle = sorted(set(prepared.potential.datasets) - set(facts))
    if idle:
        say(f"Kept without training, so that their predictions may drift: {', '.join(idle)}.")


def _usual_losses(task: Task) -> Mapping[str, Mapping[str, Any]]:
    return DEFAULT_LOSSES if task.loss_fn is None else {task.property: task.loss_fn}


def _kept(base: Potential, settings: FinetuningSettings) -> set[str]:
    for name in settings.keep or []:
        if name not in base.datasets:
            raise unknown_name("dataset to keep", name, base.datasets)
    return set(settings.keep or [])


def _check_elements(domain: Domain, known: Domain, name: str, like: str) -> None:
    unseen = [z for z in domain.elements if z not in known.elements]
    if unseen:
        symbols = ", ".join(chemical_symbols[z] for z in unseen)
        raise OutOfDomainError(
            f"The data of {name!r} have {symbols}, which the base never saw in {like!r}",
            expected=f"elements among {as_ranges(known.elements, chemical_symbols.__getitem__)}",
            fix="Begin from a dataset that has them, or set new_elements if there are enough data "
            "to learn them.",
        )


def _joined(old: Domain, new: Domain) -> Domain:
    """Return what both contain; elements must be those of the old one, whose references stay."""

    def either(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({*a, *b})) if a else ()

    return Domain(old.elements, either(old.charges, new.charges), either(old.spins, new.spins))


def _with_domain(potential: Potential, name: str, domain: Domain) -> Potential:
    return Potential(
        potential.backbone,
        potential.head,
        potential.tasks,
        {**potential.domains, name: domain},
        metadata=potential.metadata,
    )

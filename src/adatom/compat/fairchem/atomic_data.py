"""Structures as fairchem-core's scripts handle them: tensors by attribute or by key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import wrap_positions

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data import atomic_data as own
from adatom.data.ase_convert import from_ase
from adatom.graph.edges import Edges

_ATOM_KEYS = ("pos", "atomic_numbers", "tags", "fixed", "forces")
_SYSTEM_KEYS = ("cell", "pbc", "natoms", "nedges", "charge", "spin", "energy", "stress")
_EDGE_KEYS = ("edge_index", "cell_offsets")
_LABELS = ("energy", "forces", "stress")
#: How molecules are put into a box, or edges found: names that scripts pass.
_GRAPH_METHODS = ("pymatgen", "nvidia")


class AtomicData:
    """One structure or a batch, with the fields of fairchem-core; N atoms, B systems, E edges.

    ``pos [N, 3]``, ``atomic_numbers [N]``, ``cell [B, 3, 3]``, ``pbc [B, 3]``, ``natoms [B]``,
    ``edge_index [2, E]``, ``cell_offsets [E, 3]``, ``nedges [B]``, ``charge [B]``, ``spin [B]``,
    ``fixed [N]``, ``tags [N]``, ``batch [N]``, ``sid`` and ``dataset`` (lists; ``task_name`` is
    another name for it), and where given ``energy [B]``, ``forces [N, 3]`` and
    ``stress [B, 3, 3]``. Each is an attribute and an item.

    Args:
        **values: The fields; ``batch``, ``sid`` and ``dataset`` may be left out.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__["_values"] = {}
        for name, value in values.items():
            if value is not None:
                self[name] = value
        natoms = self["natoms"]
        if "batch" not in self:
            systems = torch.arange(len(natoms), device=natoms.device)
            self["batch"] = torch.repeat_interleave(systems, natoms)
        for name in ("sid", "dataset"):
            given = self.get(name, "")
            self[name] = [given] * len(natoms) if isinstance(given, str) else list(given)

    @classmethod
    def from_ase(
        cls,
        input_atoms: Atoms,
        r_edges: bool = False,
        radius: float = 6.0,
        max_neigh: int | None = None,
        sid: str | None = None,
        molecule_cell_size: float | None = None,
        r_energy: bool = True,
        r_forces: bool = True,
        r_stress: bool = True,
        r_data_keys: Collection[str] | None = None,
        task_name: str | None = None,
        target_dtype: torch.dtype = torch.float32,
        external_graph_method: str = "pymatgen",
    ) -> AtomicData:
        """Convert an ASE structure, which is not changed; positions are wrapped into the cell.

        Args:
            input_atoms: The structure.
            r_edges: Find edges; predictions use them only with ``external_graph_gen``.
            radius: Of the edges, in angstrom.
            max_neigh: Neighbors per atom; None keeps all.
            sid: Identifier.
            molecule_cell_size: Put a molecule into a periodic box with this much vacuum around it,
                in angstrom.
            r_energy: Take the energy along that a SinglePointCalculator, ``info`` or ``arrays``
                hold; likewise the next two.
            r_forces: See there.
            r_stress: See there.
            r_data_keys: Accepted; charge and spin are read from ``atoms.info`` whether named or
                not.
            task_name: The task.
            target_dtype: Of floating numbers.
            external_graph_method: Accepted; the edges are the same.

        Raises:
            DataError: If the structure cannot be used.
            UnknownNameError: If there is no such method.
        """
        del r_data_keys
        if external_graph_method not in _GRAPH_METHODS:
            raise unknown_name("method", str(external_graph_method), _GRAPH_METHODS)
        atoms = _in_box(input_atoms, molecule_cell_size)
        if not isinstance(atoms.calc, SinglePointCalculator):
            atoms = atoms.copy()  # without the calculator: its last results are no labels
        cell = np.array(atoms.cell.complete())
        read = from_ase(atoms, dataset=str(task_name or ""), sid=sid)
        wrapped = wrap_positions(atoms.positions, cell, pbc=atoms.pbc, eps=0)
        read.pos = torch.from_numpy(wrapped)
        edges = _edges(read, radius, max_neigh) if r_edges else _no_edges()
        wanted = {"energy": r_energy, "forces": r_forces, "stress": r_stress}
        labels = {name: value for name, value in read.labels.items() if wanted.get(name)}
        return cls(
            pos=read.pos.to(target_dtype),
            atomic_numbers=read.atomic_numbers,
            cell=torch.from_numpy(cell)[None].to(target_dtype),
            pbc=read.pbc,
            natoms=read.natoms,
            edge_index=edges.index,
            cell_offsets=edges.offsets.to(target_dtype),
            nedges=edges.counts,
            charge=read.charge,
            spin=read.spin,
            fixed=read.fixed.long(),
            tags=read.tags,
            sid=read.sid if sid is None else sid,
            dataset=str(task_name or ""),
            **{name: value.to(target_dtype) for name, value in labels.items()},
        )

    def to_adatom(self, *, with_edges: bool = False) -> own.AtomicData:
        """Return the same as adatom's own type, positions in float64.

        Args:
            with_edges: Keep the edges; otherwise new ones are found when they are needed.
        """
        molecule = ~self["pbc"].any(1)
        identity = (self["cell"] == torch.eye(3).to(self["cell"])).flatten(1).all(1)
        # fairchem's from_ase completes the cell of a molecule, which has none, by unit vectors.
        cell = torch.where((molecule & identity)[:, None, None], 0.0, self["cell"].double())
        return own.AtomicData(
            pos=self["pos"].double(),
            atomic_numbers=self["atomic_numbers"],
            cell=cell,
            pbc=self["pbc"],
            natoms=self["natoms"],
            batch=self["batch"],
            charge=self["charge"],
            spin=self["spin"],
            dataset=list(self["dataset"]),
            tags=self["tags"],
            fixed=self["fixed"].bool(),
            sid=list(self["sid"]),
            edges=self._sorted_edges() if with_edges else None,
        )

    def _sorted_edges(self) -> Edges:
        order = torch.argsort(self["edge_index"][1], stable=True)
        offsets = self["cell_offsets"][order].round().long()
        return Edges(self["edge_index"][:, order], offsets, self["nedges"])

    @property
    def num_nodes(self) -> int:
        """Number of atoms N."""
        return int(self["pos"].shape[0])

    @property
    def num_edges(self) -> int:
        """Number of edges E."""
        return int(self["edge_index"].shape[1])

    @property
    def num_graphs(self) -> int:
        """Number of systems B."""
        return len(self["natoms"])

    def __len__(self) -> int:
        return self.num_graphs

    def __getattr__(self, name: str) -> Any:
        """Return a field."""
        key = "dataset" if name == "task_name" else name
        try:
            return self.__dict__["_values"][key]
        except KeyError:
            raise AttributeError(f"This AtomicData has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field."""
        self[name] = value

    def __getitem__(self, key: str | int) -> Any:
        """Return a field by name, or one system of a batch by number."""
        return getattr(self, key) if isinstance(key, str) else self.get_example(key)

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a field."""
        key = "dataset" if key == "task_name" else key
        if key in ("dataset", "sid") and isinstance(value, str):
            value = [str(value)] * len(self.__dict__["_values"]["natoms"])
        self.__dict__["_values"][key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.__dict__["_values"]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Go through names and values."""
        return iter(sorted(self.__dict__["_values"].items()))

    def keys(self) -> list[str]:
        """Return the names of the fields."""
        return sorted(self.__dict__["_values"])

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field, or ``default``."""
        return self.__dict__["_values"].get(key, default)

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor]) -> AtomicData:
        """Return a copy with every tensor changed by a function."""
        return AtomicData(
            **{k: change(v) if isinstance(v, torch.Tensor) else list(v) for k, v in self}
        )

    def to(self, device: torch.device | str) -> AtomicData:
        """Return a copy on ``device``; this one stays as it is."""
        return self.apply(lambda tensor: tensor.to(device))

    def clone(self) -> AtomicData:
        """Return a copy that shares no memory."""
        return self.apply(torch.Tensor.clone)

    def get_example(self, idx: int) -> AtomicData:
        """Return one system of a batch."""
        return self.batch_to_atomicdata_list()[idx]

    def batch_to_atomicdata_list(self) -> list[AtomicData]:
        """Split into single systems, in order."""
        atom_ends = torch.cumsum(self["natoms"], 0).tolist()
        edge_ends = torch.cumsum(self["nedges"], 0).tolist()
        systems = []
        for i, (n, e) in enumerate(
            zip(self["natoms"].tolist(), self["nedges"].tolist(), strict=True)
        ):
            atoms, edges = (
                slice(atom_ends[i] - n, atom_ends[i]),
                slice(edge_ends[i] - e, edge_ends[i]),
            )
            rows = {
                **dict.fromkeys(_ATOM_KEYS, atoms),
                **dict.fromkeys((*_SYSTEM_KEYS, "sid", "dataset"), slice(i, i + 1)),
                "cell_offsets": edges,
            }
            values = {name: self[name][rows[name]] for name in rows if name in self}
            index = self["edge_index"][:, edges] - atoms.start
            systems.append(AtomicData(**values, edge_index=index))
        return systems

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={list(v.shape) if isinstance(v, torch.Tensor) else v}" for name, v in self
        )
        return f"AtomicData({fields})"


def atomicdata_list_to_batch(
    data_list: Sequence[AtomicData], exclude_keys: Collection[str] | None = None
) -> AtomicData:
    """Join structures into one batch, in order.

    Args:
        data_list: At least one; with the same labels.
        exclude_keys: Labels to leave out.

    Raises:
        DataError: If the list is empty, or only some structures have a label.
    """
    if not data_list:
        raise DataError("An empty list of structures cannot be batched", expected="at least one")
    excluded = set(exclude_keys or ())
    names = [*_ATOM_KEYS, *_SYSTEM_KEYS, "cell_offsets"]
    joined: dict[str, Any] = {}
    for name in (name for name in names if name not in excluded):
        having = [data for data in data_list if name in data]
        if having and len(having) < len(data_list):
            raise DataError(
                f"{len(data_list) - len(having)} of {len(data_list)} structures have no {name!r}",
                expected="the same labels everywhere",
                fix=f"Read them with r_{name}=False, or pass exclude_keys=[{name!r}].",
            )
        if having:
            joined[name] = torch.cat([data[name] for data in data_list])
    start, indices = 0, []
    for data in data_list:
        indices.append(data["edge_index"] + start)
        start += data.num_nodes
    return AtomicData(
        **joined,
        edge_index=torch.cat(indices, dim=1),
        sid=[sid for data in data_list for sid in data["sid"]],
        dataset=[name for data in data_list for name in data["dataset"]],
    )


def _in_box(atoms: Atoms, vacuum: float | None) -> Atoms:
    if vacuum is None:
        return atoms
    if atoms.cell.volume > 0:
        raise ConfigError(
            "molecule_cell_size was given for a structure that has a cell",
            expected="a molecule without a cell",
        )
    boxed: Atoms = atoms.copy()
    boxed.center(vacuum=vacuum)
    boxed.pbc = True
    return boxed


def _edges(data: own.AtomicData, radius: float, max_neigh: int | None) -> Edges:
    edges = data.with_edges(radius, max_neighbors=max_neigh).edges
    return _no_edges() if edges is None else edges


def _no_edges() -> Edges:
    none = torch.zeros(0, dtype=torch.int64)
    return Edges(none.new_zeros(2, 0), none.new_zeros(0, 3), none.new_zeros(1))

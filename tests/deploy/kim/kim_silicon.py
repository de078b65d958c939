"""Stillinger-Weber silicon in the raw convention, with the parameters of a native KIM model.

F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3, 2.5 and 2.6; lengths are
in angstrom here, as in KIM's driver.
"""

from __future__ import annotations

from ctypes import byref, c_char_p, c_double, c_int
from typing import Optional

import torch
from torch import nn

from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import Constant, load_library

NATIVE = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
_EPSILON, _SIGMA = 2.1683, 2.0951
#: Of LAMMPS's Si.sw: table I of the paper.
SI_SW = {
    "A": 7.049556277 * _EPSILON,
    "B": 0.6022245584,
    "p": 4.0,
    "q": 0.0,
    "sigma": _SIGMA,
    "gamma": 1.2 * _SIGMA,
    "cutoff": 1.8 * _SIGMA,
    "lambda": 21.0 * _EPSILON,
    "costheta0": -0.333333333333,
}


def native_parameters(name: str = NATIVE) -> dict[str, float]:
    """Read the parameters of a native model through KIM."""
    kim, found = load_library(), {}
    with KimModel(name) as model, kim.messages():
        count = c_int()
        kim.function("Model_GetNumberOfParameters")(model._handle, byref(count))
        for index in range(count.value):
            kind, extent, label, about = Constant(), c_int(), c_char_p(), c_char_p()
            kim.function("Model_GetParameterMetadata")(
                model._handle, index, byref(kind), byref(extent), byref(label), byref(about)
            )
            value = c_double()
            kim.function("Model_GetParameterDouble")(model._handle, index, 0, byref(value))
            found[(label.value or b"").decode()] = value.value
    return found


class StillingerWeber(nn.Module):
    """Energies of atoms: half of each pair, and the angles around each."""

    def __init__(self, p: dict[str, float]) -> None:
        super().__init__()
        self.A, self.B, self.p, self.q = p["A"], p["B"], p["p"], p["q"]
        self.sigma, self.gamma, self.cutoff = p["sigma"], p["gamma"], p["cutoff"]
        self.strength, self.cosine = p["lambda"], p["costheta0"]

    def energies(
        self, species: torch.Tensor, _first: torch.Tensor, second: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        distance = torch.linalg.vector_norm(v, dim=1)
        within = distance < self.cutoff
        centers, vectors, distance = second[within], v[within], distance[within]
        scaled = distance / self.sigma
        pair = self.A * (self.B * scaled**-self.p - scaled**-self.q)
        pair = pair * torch.exp(self.sigma / (distance - self.cutoff))
        decay = torch.exp(self.gamma / (distance - self.cutoff))
        same = torch.triu(centers[:, None] == centers[None, :], diagonal=1)
        j, k = torch.nonzero(same).unbind(1)
        cosine = (vectors[j] * vectors[k]).sum(1) / (distance[j] * distance[k])
        angle = self.strength * (cosine - self.cosine) ** 2 * decay[j] * decay[k]
        zero = torch.zeros(species.shape[0], dtype=v.dtype, device=v.device)
        return zero.index_add(0, centers, 0.5 * pair).index_add(0, centers[j], angle)

    def forward(
        self,
        species: torch.Tensor,
        coords: torch.Tensor,
        n_neigh: torch.Tensor,
        nlist: torch.Tensor,
        contributing: torch.Tensor,
        vectors: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        contributors = torch.nonzero(contributing)[:, 0]
        centers = torch.repeat_interleave(contributors, n_neigh.to(torch.int64))
        neighbors = nlist.to(torch.int64)
        if vectors is None:
            vectors = coords[neighbors] - coords[centers]
        return self.energies(species, neighbors, centers, vectors)


def silicon_description(model: StillingerWeber, name: str) -> ModelDescription:
    """Describe the model."""
    return ModelDescription(
        name=name, species=("Si",), pattern="raw", cutoff=model.cutoff, edge_vectors=True
    )

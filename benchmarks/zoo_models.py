"""The backbones of the model zoo, with sizes and learning rates for minutes on one core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: A small eSCN-MD, as in ``configs/minimal.yaml``.
_ESCN = {
    "sphere_channels": 32,
    "hidden_channels": 32,
    "edge_channels": 32,
    "num_distance_basis": 16,
}


@dataclass(frozen=True)
class ZooModel:
    """A backbone of the zoo.

    Attributes:
        class_path: As in a configuration.
        lr: Peak learning rate.
        init_args: Beside those that the set gives to all.
    """

    class_path: str
    lr: float
    init_args: Mapping[str, Any] = field(default_factory=dict)


#: By the name on the page. Sizes are defaults of the classes, or what keeps a step below a second.
MODELS: Mapping[str, ZooModel] = {
    "GraphConvModel": ZooModel("GraphConvModel", 2e-3),
    "EGNN": ZooModel("EGNN", 2e-3),
    "DimeNetPlusPlus": ZooModel(
        "DimeNetPlusPlus",
        2e-3,
        {"emb_size": 64, "out_emb_size": 128, "int_emb_size": 32, "num_blocks": 3},
    ),
    # Its cost grows with the square of the number of neighbors.
    "GAANet": ZooModel(
        "GAANet",
        5e-3,
        {"hidden_dim": 16, "depth": 1, "cutoff": 3.5, "merge_fun": "concat", "join_fun": "concat"},
    ),
    "eSCNMDBackbone": ZooModel("eSCNMDBackbone", 2e-3, _ESCN),
    "eSCNMDBackbone-8-experts": ZooModel("eSCNMDBackbone", 2e-3, {**_ESCN, "num_experts": 8}),
}

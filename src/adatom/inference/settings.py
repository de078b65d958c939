"""How a potential is prepared for one kind of use: settings, and named sets of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, Self

import torch

from adatom.core.errors import ConfigError, unknown_name

#: Settings of fairchem-core that do not exist here, and why.
DROPPED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "wigner_cuda": (
            "rotations are part of the kernels on every device",
            "Leave it out.",
        ),
        "nitro": (
            "there is one fast path for all checkpoints, chosen by 'compile'",
            "Use the preset 'turbo' for a long run of one composition.",
        ),
        "use_quaternion_wigner": (
            "rotations come from one formula without singular directions",
            "Leave it out.",
        ),
        "max_atoms": (
            "nothing is padded to a number of atoms",
            "To limit batches, give max_atoms to the predict unit, or set batch_memory.",
        ),
    }
)

#: Neighbor searches by the numbers that fairchem-core gives them.
GRAPH_BACKENDS: Mapping[int, str] = MappingProxyType({1: "ase", 2: "auto"})
_FAIRCHEM_MODES = ("umas_fast_pytorch", "umas_fast_gpu")
_MODES = ("general", "tiled", "compiled")


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How a potential is prepared and run; see :data:`PRESETS` for named ones.

    The names are those of fairchem-core where the meaning is the same. Nothing here changes a
    result beyond rounding, except ``tf32`` and ``base_precision_dtype``. Nothing here outlives a
    call: threads, TF32 and seeds are as they were after every prediction.

    Attributes:
        tf32: Allow TF32 (10-bit mantissa) in float32 matrix products on GPUs.
        activation_checkpointing: Keep nothing per edge for the backward pass and compute it
            again: least memory, about a third slower. False keeps what fits a fixed amount.
        merge_mole: Hold the experts' weights merged for one composition, charge, spin and
            dataset. Other input is merged anew; a mixed batch takes the unmerged weights.
        compile: Use the kernels compiled on this machine, where there are any.
        execution_mode: ``"general"``, ``"tiled"`` or ``"compiled"``
            (:class:`adatom.models.base.Execution`); None takes the best that ``compile`` allows.
        external_graph_gen: The structures bring their edges; without them is an error.
        internal_graph_gen_version: Neighbor search: 2 is the fastest here; 1 is ASE's (slow, an
            independent check). The edges are the same.
        edge_chunk_size: Edges computed at once; None leaves it to the backbone.
        torch_num_threads: CPU threads during a prediction; None takes one for small systems and
            up to torch's own number for larger ones.
        base_precision_dtype: Floating dtype of the network, or its name; None takes that of the
            checkpoint.
        hessian_vmap: Compute many rows of a Hessian at once; False takes them one after the other,
            which needs less memory.
        predict_untrained_forces: Datasets whose forces are predicted by default although they
            were not trained.
        predict_untrained_stress: The same for stress.
        predict_untrained_hessian: The same for the Hessian.
        auto_add_default_untrained_tasks: Predict forces and stress of every dataset by default.
        batch_memory: Memory that one batch of structures may take: bytes, or below 1 a share of
            what is free. A single structure may take more.

    Raises:
        ConfigError: If a value cannot be used, or a setting of fairchem-core does not exist here.
        UnknownNameError: If there is no such setting.
    """

    tf32: bool = False
    activation_checkpointing: bool = False
    merge_mole: bool = False
    compile: bool = True
    execution_mode: Literal["general", "tiled", "compiled"] | None = None
    external_graph_gen: bool = False
    internal_graph_gen_version: int = 2
    edge_chunk_size: int | None = None
    torch_num_threads: int | None = None
    base_precision_dtype: torch.dtype | str | None = None
    hessian_vmap: bool = True
    predict_untrained_forces: Collection[str] = frozenset()
    predict_untrained_stress: Collection[str] = frozenset()
    predict_untrained_hessian: Collection[str] = frozenset()
    auto_add_default_untrained_tasks: bool = True
    batch_memory: float = 0.125

    def __new__(cls, **given: Any) -> Self:
        """Refuse settings that do not exist, before the arguments are bound."""
        known = {item.name for item in fields(cls)}
        for name in given:
            if name in DROPPED:
                reason, fix = DROPPED[name]
                raise ConfigError(f"There is no setting {name!r} here: {reason}", fix=fix)
            if name not in known:
                raise unknown_name("setting", name, known)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check values, and bring them into one form."""
        if self.execution_mode in _FAIRCHEM_MODES:
            raise ConfigError(
                f"execution_mode {self.execution_mode!r} belongs to fairchem-core",
                expected=f"None or one of: {', '.join(_MODES)}",
                fix="Leave it out: the fastest mode is chosen.",
            )
        if self.execution_mode is not None and self.execution_mode not in _MODES:
            raise unknown_name("execution_mode", self.execution_mode, _MODES)
        if self.internal_graph_gen_version not in GRAPH_BACKENDS:
            raise ConfigError(
                f"internal_graph_gen_version is {self.internal_graph_gen_version}",
                expected="2 (the fastest here, on every device) or 1 (ASE, as a check)",
            )
        if not self.batch_memory > 0:
            raise ConfigError(
                f"batch_memory is {self.batch_memory!r}", expected="bytes, or a share below 1"
            )
        for name in ("edge_chunk_size", "torch_num_threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} is {value!r}", expected="a whole number of at least 1")
        for name in ("forces", "stress", "hessian"):
            key = f"predict_untrained_{name}"
            value = getattr(self, key)
            if isinstance(value, str):
                raise ConfigError(f"{key} is {value!r}", expected="a set of dataset names")
            object.__setattr__(self, key, frozenset(value))
        object.__setattr__(self, "base_precision_dtype", _dtype(self.base_precision_dtype))

    @property
    def dtype(self) -> torch.dtype | None:
        """Floating dtype of the network, or None for that of the checkpoint."""
        return _dtype(self.base_precision_dtype)

    def describe(self) -> str:
        """Return the settings that differ from the defaults, such as ``"tf32=True"``."""
        default = InferenceSettings()
        changed = [
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)
            if getattr(self, item.name) != getattr(default, item.name)
        ]
        return ", ".join(changed) or "all as in 'default'"


def _dtype(value: torch.dtype | str | None) -> torch.dtype | None:
    if value is None or isinstance(value, torch.dtype):
        dtype = value
    else:
        dtype = getattr(torch, str(value).removeprefix("torch."), None)
    if (dtype is None and value is not None) or dtype not in (None, torch.float32, torch.float64):
        raise ConfigError(f"base_precision_dtype is {value!r}", expected="float32 or float64")
    return dtype


#: Named settings. ``default`` serves any input; ``batch`` many structures, in batches of up to half
#: of the free memory; ``turbo`` one composition for a long run; ``high-precision`` is
#: ``default`` in float64; ``traineval`` computes exactly as training does.
PRESETS: Mapping[str, InferenceSettings] = MappingProxyType(
    {
        "default": InferenceSettings(),
        "batch": InferenceSettings(batch_memory=0.5),
        "turbo": InferenceSettings(merge_mole=True),
        "high-precision": InferenceSettings(base_precision_dtype=torch.float64),
        "traineval": InferenceSettings(compile=False, execution_mode="general"),
    }
)


def inference_settings(
    settings: InferenceSettings | str | Mapping[str, Any] | None = "default",
) -> InferenceSettings:
    """Return settings by name, or as given.

    Args:
        settings: A name of :data:`PRESETS`, an object, a mapping of settings that differ from the
            defaults (with ``"preset"`` they differ from that one), or None for the defaults.

    Raises:
        UnknownNameError: If there is no such preset or setting.
        ConfigError: If a value cannot be used.
    """
    if isinstance(settings, InferenceSettings):
        return settings
    if settings is None:
        return PRESETS["default"]
    if isinstance(settings, Mapping):
        changes = dict(settings)
        return replace(inference_settings(changes.pop("preset", "default")), **changes)
    if settings not in PRESETS:
        raise unknown_name("preset of inference settings", str(settings), PRESETS)
    return PRESETS[settings]

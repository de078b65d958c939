"""``adatom serve model.safetensors``: a potential for many clients over HTTP."""

from __future__ import annotations

from adatom.cli.arguments import run_function


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(serve_models, arguments, "adatom serve")


def serve_models(
    models: list[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | None = None,
    settings: str = "batch",
    device: str | None = None,
    replicas: int = 1,
    cpus_per_replica: int | None = None,
    max_atoms: int = 10_000,
    max_structures: int = 256,
    max_body_mb: float = 32.0,
    max_waiting: int = 1024,
) -> None:
    """Serve potentials to many clients over HTTP, their requests computed together.

    Args:
        models: Checkpoint files or names of known potentials; NAME=FILE gives another name.
        host: Address to listen on; any but this machine's own needs a token.
        port: Port to listen on.
        token_file: File with the token that clients have to send, readable by you only; without
            it, the environment variable ADATOM_TOKEN.
        settings: How to compute: "default", "batch" (large batches), "turbo" (one composition),
            "high-precision" (float64) or "traineval" (as in training).
        device: Where to compute; default a GPU where there is one. Each replica takes one GPU.
        replicas: Processes, each with all models.
        cpus_per_replica: Threads of each; default the cores of this machine shared out, or 1 on
            a Ray cluster that exists already.
        max_atoms: Atoms of one structure at most.
        max_structures: Structures of one request at most.
        max_body_mb: Size of one request in MB at most.
        max_waiting: Structures that may wait in each replica for each model; more are refused
            until there is room.
    """
    from adatom.core.console import say
    from adatom.inference.serving.access import token_from
    from adatom.inference.serving.deployment import ServiceOptions
    from adatom.inference.serving.limits import Limits
    from adatom.inference.serving.server import Server, run
    from adatom.inference.settings import inference_settings

    inference_settings(settings)
    limits = Limits(max_atoms=max_atoms, max_structures=max_structures, max_body_mb=max_body_mb)
    options = ServiceOptions(
        settings=settings,
        device=device,
        limits=limits,
        token=token_from(token_file),
        max_waiting=max_waiting,
    )
    named = _named(models)
    server = Server(
        named,
        options,
        host=host,
        port=port,
        replicas=replicas,
        cpus_per_replica=cpus_per_replica,
    )
    say(f"Starting {replicas} replica{'s' if replicas > 1 else ''} with {', '.join(named)}.")
    run(server, f"Serving at {server.url} until Ctrl-C; SIGHUP loads changed files again.")


def _named(models: list[str]) -> dict[str, str]:
    """Return checkpoints by the names they are served under."""
    from pathlib import Path

    from adatom.core.errors import ConfigError

    named: dict[str, str] = {}
    for given in models:
        name, equals, source = given.partition("=")
        if not equals:
            name, source = Path(given).name.split(".")[0], given
        if not name or not source:
            raise ConfigError(f"A model is {given!r}", expected="FILE, or NAME=FILE")
        if name in named:
            raise ConfigError(
                f"Two models have the name {name!r}", fix="Give names: small=FILE large=FILE."
            )
        named[name] = source
    return named

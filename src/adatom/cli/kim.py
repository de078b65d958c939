"""``adatom kim``: the model driver, portable models, and what they need."""

from __future__ import annotations

from collections.abc import Callable


def main(arguments: list[str]) -> None:
    """Run ``adatom kim doctor``, ``install-driver``, ``install``, ``list``, and so on."""
    from adatom.cli.arguments import run_functions

    functions: dict[str, Callable[..., None]] = {
        "doctor": doctor,
        "install-driver": install_driver,
        "install": install,
        "list": list_items,
        "remove": remove,
        "verify": verify,
    }
    run_functions(functions, arguments, "adatom kim")


def doctor() -> None:
    """Tell what OpenKIM needs on this machine and what of it is there."""
    from adatom.core.console import print_table
    from adatom.core.errors import ConfigError
    from adatom.deploy.kim.doctor import examine

    findings = examine()
    rows = [
        (each.what, each.found or "missing", None if each.found else each.fix) for each in findings
    ]
    print_table("OpenKIM", ("what", "found", "how to get it"), rows)
    missing = [each.what for each in findings if each.blocks]
    if missing:
        raise ConfigError(
            f"Portable models cannot run yet: {', '.join(missing)} missing",
            fix="See the table above.",
        )


def install_driver(collection: str = "user", mpi: bool = False, force: bool = False) -> None:
    """Build the model driver against the PyTorch of this Python, and install it.

    Args:
        collection: KIM's collection: user, environment or system.
        mpi: Ask MPI for the rank on a node instead of the launcher's environment variables; the
            driver then works with that MPI only.
        force: Replace an installed driver.
    """
    from typing import cast

    from adatom.core.console import say
    from adatom.deploy.kim import driver_install
    from adatom.deploy.kim.items import CollectionName

    say(f"Building the driver against {driver_install.torch_folder()}; about a minute ...")
    found = driver_install.install_driver(cast("CollectionName", collection), mpi=mpi, force=force)
    say(f"Installed {found.name} in the collection {found.collection}: {found.library.parent}")


def install(folder: str, collection: str = "user", force: bool = False) -> None:
    """Install a portable model.

    Args:
        folder: With the model's CMakeLists.txt.
        collection: KIM's collection: user, environment or system.
        force: Replace an installed model of this name.
    """
    from typing import cast

    from adatom.core.console import say
    from adatom.deploy.kim.items import CollectionName
    from adatom.deploy.kim.model_install import install_model

    found = install_model(folder, cast("CollectionName", collection), force=force)
    say(f"Installed {found.name} in the collection {found.collection}: {found.library.parent}")


def list_items(all: bool = False) -> None:  # noqa: A002 - the option is --all
    """List drivers and portable models that were installed here.

    Args:
        all: Also what the system came with.
    """
    from adatom.core.console import print_table
    from adatom.deploy.kim.items import installed_items

    items = [item for item in installed_items() if all or item.collection != "system"]
    kinds = {"modelDriver": "driver", "portableModel": "model"}
    rows = [(item.name, kinds[item.type], item.collection, str(item.library)) for item in items]
    print_table("Items of KIM", ("name", "kind", "collection", "file"), rows)


def remove(name: str) -> None:
    """Remove a driver or a portable model.

    Args:
        name: KIM's name of it.
    """
    from adatom.core.console import say
    from adatom.deploy.kim.items import remove_item

    there = remove_item(name)
    say(f"Removed {there.name} from the collection {there.collection}.")


def verify(
    name: str,
    *,
    single_precision: bool = False,
    checks: list[str] | None = None,
    json: str | None = None,
) -> None:
    """Run KIM's verification checks on an installed model; the exit code is 1 if one failed.

    Args:
        name: KIM's name of the model.
        single_precision: Take the wider limits for networks that compute in float32.
        checks: Some of the checks, such as [forces, dimers]; all without it.
        json: File for the results.
    """
    from adatom.cli.kim_verify import verify_kim_model

    verify_kim_model(name, "single" if single_precision else "double", checks, json)

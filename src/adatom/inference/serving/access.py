"""Who may reach the service: addresses, ports and tokens."""

from __future__ import annotations

import ipaddress
import os
import socket

from adatom.core.errors import ConfigError
from adatom.core.files import require_readable


def require_safe(host: str, token: str | None) -> None:
    """Refuse to listen to other machines without a token.

    Args:
        host: Address to listen on.
        token: What clients have to know, or None.

    Raises:
        ConfigError: If there is no token and the address is not a loopback one, or the token is
            too short to be one.
    """
    if token is not None and len(token) < 16:
        raise ConfigError(
            f"The token has {len(token)} characters",
            expected="at least 16",
            fix="Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    if token is None and not _is_loopback(host):
        raise ConfigError(
            f"The service would be open to everybody who reaches {host!r}",
            expected="a token, or an address that only this machine reaches, such as 127.0.0.1",
            fix="Give --token-file, or set ADATOM_TOKEN.",
        )


def require_free(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ConfigError: If it is taken, or the address is not one of this machine.
    """
    if not 0 < port < 65536:
        raise ConfigError(f"The port is {port}", expected="1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Nothing can listen on {host}:{port}: {(error.strerror or str(error)).lower()}",
                fix="Choose another --port or --host.",
            ) from error


def token_from(path: str | None) -> str | None:
    """Return the token of a file, or of the environment, or None.

    Args:
        path: Of a file with the token alone, or None.

    Raises:
        FileAccessError: If the file cannot be read.
        ConfigError: If others may read it, or it is not one word.
    """
    if path is None:
        return os.environ.get("ADATOM_TOKEN") or None
    file = require_readable(path)
    if file.stat().st_mode & 0o077:
        raise ConfigError(
            f"Other users may read the token file {path!r}", fix=f"Run: chmod 600 {path}"
        )
    words = file.read_text(encoding="utf-8").split()
    if len(words) != 1:
        raise ConfigError(f"The token file {path!r} has {len(words)} words", expected="one")
    return words[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Return whether an address stands for all of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

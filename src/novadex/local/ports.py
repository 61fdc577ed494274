"""Which port each service gets: the one of last time, else the well-known one, else the next free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping

from novadex.errors import ConfigurationError, UnavailableError

DEFAULT_PORTS: dict[str, int] = {"main": 5432, "analytics": 5433, "cache": 6379, "sessions": 6380}
"""Of the servers; the programs' are settings."""
_FIRST_OTHER = 10
"""Others begin this far above the well-known port, clear of its neighbours (a Grafana on 3001, say)."""
_OTHERS_MAX = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now.

    Raises ``ConfigurationError`` where ``host`` is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that lingers after a stop does not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Without listening, a second server that set the same option could be bound already.
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                return False
            raise ConfigurationError(
                f"No server can listen on {host}: {error.strerror or error}.",
                hint="NOVADEX_API_HOST must be an address of this machine, for example 127.0.0.1 or 0.0.0.0.",
            ) from None
    return True


def choose(name: str, *, wanted: Iterable[int | None], taken: Iterable[int], host: str = "127.0.0.1") -> int:
    """A free port for the service: the first free one of ``wanted``, else the next free one above the last.

    Raises ``UnavailableError`` where every port of this machine is in use.
    """
    preferred = [port for port in wanted if port]
    used = set(taken)
    start = preferred[-1] + _FIRST_OTHER
    for port in (*preferred, *range(start, min(start + _OTHERS_MAX, 65536))):
        if port not in used and is_free(port, host):
            return port
    for _ in range(_OTHERS_MAX):
        port = _any_free(name, host)
        if port not in used:
            return port
    raise _none_left(name, host)


def choose_all(
    wanted: Mapping[str, tuple[int | None, ...]], hosts: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Ports for several services, all different. A well-known port is left to its own service."""
    hosts = hosts or {}
    chosen: dict[str, int] = {}
    for name, ports in wanted.items():
        host = hosts.get(name, "127.0.0.1")
        found = next((p for p in ports if p and p not in chosen.values() and is_free(p, host)), None)
        if found:
            chosen[name] = found
    for name, ports in wanted.items():
        if name not in chosen:
            taken = {*chosen.values(), *(port for other in wanted.values() for port in other if port)}
            chosen[name] = choose(name, wanted=ports, taken=taken, host=hosts.get(name, "127.0.0.1"))
    return chosen


def _any_free(name: str, host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            raise _none_left(name, host) from None
        return probe.getsockname()[1]


def _none_left(name: str, host: str) -> UnavailableError:
    return UnavailableError(
        f"There is no free port for {name} on {host}.", hint="Stop what uses them (ss -ltnp lists it), and try again."
    )

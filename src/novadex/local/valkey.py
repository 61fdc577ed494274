"""A Valkey server of the instance: the cache, which may forget, or the sessions, which may not."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from novadex.instance import ServiceName
from novadex.local import machine, ports, processes
from novadex.local.binaries import Binaries
from novadex.local.files import make_folder, write_private
from novadex.local.service import Place, RunTool, StopStep
from novadex.local.users import ServerUser

_MEMORY_PARTS = {"cache": 16, "sessions": 32}
_KEEPING = {
    "cache": 'save ""\nappendonly no\nmaxmemory-policy allkeys-lru\n',
    "sessions": 'save ""\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n',
}


class ValkeyService:
    """One of the two Valkey servers."""

    host = "127.0.0.1"
    needs: Sequence[ServiceName] = ()
    is_program = False
    start_s_max = 300.0  # it reads its append-only file
    stop_steps: Sequence[StopStep] = (StopStep(signal.SIGTERM, 15.0),)

    def __init__(self, name: Literal["cache", "sessions"], place: Place, binaries: Binaries) -> None:
        self.name: Literal["cache", "sessions"] = name
        self.default_port = ports.DEFAULT_PORTS[name]
        self.port = self.default_port
        self._place = place
        self._binaries = binaries
        self._mark = processes.mark_of(name, place.instance_id)
        self._files = place.home / name

    @property
    def user(self) -> ServerUser | None:
        return self._place.user

    @property
    def folder(self) -> Path:
        return self._place.home

    def url(self) -> str:
        return f"redis://:{self._place.passwords[self.name]}@127.0.0.1:{self.port}/0"

    def prepare(self, run_tool: RunTool) -> None:  # noqa: ARG002
        owner = self.user.owner if self.user else None
        make_folder(self._files, 0o700, owner)
        write_private(self._files / "valkey.conf", self._configuration(), owner)

    def command(self) -> list[str]:
        return [str(self._binaries.valkey_server), str(self._files / "valkey.conf")]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}

    def ready(self, pid: int) -> bool:
        return processes.listens(pid, self.port) and self.complaint() is None

    def complaint(self) -> str | None:
        return ping(self.url())

    def set_up(self) -> None:
        """Nothing: what is in it is made as it is used."""

    def _configuration(self) -> str:
        memory_mib = machine.share_mib(_MEMORY_PARTS[self.name], least=64, most=4096)
        return (
            "# Written by NovaDex at every start.\n"
            f"bind 127.0.0.1\nprotected-mode yes\nport {self.port}\n"
            f"requirepass {self._place.passwords[self.name]}\n"
            "daemonize no\n"
            'logfile ""\n'
            f'dir "{self._files}"\n'
            # The mark stands in the title of the server and of the processes that it forks.
            f'proc-title-template "{{title}} {self._mark}"\n'
            f"maxmemory {memory_mib}mb\n{_KEEPING[self.name]}"
            "tcp-keepalive 60\n"
        )


def ping(url: str) -> str | None:
    """What is wrong with a Redis or Valkey server; None where it answers."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis.from_url(
        re.sub("^valkey", "redis", url),
        socket_timeout=2,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        client.ping()
    except redis.BusyLoadingError:
        return "it reads its data from the disk"
    except redis.AuthenticationError:
        return "it refuses the password"
    except redis.RedisError as error:
        return f"it does not answer: {error}"
    finally:
        client.close()
    return None

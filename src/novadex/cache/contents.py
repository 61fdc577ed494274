"""What lies in a cache server: counted by namespace, and taken out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisClusterException, RedisError

from novadex.cache.cache import KEY_START
from novadex.cache.feed import QUERIES
from novadex.cache.servers import close_client, open_client, scan
from novadex.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from novadex.storage.connection import DatabaseConnection

COMMAND_S_MAX = 5.0
"""Longer than readers wait: nobody waits for this."""
KEYS_MAX = 1_000_000
"""So many keys are looked at, at most."""
OTHERS = "(others)"
"""Keys that are not of this instance, or of its database before a restore."""


@dataclass(slots=True)
class Contents:
    """Keys by namespace. ``whole`` is False where there are more than were looked at."""

    keys: Counter[str] = field(default_factory=Counter)
    whole: bool = True


async def life_of(db: DatabaseConnection) -> str:
    """What stands in every key of this instance: which life of its database it is."""
    row = await db.main.one(QUERIES.floor, read_only=True)
    assert row is not None  # noqa: S101 - it selects functions
    return row.life


async def count_keys(name: str, url: str, life: str, *, keys_max: int = KEYS_MAX) -> Contents:
    """The keys of a server by namespace."""
    contents = Contents()
    ours, shared = f"{KEY_START}{life}:", f"{KEY_START}rate:"
    async for portion in _portions(name, url, "*"):
        for key in portion:
            text = key.decode(errors="replace")
            if text.startswith(ours):
                contents.keys[text[len(ours) :].partition(":")[0]] += 1
            else:
                contents.keys["rate" if text.startswith(shared) else OTHERS] += 1
        if contents.keys.total() >= keys_max:
            contents.whole = False
            break
    return contents


async def remove_keys(name: str, url: str, life: str) -> int:
    """Take out what this instance caches there; returns how many keys. Counts of rate limits stay."""
    removed = 0
    client = _open(name, url)
    try:
        async for portion in _portions(name, url, f"{_literally(KEY_START + life)}:*"):
            if portion:
                removed += await client.unlink(*portion)
    except (RedisError, RedisClusterException, OSError) as error:
        raise _away(name) from error
    finally:
        await close_client(client)
    return removed


async def _portions(name: str, url: str, pattern: str) -> AsyncIterator[list[bytes]]:
    client = _open(name, url)
    try:
        async for portion in scan(client, pattern):
            yield portion
    except (RedisError, RedisClusterException, OSError) as error:
        raise _away(name) from error
    finally:
        await close_client(client)


def refuse_without_url(name: str, url: str) -> None:
    """Raise ``ConfigurationError`` where there is no such server."""
    if not url:
        raise ConfigurationError(
            f"There is no {name} server.",
            hint=f"Start an instance (novadex up), or set {'REDIS_URL' if name == 'cache' else 'REDIS_SESSION_URL'}.",
        )


def _open(name: str, url: str) -> Any:
    refuse_without_url(name, url)
    return open_client(url, command_s_max=COMMAND_S_MAX)


def _away(name: str) -> UnavailableError:
    return UnavailableError(f"The {name} server does not answer.", hint="Is it running? See novadex status.")


def _literally(text: str) -> str:
    r"""As a pattern that means the text itself.

    >>> _literally("a*b[c]")
    'a\\*b\\[c\\]'
    """
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)

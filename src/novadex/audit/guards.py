"""What guards the audit log: triggers that write it, triggers that keep it, and the functions of both.

What they should be stands in ``guards.json``, which ``make guards`` writes from the schema; a test fails where it is
out of date. ``verify`` compares it with what the database has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.audit.sealing import QUERIES

if TYPE_CHECKING:
    from novadex.storage.session import Session

GUARDS_FILE = Path(__file__).with_name("guards.json")
OFF = ("D ", "R ")
"""How the definition of what is switched off begins."""


def expected_guards() -> dict[str, str]:
    """Each guard with its definition, as the schema makes it."""
    return msgspec.json.decode(GUARDS_FILE.read_bytes(), type=dict[str, str])


async def guards_of(session: Session) -> dict[str, str]:
    """Each guard with its definition, as this database has it."""
    return {row.guard: row.definition for row in await session.query(QUERIES.guards)}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """What is not as the schema makes it, in words."""
    for guard in sorted({*expected, *found}):
        before, now = expected.get(guard), found.get(guard)
        if before == now:
            continue
        if now is None:
            yield f"{guard} is gone"
        elif before is None:
            yield f"{guard} is not of NovaDex"
        elif now.startswith(OFF) and now[2:] == before[2:]:
            yield f"{guard} is switched off"
        else:
            yield f"{guard} is not the one that NovaDex made"

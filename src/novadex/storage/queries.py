"""SQL lives in ``.sql`` files: named queries, each with a sentence of purpose.

A file looks like this::

    -- name: trade_by_id
    -- One trade by its id.
    SELECT ... WHERE id = $1;

    -- name: trades_of_user
    ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (?P<name>\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """One named query. Only ``load_queries`` makes them, from files of this package: their SQL is literal."""

    name: str
    purpose: str
    sql: LiteralString


class Queries(dict[str, Query]):
    """The queries of a file, by name and as attributes."""

    def __getattr__(self, name: str) -> Query:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no query named {name!r}; there are: {', '.join(sorted(self))}") from None


@cache
def load_queries(path: Path) -> Queries:
    """The named queries of a ``.sql`` file."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    queries = Queries()
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        purpose: list[str] = []
        lines = text.strip().splitlines()
        while lines and lines[0].startswith("--"):
            purpose.append(lines.pop(0).removeprefix("--").strip())
        if not purpose or not lines or name in queries:
            raise ValueError(f"{path}: the query {name} has no sentence of purpose, no SQL, or stands there twice")
        # The file is part of this package, so its text is as literal as a string in the code.
        sql = cast("LiteralString", "\n".join(lines).strip().removesuffix(";"))
        queries[name] = Query(name, " ".join(purpose), sql)
    return queries

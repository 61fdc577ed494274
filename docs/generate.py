"""Generates what follows from the code: ``docs/reference/settings.md`` and ``.env.example``.

``make docs`` writes them, ``make check`` fails where they are out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]

REFERENCE_HEAD = """\
# Settings

<!-- Generated from src/novadex/settings.py by `make docs`: change it there. -->

Each setting is an environment variable, or a line of a file `.env` in the folder that a command is started in; the
environment comes first. An empty value is the same as none. A wrong value stops a command before it does anything;
the message names the variable, what is wrong and an example, and never the value.

A password in a URL has its special characters percent-encoded (`/` as `%2F`, `@` as `%40`, `%` as `%25`). No log, no
error and no metric shows a URL's password.

"""

ENV_HEAD = """\
# The settings of NovaDex. All of them are optional: copied to .env as it stands, this file changes nothing.
# Take the # away before a variable to set it. docs/reference/settings.md has the same with limits and defaults.
# Generated from src/novadex/settings.py by `make docs`.
"""


def settings_reference() -> str:
    """``docs/reference/settings.md``."""
    rows = [
        f"| `{field.alias}` | {_default(field)} | {_limits(field)} | {field.description} | `{_example(field)}` |"
        for field in _fields()
    ]
    head = ["| variable | default | limits | what it is | example |", "|---|---|---|---|---|"]
    return REFERENCE_HEAD + "\n".join([*head, *rows]) + "\n"


def env_example() -> str:
    """``.env.example``: every variable, commented out, with its default where it has one."""
    parts = [ENV_HEAD]
    for field in _fields():
        value = _example(field) if field.default is None else _text(field.default)
        parts.append(f"# {field.description}\n#{field.alias}={value}\n")
    return "\n".join(parts)


GENERATED = {
    "docs/reference/settings.md": settings_reference,
    ".env.example": env_example,
}


def _fields() -> Iterator[FieldInfo]:
    yield from Settings.model_fields.values()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _example(field: FieldInfo) -> str:
    if not field.examples:
        raise ValueError(f"{field.alias} has no example")
    return str(field.examples[0])


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{_text(field.default)}`"


def _limits(field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    return " ".join(
        f"{word} {_text(bound)}"
        for constraint in field.metadata
        for name, word in words.items()
        if (bound := getattr(constraint, name, None)) is not None
    )


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the files, or with ``--check`` only compare; 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file is out of date")
    check = parser.parse_args(arguments).check
    outdated = []
    for name, make in GENERATED.items():
        path, content = root / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        outdated.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if outdated and check:
        print(f"Out of date: {', '.join(outdated)}. Run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

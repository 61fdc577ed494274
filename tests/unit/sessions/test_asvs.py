"""The map of OWASP ASVS 5.0 chapter V7 is whole, and names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from novadex.settings import Settings

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs/reference/asvs-v7.md").read_text(encoding="utf-8")
REQUIREMENTS = {1: 3, 2: 4, 3: 2, 4: 5, 5: 3, 6: 2}
"""How many there are in each section."""
ROW = re.compile(r"^\| (7\.\d\.\d) \| ([^|]+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_requirement_stands_there_once():
    wanted = [f"7.{section}.{number + 1}" for section, count in REQUIREMENTS.items() for number in range(count)]
    assert [row[0] for row in ROW.findall(DOCUMENT)] == wanted


def test_each_is_met_by_a_test_or_says_plainly_what_is_not():
    for number, _, status, how in ROW.findall(DOCUMENT):
        assert status in {"met", "partly", "not met", "not applicable"}, number
        assert status == "not applicable" or TEST.search(how), f"{number} names no test"
        assert status == "met" or re.sub(TEST, "", how).strip(" ,."), f"{number} does not say why"


def test_every_test_that_is_named_exists():
    named = TEST.findall(DOCUMENT)
    assert len(named) > 30
    assert DOCUMENT.count("tests/") == len(named), "each is named as `path::name`"
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_the_lifetimes_of_the_document_are_the_defaults():
    defaults = Settings.model_validate({})
    how_to = (ROOT / "docs/how-to/sessions.md").read_text(encoding="utf-8")
    for text in (
        f"| after {defaults.session_idle_s // 60} minutes |",
        f"| after {defaults.session_absolute_s // 3_600} hours, refreshed or not |",
        f"| within {defaults.reauthentication_s // 60} minutes of a proof |",
        f"| {defaults.sessions_per_user_max}; one more ends the one not used for longest |",
    ):
        assert text in DOCUMENT
    for text in (
        f"| {defaults.session_idle_s // 60} minutes | NOVADEX_SESSION_IDLE_S |",
        f"| {defaults.session_absolute_s // 3_600} hours | NOVADEX_SESSION_ABSOLUTE_S |",
        f"| {defaults.reauthentication_s // 60} minutes | NOVADEX_REAUTHENTICATION_S |",
        f"| {defaults.sessions_per_user_max}; one more ends",
        f"| {defaults.api_keys_per_user_max}; twice as many",
    ):
        assert text in how_to

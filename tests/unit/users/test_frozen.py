"""What is shared cannot be changed by who got it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from novadex.users.frozen import freeze

PLAIN: dict[str, Any] = {"theme": "dark", "markets": ["BTC/USDT", {"depth": 10}], "nested": {"a": {"b": [1, None]}}}
CHANGES: list[Callable[[Any], Any]] = [
    lambda d: d.update(x=1),
    lambda d: d.__setitem__("theme", "light"),
    lambda d: d.pop("theme"),
    lambda d: d.popitem(),
    lambda d: d.clear(),
    lambda d: d.setdefault("x", 1),
    lambda d: d.__delitem__("theme"),
    lambda d: d.__ior__({"x": 1}),
    lambda d: d["markets"].append("x"),
    lambda d: d["markets"].__setitem__(0, "x"),
    lambda d: d["markets"].__delitem__(0),
    lambda d: d["markets"].__iadd__(["x"]),
    lambda d: d["markets"].__imul__(2),
    lambda d: d["markets"].sort(),
    lambda d: d["markets"].reverse(),
    lambda d: d["markets"].extend(["x"]),
    lambda d: d["markets"].insert(0, "x"),
    lambda d: d["markets"].pop(),
    lambda d: d["markets"].remove("BTC/USDT"),
    lambda d: d["markets"].clear(),
    lambda d: d["markets"][1].update(depth=5),
    lambda d: d["nested"]["a"]["b"].append(2),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_refused(change: Callable[[Any], Any]):
    frozen = freeze(PLAIN)
    with pytest.raises(TypeError, match="shared"):
        change(frozen)
    assert frozen == PLAIN
    assert freeze(copy.deepcopy(PLAIN)) == frozen


def test_it_reads_and_writes_like_a_plain_one():
    frozen = freeze(PLAIN)
    assert json.loads(json.dumps(frozen)) == msgspec.json.decode(msgspec.json.encode(frozen)) == PLAIN
    mine = dict(frozen)
    mine["theme"] = "light"
    assert frozen["theme"] == "dark"

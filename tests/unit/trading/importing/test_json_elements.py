"""A JSON array of any length is read with the memory of a few elements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.trading.importing.json_elements import Element, elements
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.text_lines import LINE_BYTES_MAX


def read(*pieces: bytes) -> list[Element]:
    return [element for some in elements("trades.json", pieces) for element in some]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def texts_of_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: texts_of_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [texts_of_numbers(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(values, max_size=8), st.integers(1, 9), st.sampled_from([None, 0, 3]), st.booleans())
def test_any_array_in_any_pieces_gives_its_elements(
    wanted: list[Any], size: int, indent: int | None, ascii_only: bool
):
    data = json.dumps(wanted, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return  # lone surrogates are no UTF-8
    found = read(*in_pieces(data, size))
    assert [element.value for element in found] == texts_of_numbers(wanted)
    assert [element.number for element in found] == list(range(1, len(wanted) + 1))


def test_elements_know_their_line_and_their_text():
    found = read(b'[\n{"a": 1},\n\n{"a":\n2}, {"a": 3}\n]\n')
    assert [(element.line, element.raw) for element in found] == [
        (2, '{"a": 1}'), (4, '{"a":\n2}'), (5, '{"a": 3}'),
    ]  # fmt: skip


def test_a_byte_order_mark_and_blanks_around_the_array_are_allowed():
    assert [element.value for element in read(b"\xef\xbb\xbf\r\n [1 , 2] \r\n")] == ["1", "2"]
    assert read(b"[ ]") == []


@pytest.mark.parametrize(
    ("text", "whole", "reason"),
    [
        (b'[{"a": 1}, {"a": 2', 1, "element 2"),
        (b'[{"a": 1}, {"a": 2}', 2, "ends inside the array"),
        (b'[{"a": 1},', 1, "ends inside the array"),
        (b'[{"a": 1}, ]', 1, "element 2"),
        (b"[", 0, "ends inside the array"),
        (b'[{"a": 1} {"a": 2}]', 1, "'{' stands where ']'"),
        (b"[1][2]", 1, "'[' follows the end"),
        (b"[1, tru]", 1, "element 2"),
        (b"[" * 5000, 0, "nested too deeply"),
        (b"[\x00]", 0, "element 1"),
        (b"[\xff]", 0, "element 1"),
        (b"{}", 0, "'{' stands where '['"),
    ],
)
def test_a_broken_array_gives_what_is_whole_and_says_where_it_breaks(text: bytes, whole: int, reason: str):
    found: list[Element] = []
    with pytest.raises(ImportFailedError, match=r"trades\.json is not a whole JSON array") as caught:
        for some in elements("trades.json", in_pieces(text, 3)):
            found.extend(some)
    assert len(found) == whole
    assert reason in caught.value.message


def test_an_element_without_an_end_is_not_gathered_for_ever():
    given_out = 0

    def endless() -> Iterator[bytes]:
        nonlocal given_out
        yield b'["'
        while True:
            given_out += 1
            yield b"x" * 65_536

    with pytest.raises(ImportFailedError, match=r"element 1 cannot be read"):
        list(elements("trades.json", endless()))
    assert given_out * 65_536 < 2 * LINE_BYTES_MAX

"""Lines keep their numbers, whatever the pieces are, and none can fill the memory."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from novadex.trading.importing.text_lines import LINE_BYTES_MAX, SHOWN_CHARACTERS, blocks


def read(*pieces: bytes) -> list[tuple[int, str]]:
    return [(number, line) for block in blocks(pieces) for number, line in enumerate(block.lines, block.first)]


texts = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=9)


@given(st.lists(texts), st.integers(1, 7), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_pieces_give_the_same_lines(lines: list[str], size: int, end: str, ended: bool):
    text = end.join(lines) + (end if ended else "")
    data = text.encode()
    expected = text.replace("\r\n", "\n").split("\n")
    if expected[-1] == "":
        expected.pop()
    found = read(*[data[start : start + size] for start in range(0, len(data), size)])
    if expected and expected[0].startswith("\ufeff") and size < 3:
        return  # a mark that is cut in two is no mark
    if expected and expected[0].startswith("\ufeff"):
        expected[0] = expected[0][1:]
        if expected == [""] and not ended:
            expected = []
    assert found == list(enumerate(expected, 1))


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert read(b"\xef\xbb\xbfid,price\n1,2\n") == [(1, "id,price"), (2, "1,2")]


def test_other_breaks_of_unicode_do_not_end_a_line():
    assert read("a\u2028b\x0bc\x0cd\x85e\n".encode()) == [(1, "a\u2028b\x0bc\x0cd\x85e")]


def test_bytes_that_are_no_utf8_stay_visible():
    [(_, line)] = read(b"1,\xff\xfe,2\n")
    assert line == "1,\udcff\udcfe,2"


def test_a_line_that_is_too_long_is_shown_short_and_the_next_ones_keep_their_numbers():
    long = [b"y" * 65_536] * 20
    found = list(blocks([b"first\n", *long, b"tail\nlast\n", b"end"]))
    overlong = [block for block in found if block.overlong is not None]
    assert [(block.first, len(block.overlong or "")) for block in overlong] == [(2, SHOWN_CHARACTERS)]
    lines = [(number, line) for block in found for number, line in enumerate(block.lines, block.first)]
    assert lines == [(1, "first"), (3, "last"), (4, "end")]


def test_a_gigabyte_without_a_line_break_is_read_in_constant_memory():
    piece = b"z" * 65_536
    longest = 0
    for block in blocks(itertools.repeat(piece, 2**30 // len(piece))):
        longest = max(longest, len(block.overlong or ""), *(len(line) for line in block.lines), 0)
    assert longest <= LINE_BYTES_MAX

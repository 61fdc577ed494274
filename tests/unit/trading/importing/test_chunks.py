"""Chunks: bounded by rows, by bytes and by refused lines; what stands before a break in the file is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from novadex.errors import ValidationError
from novadex.trading.importing.chunks import (
    CHUNK_BYTES_MAX,
    REJECTS_MAX,
    ROWS_MAX,
    ROWS_MIN,
    Chunk,
    ChunkSize,
    read_chunks,
)
from novadex.trading.importing.records import ImportFailedError


def add(numbers: list[int], chunk: Chunk) -> None:
    for number in numbers:
        chunk.lines.append(f"{9999 - number:04}\tline\n")
        chunk.places.append(number)
        chunk.raws.append(str(number))


def test_a_chunk_ends_at_its_size_and_follows_what_was_learned():
    size = ChunkSize(10)
    chunks = read_chunks(([number] for number in range(1, 36)), add, size, lambda: 5)
    assert len(next(chunks).lines) == 10
    size.rows = 20
    assert [(len(chunk.lines), chunk.position) for chunk in chunks] == [(20, 5), (5, 5)]


def test_a_chunk_ends_at_its_bytes():
    def parse(_: int, chunk: Chunk) -> None:
        add([1], chunk)
        chunk.bytes_read += CHUNK_BYTES_MAX // 3 + 1

    assert [len(chunk.lines) for chunk in read_chunks(range(7), parse, ChunkSize(), lambda: 0)] == [3, 3, 1]


def test_a_chunk_ends_at_its_refused_lines():
    def parse(number: int, chunk: Chunk) -> None:
        for _ in range(REJECTS_MAX // 2):
            chunk.reject(number, ValidationError("no.", field="line"), "x", "x")

    assert [
        len(chunk.rejects) // (REJECTS_MAX // 2) for chunk in read_chunks(range(5), parse, ChunkSize(), lambda: 0)
    ] == [2, 2, 1]


def test_what_stands_before_a_break_in_the_file_is_kept():
    def breaking() -> Iterator[list[int]]:
        yield [1, 2]
        raise ImportFailedError("it is cut off.")

    [chunk] = read_chunks(breaking(), add, ChunkSize(), lambda: 0)
    assert chunk.places == [1, 2]
    assert chunk.failure is not None
    assert chunk.failure.message == "it is cut off."


def test_lines_are_written_in_the_order_of_their_ids():
    chunk = Chunk()
    add([1, 2, 3], chunk)
    assert chunk.copy_data() == b"9996\tline\n9997\tline\n9998\tline\n"


@pytest.mark.parametrize(("place", "kept"), [(1, []), (3, [1, 2]), (4, [1, 2]), (9, [1, 2, 5])])
def test_the_part_before_a_place(place: int, kept: list[int]):
    chunk = Chunk()
    add([1, 2, 5], chunk)
    before = chunk.before(place)
    assert (before.places, before.raws, len(before.lines)) == (kept, [str(number) for number in kept], len(kept))


def test_the_size_follows_the_server_within_bounds():
    size = ChunkSize(4_000)
    for _ in range(20):
        size.learn(size.rows, size.rows / 1_000_000)
    assert size.rows == ROWS_MAX
    size.learn(10, 1.0)  # the last chunk of a file says nothing
    assert size.rows == ROWS_MAX
    for _ in range(20):
        size.learn(size.rows, size.rows / 100)
    assert size.rows == ROWS_MIN
    for _ in range(20):
        size.learn(size.rows, size.rows / 20_000)
    assert 3_500 < size.rows <= 4_000

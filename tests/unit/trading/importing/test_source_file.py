"""Files as bytes: packed or not by their first bytes, whole or refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import threading
import zipfile
from pathlib import Path

import pytest

from novadex.errors import UsageError
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.source_file import PIECE_BYTES, open_source

CONTENT = b"".join(b"%d,line\n" % number for number in range(40_000))


def read(path: Path) -> bytes:
    source = open_source(str(path))
    try:
        return b"".join(source.pieces())
    finally:
        source.close()


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


PACKED = {
    "plain": CONTENT,
    "gzip": gzip.compress(CONTENT),
    "two gzip members": gzip.compress(CONTENT[:70_001]) + gzip.compress(CONTENT[70_001:]),
    "zip": zipped(("trades.csv", CONTENT)),
    "zip with a folder": zipped(("data/", b""), ("data/trades.csv", CONTENT)),
}


@pytest.mark.parametrize("kind", PACKED)
def test_the_content_is_the_same_however_it_is_packed_and_named(tmp_path: Path, kind: str):
    path = tmp_path / "trades.dat"
    path.write_bytes(PACKED[kind])
    assert read(path) == CONTENT


@pytest.mark.parametrize("kind", PACKED)
def test_the_position_ends_at_the_size_on_disk(tmp_path: Path, kind: str):
    path = tmp_path / "trades.dat"
    path.write_bytes(PACKED[kind])
    source = open_source(str(path))
    positions = [source.position() for _ in source.pieces()]
    size = len(PACKED[kind])
    assert source.bytes_total == size
    assert positions == sorted(positions)
    assert size * 0.9 < positions[-1] <= size
    source.close()


@pytest.mark.parametrize("kind", ["gzip", "two gzip members", "zip"])
def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str):
    path = tmp_path / "trades.dat"
    for missing in (1, 9, len(PACKED[kind]) // 2):
        path.write_bytes(PACKED[kind][:-missing])
        with pytest.raises(ImportFailedError, match="cannot be read to its end"):
            read(path)


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_a_damaged_packed_file_is_refused(tmp_path: Path, kind: str):
    data = bytearray(PACKED[kind])
    for place in range(len(data) // 3, len(data) // 3 + 40):
        data[place] ^= 0x55
    path = tmp_path / "trades.dat"
    path.write_bytes(data)
    with pytest.raises(ImportFailedError, match="cannot be read to its end"):
        read(path)


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_whatever_is_damaged_the_content_is_right_or_refused(tmp_path: Path, kind: str):
    draw = random.Random(5)  # noqa: S311 - no secret
    content = b"1,2,3\n" * 500
    whole = gzip.compress(content) if kind == "gzip" else zipped(("data/", b""), ("data/trades.csv", content))
    path = tmp_path / "trades.dat"
    refused = 0
    for _ in range(1_500):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(4, len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            assert read(path) == content
        except ImportFailedError:
            refused += 1
    assert 100 < refused < 1_500


def test_a_zip_holds_exactly_one_file(tmp_path: Path):
    path = tmp_path / "trades.zip"
    path.write_bytes(zipped(*((f"{name}.csv", b"x") for name in "abcde")))
    with pytest.raises(
        ImportFailedError, match=r"holds 5 files: a.csv, b.csv, c.csv, \.\.\.; it must hold exactly one"
    ):
        read(path)
    path.write_bytes(zipped())
    with pytest.raises(ImportFailedError, match="holds 0 files; it must"):
        read(path)


def test_the_first_piece_is_long_however_the_file_is_packed(tmp_path: Path):
    path = tmp_path / "trades.gz"
    path.write_bytes(gzip.compress(CONTENT[:1]) + gzip.compress(CONTENT[1:3]) + gzip.compress(CONTENT[3:]))
    source = open_source(str(path))
    assert source.head == CONTENT[:PIECE_BYTES]
    assert b"".join(source.pieces()) == CONTENT
    source.close()


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    data = bytearray(PACKED["zip"])
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + 6] |= 1
    data[central + 8] |= 1
    path = tmp_path / "trades.zip"
    path.write_bytes(data)
    with pytest.raises(ImportFailedError, match="encrypted"):
        read(path)


@pytest.mark.parametrize(("pack", "kind"), [(bz2.compress, "bzip2"), (lzma.compress, "xz")])
def test_another_compression_is_named(tmp_path: Path, pack, kind: str):
    path = tmp_path / "trades.gz"
    path.write_bytes(pack(CONTENT))
    with pytest.raises(ImportFailedError, match=kind):
        read(path)


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), zipped(("a.csv", b""))], ids=["nothing", "gzip", "zip"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "trades.csv"
    path.write_bytes(content)
    with pytest.raises(ImportFailedError, match="is empty"):
        read(path)


def test_what_cannot_be_opened_is_wrong_usage(tmp_path: Path):
    for file, reason in ((tmp_path / "none.csv", "no file"), (tmp_path, "a folder"), (Path("a\0b"), "null byte")):
        with pytest.raises(UsageError, match=reason):
            open_source(str(file))


def test_what_is_no_file_to_read_is_wrong_usage(tmp_path: Path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(UsageError, match="cannot be opened"):
            open_source(str(path))


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_a_pipe_is_read_to_its_end(tmp_path: Path, kind: str):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(PACKED[kind],))
    writer.start()
    try:
        assert read(path) == CONTENT
    finally:
        writer.join(10)


def test_a_zip_cannot_come_through_a_pipe(tmp_path: Path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            try:
                pipe.write(PACKED["zip"])
            except BrokenPipeError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(ImportFailedError, match="cannot be read from a pipe"):
            read(path)
    finally:
        writer.join(10)

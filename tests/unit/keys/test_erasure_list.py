"""The list of erasures outside the database: a line that counts is not lost, a piece of one is not taken for one."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from novadex.errors import ConfigurationError, TimeoutExceededError
from novadex.keys import erasure_list
from novadex.keys.erasure_list import ErasureLine, append_erasures, erasure_path, read_erasures
from novadex.settings import load_settings

MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
ONE, TWO, THREE = (ErasureLine(UUID(int=number), MOMENT) for number in (1, 2, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "erasures.jsonl"


def test_lines_are_read_as_they_were_written(path: Path):
    assert read_erasures(path).lines == ()
    append_erasures(path, [ONE])
    append_erasures(path, [TWO, THREE])
    assert read_erasures(path).lines == (ONE, TWO, THREE)
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text().splitlines()[0]
    assert first == f'{{"user_id":"{UUID(int=1)}","erased_at":"2026-01-01T12:30:00Z"}}'


def test_a_line_that_was_cut_off_at_any_byte_spoils_no_other(path: Path):
    append_erasures(path, [ONE, TWO])
    whole = path.read_bytes()
    first = len(whole) // 2
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        kept = (ONE, TWO) if length == len(whole) - 1 else (ONE,)
        assert read_erasures(path).lines == kept
        append_erasures(path, [THREE])
        found = read_erasures(path)
        assert found.lines == (*kept, THREE)
        assert found.damaged == ()


def test_blocks_that_never_reached_the_disk_spoil_no_other(path: Path):
    append_erasures(path, [ONE])
    with path.open("ab") as file:
        file.write(bytes(10_000))
    append_erasures(path, [TWO])
    assert read_erasures(path).lines == (ONE, TWO)


def test_a_damaged_line_is_named_and_the_others_count(path: Path):
    append_erasures(path, [ONE, TWO, THREE])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"user_id", b"user\xff\x00id")
    path.write_bytes(b"".join(lines))
    found = read_erasures(path)
    assert (found.lines, found.damaged) == ((ONE, THREE), (2,))


def test_writers_at_the_same_moment_lose_nothing(path: Path):
    lines = [ErasureLine(uuid4(), MOMENT) for _ in range(40)]
    threads = [threading.Thread(target=append_erasures, args=(path, [line])) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_erasures(path)
    assert {line.user_id for line in found.lines} == {line.user_id for line in lines}
    assert len(found.lines) == len(lines)


def test_a_writer_that_hangs_does_not_hold_the_others_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(erasure_list, "LOCK_WAIT_S_MAX", 0.05)
    append_erasures(path, [ONE])
    with path.open("rb") as file, erasure_list._locked(file.fileno(), path), pytest.raises(TimeoutExceededError):
        append_erasures(path, [TWO])
    assert read_erasures(path).lines == (ONE,)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_may_write_is_refused(path: Path, mode: int):
    append_erasures(path, [ONE])
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="Others may write"):
        read_erasures(path)
    with pytest.raises(ConfigurationError, match="Others may write"):
        append_erasures(path, [TWO])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"nowhere.*cannot be used"):
        append_erasures(tmp_path / "nowhere" / "list", [ONE])
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        append_erasures(link, [ONE])


def test_a_link_is_followed_neither_to_write_nor_to_read(path: Path, tmp_path: Path):
    append_erasures(path, [ONE])
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        append_erasures(link, [TWO])
    with pytest.raises(ConfigurationError, match="cannot be used"):
        read_erasures(link)
    assert read_erasures(path).lines == (ONE,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_list_of_somebody_else_is_refused(path: Path):
    append_erasures(path, [ONE])
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        read_erasures(path)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        append_erasures(path, [TWO])


def test_where_it_is(tmp_path: Path):
    assert erasure_path(load_settings(), tmp_path) == tmp_path / "erasures.jsonl"
    assert erasure_path(load_settings(erasure_file=tmp_path / "x"), None) == tmp_path / "x"
    with pytest.raises(ConfigurationError, match="NOVADEX_ERASURE_FILE"):
        erasure_path(load_settings(), None)

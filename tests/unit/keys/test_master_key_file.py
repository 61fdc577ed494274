"""The file of the master keys: closed to others, replaced whole, and clear about what is wrong with it."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from novadex.errors import ConfigurationError, ConflictError, NotFoundError, TimeoutExceededError
from novadex.keys import master_key_file
from novadex.keys.master_key_file import FILE_NAME, add_key, make_key_file, read_key_file, remove_key
from novadex.keys.master_keys import EXAMPLE_OF_DOCUMENTATION, load_master_keys
from novadex.settings import Settings

SECRET = b"s3cret-of-tests-32-bytes-long-5d"
IN_BASE64 = base64.b64encode(SECRET).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one key, version 1."""
    path = tmp_path / FILE_NAME
    assert make_key_file(path, lambda count: SECRET[:count])
    return path


def write(path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)


def entry(version: int, key: str = IN_BASE64) -> dict[str, Any]:
    return {"version": version, "key": key, "created_at": "2026-01-01T00:00:00Z"}


def test_it_is_made_once_and_only_its_owner_may_read_it(path: Path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key_file(path) == {1: SECRET}
    assert not make_key_file(path)
    assert read_key_file(path) == {1: SECRET}


def test_the_umask_does_not_open_it(tmp_path: Path):
    before = os.umask(0)
    try:
        make_key_file(tmp_path / "x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600, 0o600]


def test_versions_rise_above_the_file_and_above_what_the_database_has(path: Path):
    assert add_key(path) == 2
    assert add_key(path, above=7) == 8
    keys = read_key_file(path)
    assert set(keys) == {1, 2, 8}
    assert len(set(keys.values())) == 3


def test_the_newest_and_the_unknown_are_not_removed(path: Path):
    add_key(path)
    with pytest.raises(ConflictError, match="the newest"):
        remove_key(path, 2)
    with pytest.raises(NotFoundError, match="no master key 3"):
        remove_key(path, 3)
    remove_key(path, 1)
    assert set(read_key_file(path)) == {2}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601, 0o610])
def test_a_file_that_is_open_to_others_is_refused(path: Path, mode: int):
    path.chmod(mode)
    for call in (read_key_file, add_key, make_key_file):
        with pytest.raises(ConfigurationError, match=f"open to others: its mode is {mode:04o}"):
            call(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path):
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to user 65534"):
        read_key_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "truncated"),
        ('{"format": 1, "keys": [', "truncated"),
        ("\ufeff{}", "malformed"),
        ([], "Expected `object`"),
        ({"format": 1}, "missing required field `keys`"),
        ({"format": 2, "keys": [entry(1)]}, "format 2, this version reads format 1"),
        ({"format": 1, "keys": []}, "holds no key"),
        ({"format": 1, "keys": [entry(1), entry(1)]}, "each once"),
        ({"format": 1, "keys": [entry(0)]}, "from 1 up"),
        ({"format": 1, "keys": [entry(1, IN_BASE64[:-4])]}, "of version 1 has"),
        ({"format": 1, "keys": [entry(1, base64.b64encode(SECRET * 2).decode())]}, "has 64 bytes, not 32"),
        ({"format": 1, "keys": [entry(1, "*" + IN_BASE64)]}, "Invalid base64"),
        ({"format": 1, "keys": [{**entry(1), "version": "1"}]}, "Expected `int`"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused_without_quoting_it(path: Path, content: Any, reason: str):
    write(path, content)
    with pytest.raises(ConfigurationError, match=reason) as failure:
        read_key_file(path)
    assert "Restore the file from its copy" in str(failure.value)
    assert IN_BASE64[:12] not in str(failure.value)


def test_bytes_that_are_no_text_and_a_huge_file_are_refused(path: Path):
    path.write_bytes(b'{"format": 1, "keys": "\xff\xfe"}')
    with pytest.raises(ConfigurationError):
        read_key_file(path)
    path.write_bytes(b" " * (master_key_file.FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
        read_key_file(path)


def test_a_folder_or_a_pipe_in_its_place_is_refused_at_once(tmp_path: Path):
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir(mode=0o700)
    os.mkfifo(pipe, 0o600)
    for path in (folder, pipe):
        with pytest.raises(ConfigurationError):
            read_key_file(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"is missing.*Restore the file.*novadex keys create"):
        read_key_file(tmp_path / FILE_NAME)
    with pytest.raises(ConfigurationError, match="folder of the master keys"):
        make_key_file(tmp_path / "nowhere" / FILE_NAME)


def test_a_writer_that_was_killed_leaves_the_old_keys_and_the_next_goes_on(path: Path):
    """Killed at each of its calls to the disk."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from novadex.keys import master_key_file as subject\n"
        "name, path = sys.argv[1], Path(sys.argv[2])\n"
        "def die(*arguments, **more): os.kill(os.getpid(), signal.SIGKILL)\n"
        "if name == 'replace': Path.replace = die\n"
        "elif name == 'sync_folder': subject.sync_folder = die\n"
        "else: setattr(os, name, die)\n"
        "subject.add_key(path)\n"
    )
    for name, versions in (("fsync", {1}), ("replace", {1}), ("sync_folder", {1, 2})):
        done = subprocess.run([sys.executable, "-c", script, name, str(path)], check=False, timeout=60)
        assert done.returncode == -9
        assert set(read_key_file(path)) == versions
    assert add_key(path) == 3
    assert {file.name for file in path.parent.iterdir()} == {FILE_NAME, f".{FILE_NAME}.lock"}


def test_writers_take_turns(path: Path):
    threads = [threading.Thread(target=add_key, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_key_file(path)) == set(range(1, 10))


def test_a_writer_that_hangs_does_not_hold_the_others_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(master_key_file, "LOCK_WAIT_S_MAX", 0.05)
    with master_key_file._locked(path), pytest.raises(TimeoutExceededError, match="has held"):
        add_key(path)


def test_a_link_is_followed_and_stays(path: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(path)
    add_key(link)
    assert link.is_symlink()
    assert set(read_key_file(path)) == {1, 2}


# The setting -----------------------------------------------------------------------------------------------


def settings(**values: Any) -> Settings:
    return Settings(**values)


def test_the_setting_comes_before_the_file(path: Path):
    masters = load_master_keys(settings(master_keys=f"3:{IN_BASE64}, 2:{IN_BASE64}"), path.parent)
    assert (set(masters.versions), masters.newest, masters.from_file) == ({2, 3}, 3, None)
    assert load_master_keys(settings(), path.parent).from_file == path
    assert load_master_keys(settings(master_key_file=path), None).from_file == path


def test_without_a_place_for_the_keys_it_says_what_to_set():
    with pytest.raises(ConfigurationError, match="Set NOVADEX_MASTER_KEYS or NOVADEX_MASTER_KEY_FILE"):
        load_master_keys(settings(), None)


def test_the_key_of_the_documentation_is_refused(tmp_path: Path):
    text = base64.b64encode(EXAMPLE_OF_DOCUMENTATION).decode()
    with pytest.raises(ConfigurationError, match="everybody knows"):
        load_master_keys(settings(master_keys=f"1:{text}"), tmp_path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (IN_BASE64, "entry 1 is not VERSION:BASE64"),
        (f"1:{IN_BASE64},", "entry 2 is not VERSION:BASE64"),
        (f"0:{IN_BASE64}", "entry 1 is not"),
        (f"-1:{IN_BASE64}", "entry 1 is not"),
        (f"\u0661:{IN_BASE64}", "entry 1 is not"),
        (f"1:{IN_BASE64[:-4]}", "version 1 has"),
        (f"1:{IN_BASE64[:-1]}", "not base64"),
        (f"1:{IN_BASE64[:-2]}é=", "not base64"),
        (f"1:{IN_BASE64},1:{IN_BASE64}", "version 1 stands there twice"),
    ],
)
def test_a_wrong_setting_is_refused_without_quoting_it(monkeypatch: pytest.MonkeyPatch, value: str, reason: str):
    from novadex.settings import load_settings

    monkeypatch.setenv("NOVADEX_MASTER_KEYS", value)
    with pytest.raises(ConfigurationError, match=reason) as failure:
        load_settings()
    assert IN_BASE64[:12] not in f"{failure.value}{failure.value.__cause__}{failure.value.__context__!r}"


def test_nothing_shows_the_keys(path: Path):
    masters = load_master_keys(settings(master_keys=f"1:{IN_BASE64}"), path.parent)
    shown = f"{masters!r} {settings(master_keys=f'1:{IN_BASE64}')!r} {master_key_file._read(path)!r}"
    assert IN_BASE64 not in shown
    assert SECRET.decode() not in shown
    assert repr(SECRET) not in shown

"""The master keys of a local instance: made once by ``novadex up``, never silently replaced."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from novadex.errors import ConfigurationError
from novadex.instance import read_instance, write_instance
from novadex.keys.master_key_file import FILE_NAME, read_key_file
from novadex.local.folder import make_data_dir, open_instance
from novadex.local.key_file import keep_master_keys
from novadex.settings import Settings, load_settings
from tests.integration.keys.test_keyring import KEY_1
from tests.integration.local.conftest import make_local
from tests.integration.local.running import Local

__all__ = ["make_local"]


def test_up_makes_the_keys_that_every_command_and_program_uses(make_local: Callable[[], Local]):
    local = make_local()
    said = local.up()
    path = local.data_dir / FILE_NAME
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, local.data_dir.stat().st_uid)
    assert set(read_key_file(path)) == {1}
    assert str(path) in said + (local.data_dir / "supervisor.log").read_text()
    report = json.loads(local.run("keys", "rotate", "--json").stdout)
    assert (report["version"], report["retired"]) == (2, [1])
    assert [key["status"] for key in json.loads(local.run("keys", "list", "--json").stdout)] == ["retired", "in use"]
    local.remove()


# Without servers -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with an instance in it that was never started."""
    folder = tmp_path / "data"
    make_data_dir(folder)
    open_instance(folder, None, 18)
    return folder


def keep(folder: Path, settings: Settings) -> list[str]:
    said: list[str] = []
    instance = read_instance(folder)
    assert instance is not None
    keep_master_keys(folder, instance, settings, said.append)
    return said


def test_it_is_made_once(folder: Path):
    assert keep(folder, load_settings()) == [
        f"Made the master keys of personal data in {folder / FILE_NAME}: keep a copy elsewhere."
    ]
    keys = read_key_file(folder / FILE_NAME)
    assert keep(folder, load_settings()) == []
    assert read_key_file(folder / FILE_NAME) == keys


def test_a_file_that_was_lost_is_not_replaced(folder: Path):
    keep(folder, load_settings())
    (folder / FILE_NAME).unlink()
    (said,) = keep(folder, load_settings())
    assert "The master keys are lost" in said
    assert "Restore it from its copy" in said
    assert not (folder / FILE_NAME).exists()


def test_an_instance_of_an_earlier_version_gets_its_keys(folder: Path):
    instance = read_instance(folder)
    assert instance is not None
    instance.master_keys_made = False
    write_instance(folder, instance)
    assert len(keep(folder, load_settings())) == 1


def test_keys_of_the_setting_need_no_file(folder: Path):
    assert keep(folder, load_settings(master_keys=f"1:{KEY_1}")) == []
    assert not (folder / FILE_NAME).exists()


def test_the_file_can_be_elsewhere(folder: Path, tmp_path: Path):
    place = tmp_path / "keys.json"
    keep(folder, load_settings(master_key_file=place))
    assert set(read_key_file(place)) == {1}
    assert not (folder / FILE_NAME).exists()


def test_a_file_that_is_open_to_others_stops_it(folder: Path):
    keep(folder, load_settings())
    (folder / FILE_NAME).chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        keep(folder, load_settings())

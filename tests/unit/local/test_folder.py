"""The data folder: one supervisor, one instance, also when it is moved or copied."""

import os
import shutil

import pytest

from novadex.errors import ConfigurationError
from novadex.instance import Process, read_instance
from novadex.local import folder
from novadex.local.folder import lock_holder, make_data_dir, open_instance, try_lock


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    # As root, the servers' files of a private folder such as this would go to the machine's own.
    monkeypatch.setattr(folder, "server_user", lambda *_: None)
    made = tmp_path / "data"
    make_data_dir(made)
    return made


def test_a_new_instance_has_passwords_of_its_own(data_dir, tmp_path):
    first, place = open_instance(data_dir, None, 18)
    make_data_dir(tmp_path / "other")
    second, _ = open_instance(tmp_path / "other", None, 18)
    assert place.home == data_dir
    assert set(first.passwords) == set(folder.SECRETS)
    assert all(len(password) >= 24 for password in first.passwords.values())
    assert set(first.passwords.values()).isdisjoint(second.passwords.values())
    assert first.instance_id != second.instance_id


def test_an_instance_is_opened_again_as_it_was(data_dir):
    first, _ = open_instance(data_dir, None, 18)
    again, _ = open_instance(data_dir, None, 18)
    assert again == first


def test_a_folder_of_another_major_version_is_refused(data_dir):
    open_instance(data_dir, None, 17)
    with pytest.raises(ConfigurationError, match="made by PostgreSQL 17"):
        open_instance(data_dir, None, 18)


@pytest.mark.parametrize("name", ["main", "sessions", "logs"])
def test_a_folder_with_something_else_in_it_is_refused(data_dir, name):
    (data_dir / name).mkdir()
    with pytest.raises(ConfigurationError, match="did not make"):
        open_instance(data_dir, None, 18)
    assert read_instance(data_dir) is None


def test_a_moved_folder_stays_the_same_instance(data_dir, tmp_path):
    before, _ = open_instance(data_dir, None, 18)
    moved = data_dir.rename(tmp_path / "moved")
    after, place = open_instance(moved, None, 18)
    assert after.instance_id == before.instance_id
    assert after.passwords == before.passwords
    assert place.home == moved


def test_a_copied_folder_becomes_another_instance(data_dir, tmp_path):
    before, _ = open_instance(data_dir, None, 18)
    shutil.copytree(data_dir, tmp_path / "copy")
    after, place = open_instance(tmp_path / "copy", None, 18)
    assert after.instance_id != before.instance_id
    assert place.home == tmp_path / "copy"
    again, _ = open_instance(data_dir, None, 18)
    assert again.instance_id == before.instance_id


def test_a_copy_that_shares_its_servers_files_with_the_original_is_refused(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SYSTEM_FOLDER", tmp_path)
    monkeypatch.setattr(folder, "INSTANCES", tmp_path)
    instance, _ = open_instance(data_dir, None, 18)
    assert instance.home == str(data_dir)
    shutil.copytree(data_dir, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="is a copy of"):
        open_instance(tmp_path / "copy", None, 18)


def test_only_one_holds_the_lock_and_its_signature_is_known(data_dir):
    assert lock_holder(data_dir) is None
    with try_lock(data_dir) as first:
        assert first is not None
        first.sign()
        with try_lock(data_dir) as second:
            assert second is None
        assert lock_holder(data_dir) == Process.of(os.getpid())
    with try_lock(data_dir) as third:
        assert third is not None
        assert lock_holder(data_dir) is None, "the signature of the one before is gone"

"""Folders and files: private, and never through a link."""

import os
import stat

import pytest

from novadex.errors import ConfigurationError
from novadex.local.files import make_folder, write_private


def test_a_folder_gets_its_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "open", 0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_a_folder_that_is_there_keeps_its_mode(tmp_path):
    (tmp_path / "made").mkdir(mode=0o750)
    make_folder(tmp_path / "made", 0o700)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o750


def test_a_link_or_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(ConfigurationError, match=name):
            make_folder(tmp_path / name, 0o700)


def test_a_private_file_replaces_a_link_and_leaves_what_it_pointed_to(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = tmp_path / "settings.conf"
    path.symlink_to(victim)
    write_private(path, "secret")
    assert (victim.read_text(), path.read_text()) == ("untouched", "secret")
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["settings.conf", "victim"]

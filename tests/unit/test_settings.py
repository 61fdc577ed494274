"""Settings: one bad value, one clear message, no secret in it; ``.env`` and its example."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from novadex.errors import ConfigurationError
from novadex.settings import Settings, check_url, host_of, load_settings, settings, split_urls

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-5d1e"
ALIASES = [str(field.alias) for field in Settings.model_fields.values()]
POSTGRES_URLS = [
    "DATABASE_URL",
    "ANALYTICS_DATABASE_URL",
    "DATABASE_OWNER_URL",
    "ANALYTICS_DATABASE_OWNER_URL",
    "DATABASE_REPLICA_URLS",
]
REDIS_URLS = ["REDIS_URL", "REDIS_SESSION_URL"]
BAD_URLS = {
    f"mysql://u:{SECRET}@host/db": "it must begin with",
    SECRET: "it must begin with",
    f"//u:{SECRET}@host/db": "it must begin with",
    "{scheme}://": "it names no host",
    f"{{scheme}}://u:{SECRET}@host:99999/db": "its port is not a number from 1 to 65535",
    f"{{scheme}}://u:{SECRET}@host:0/db": "its port is not a number from 1 to 65535",
    f"{{scheme}}://u:{SECRET}@host:port/db": "its port is not a number from 1 to 65535",
    f"{{scheme}}://u:{SECRET}@@host/db": "not percent-encoded",
    f"{{scheme}}://u:{SECRET}/x@host/db": "not percent-encoded",
    f"{{scheme}}://u:{SECRET}?x@host/db": "not percent-encoded",
    f"{{scheme}}://u:{SECRET}#x@host/db": "not percent-encoded",
    f"{{scheme}}://u:{SECRET}%@host/db": "not percent-encoded",
    f"{{scheme}}://u:{SECRET} x@host/db": "not percent-encoded",
}
BAD_VALUES = [
    *((name, url.replace("{scheme}", "postgresql"), why) for name in POSTGRES_URLS for url, why in BAD_URLS.items()),
    *((name, url.replace("{scheme}", "redis"), why) for name in REDIS_URLS for url, why in BAD_URLS.items()),
    ("DATABASE_URL", f"redis://:{SECRET}@host", "it must begin with postgresql:// or postgres://"),
    ("REDIS_URL", f"postgresql://u:{SECRET}@host/db", "it must begin with redis://"),
    ("DATABASE_REPLICA_URLS", f"postgresql://u:p@a/db, mysql://u:{SECRET}@b/db", "it must begin with"),
    ("NOVADEX_API_PORT", "0", "greater than or equal to 1"),
    ("NOVADEX_API_PORT", "65536", "less than or equal to 65535"),
    ("NOVADEX_API_PORT", "http", "valid integer"),
    ("NOVADEX_POOL_SIZE_MAX", "0", "greater than or equal to 1"),
    ("NOVADEX_POOL_SIZE_MAX", "8.5", "valid integer"),
    ("NOVADEX_POOL_WAIT_S_MAX", "0", "greater than 0"),
    ("NOVADEX_POOL_WAIT_S_MAX", "inf", "less than or equal to 600"),
    ("NOVADEX_POOL_WAIT_S_MAX", "nan", ""),
    ("NOVADEX_POOL_WAIT_S_MAX", "soon", "valid number"),
    ("NOVADEX_STATEMENT_TIMEOUT_MS", "30s", "valid integer"),
    ("NOVADEX_PGBOUNCER", "maybe", "valid boolean"),
    ("NOVADEX_LOG_LEVEL", "loud", "debug"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that commands are started in, where ``.env`` is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    return tmp_path


@pytest.mark.parametrize(("variable", "value", "why"), BAD_VALUES)
def test_a_bad_value_names_its_variable_what_is_wrong_and_an_example(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{variable} is wrong: ")
    assert why in message
    assert f", for example {variable}=" in message
    assert ".env" in message
    assert SECRET not in message + repr(caught.value) + str(caught.value.as_dict())
    assert caught.value.__cause__ is None


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://host")
    monkeypatch.setenv("NOVADEX_API_PORT", "http")
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL is wrong: .*; NOVADEX_API_PORT is wrong: "):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://user:a%2Fb%40c%25@localhost:5432/novadex_db"),
        ("DATABASE_URL", "postgres://localhost/novadex_db"),
        ("DATABASE_URL", "postgresql://user:p@db-1:5432,db-2:5433/novadex_db?target_session_attrs=read-write"),
        ("DATABASE_URL", "postgresql:///novadex_db?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://user:p@[::1]:5432/novadex_db"),
        ("DATABASE_REPLICA_URLS", "postgresql://u:p@a/db,postgresql://u:p@b:5433/db"),
        ("REDIS_URL", "redis://localhost:6379"),
        ("REDIS_URL", "rediss://:p%40ss@cache.example.com:6380/1"),
        ("REDIS_URL", "unix:///run/valkey.sock?db=1"),
        ("REDIS_SESSION_URL", "valkey://localhost"),
    ],
)
def test_a_url_that_servers_take_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    found = getattr(load_settings(), variable.lower())
    assert found.get_secret_value() == value


def test_an_example_of_the_documentation_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        assert field.examples, field.alias
        monkeypatch.setenv(str(field.alias), str(field.examples[0]))
    assert load_settings().pool_size_max == 8


def test_nothing_set_gives_the_defaults() -> None:
    found = load_settings()
    assert {name: getattr(found, name) for name in Settings.model_fields} == {
        name: field.default for name, field in Settings.model_fields.items()
    }


def test_an_empty_value_is_the_same_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for alias in ALIASES:
        monkeypatch.setenv(alias, "")
    assert load_settings() == Settings.model_construct()


def test_the_environment_comes_before_the_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".env").write_text("NOVADEX_API_PORT=3001\nNOVADEX_POOL_SIZE_MAX=3\n")
    monkeypatch.setenv("NOVADEX_API_PORT", "3002")
    found = load_settings()
    assert (found.api_port, found.pool_size_max) == (3002, 3)


def test_the_file_is_read_as_it_is_written(here: Path) -> None:
    (here / ".env").write_text(
        f"# a comment\n\nexport NOVADEX_LOG_LEVEL=debug\nDATABASE_URL='postgresql://u:{SECRET}@host/db'\n"
        "AWS_REGION=us-east-1\nREDIS_URL=\nNOVADEX_DATA_DIR=/srv/nova dex\n"
    )
    found = load_settings()
    assert found.log_level == "debug"
    assert found.database_url is not None
    assert found.database_url.get_secret_value() == f"postgresql://u:{SECRET}@host/db"
    assert found.redis_url is None
    assert found.data_dir == Path("/srv/nova dex")


def test_a_bad_value_of_the_file_shows_no_secret(here: Path) -> None:
    (here / ".env").write_text(f"DATABASE_URL=mysql://u:{SECRET}@host/db\n")
    with pytest.raises(ConfigurationError, match="DATABASE_URL is wrong") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(here: Path) -> None:
    (here / ".env").write_bytes("NOVADEX_API_PORT=3001\n".encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        load_settings()


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POSTGRES_URLS:
        monkeypatch.setenv(name, f"postgresql://u:{SECRET}@host/db")
    for name in REDIS_URLS:
        monkeypatch.setenv(name, f"redis://:{SECRET}@host")
    found = load_settings()
    for shown in (
        repr(found),
        str(found),
        f"{found.database_url}",
        repr(found.model_dump()),
        found.model_dump_json(),
    ):
        assert SECRET not in shown


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().pool_size_max = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_clear()
    try:
        first = settings()
        monkeypatch.setenv("NOVADEX_API_PORT", "3999")
        assert settings() is first
    finally:
        settings.cache_clear()


def test_urls_are_split_at_commas() -> None:
    assert split_urls(None) == []
    found = load_settings(DATABASE_REPLICA_URLS=" postgresql://a/db , postgresql://b/db,")
    assert split_urls(found.database_replica_urls) == ["postgresql://a/db", "postgresql://b/db"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (f"postgresql://u:{SECRET}@db-1:5432,db-2/x?y=z", "db-1:5432,db-2"),
        ("postgresql:///novadex_db?host=/run/postgresql", ""),
        ("redis://localhost:6379/0", "localhost:6379"),
        (f"redis://:{SECRET}@[::1]:6379", "[::1]:6379"),
    ],
)
def test_what_may_be_shown_of_a_url(url: str, host: str) -> None:
    check_url(url, ("postgresql", "redis"))
    assert host_of(url) == host


# .env.example and the reference ----------------------------------------------------------------------------


def test_the_example_lists_every_variable_commented_out() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    listed = [line[1:].partition("=")[0] for line in lines if line.startswith("#") and not line.startswith("# ")]
    assert listed == ALIASES


def test_the_example_as_the_file_changes_nothing(here: Path) -> None:
    (here / ".env").write_text((ROOT / ".env.example").read_text())
    assert load_settings() == Settings.model_construct()


def test_every_line_of_the_example_works_when_its_mark_is_taken_away(here: Path) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    (here / ".env").write_text("\n".join(line if line.startswith("# ") else line.removeprefix("#") for line in lines))
    found = load_settings()
    assert found.database_url is not None
    assert found.pool_size_max == load_settings(pool_size_max=8).pool_size_max
    assert {
        name: getattr(found, name) for name, field in Settings.model_fields.items() if field.default is not None
    } == {name: field.default for name, field in Settings.model_fields.items() if field.default is not None}


def test_the_reference_names_every_variable_with_its_default() -> None:
    reference = (ROOT / "docs/reference/settings.md").read_text()
    for field in Settings.model_fields.values():
        assert f"| `{field.alias}` |" in reference
        assert str(field.description) in reference


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_outdated_file_is_found_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from docs.generate import main

    assert main(["--check"], tmp_path) == 1
    assert "docs/reference/settings.md, .env.example" in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / ".env.example").write_text("")
    assert main(["--check"], tmp_path) == 1

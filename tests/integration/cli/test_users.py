"""``novadex users``."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from uuid_utils.compat import uuid7

from novadex.keys.master_key_file import FILE_NAME
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.integration.keys.people import ERASED, left_of

WALLETS = (
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "So11111111111111111111111111111111111111112",
)
EMAIL = "ada.lovelace@example.com"


@pytest.fixture
def novadex(novadex: Command, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch) -> Command:
    """With the master keys and the list of erasures of this test's databases."""
    monkeypatch.setenv("NOVADEX_MASTER_KEY_FILE", str(fresh_databases.data_dir / FILE_NAME))
    monkeypatch.setenv("NOVADEX_ERASURE_FILE", str(fresh_databases.data_dir / "erasures.jsonl"))
    return novadex


def create(novadex: Command, *more: str) -> dict[str, Any]:
    return novadex.json(
        "users",
        "create",
        "--wallet",
        WALLETS[0].lower(),
        "--email",
        EMAIL,
        "--username",
        "Ada",
        "--role",
        "trader",
        *more,
    )


def error_of(novadex: Command, *arguments: str, code: int = 2) -> dict[str, Any]:
    return json.loads(novadex.run(*arguments, "--json", code=code).stdout)["error"]


def test_a_user_is_made_and_shown_by_whatever_tells_who_it_is(novadex: Command, fresh_databases: DatabasePair):
    made = create(
        novadex, "--personal", "full_name=Ada Lovelace", "--personal", "note=a=b", "--preferences", '{"a": [1]}'
    )
    assert (made["username"], made["email"], made["role"], made["status"]) == ("ada", EMAIL, "trader", "active")
    assert made["wallets"][0]["address"] == WALLETS[0]
    assert made["personal"] == {"full_name": "Ada Lovelace", "note": "a=b"}
    assert made["preferences"] == {"a": [1]}
    for name in (made["id"], made["id"].upper(), WALLETS[0], WALLETS[0].lower(), EMAIL.upper(), "ADA"):
        assert novadex.json("users", "show", name) == made
    words = novadex.run("users", "show", "ada").stdout
    assert all(word in words for word in (made["id"], WALLETS[0], EMAIL, "Ada Lovelace", "trader", "active"))
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        row = connection.execute(
            "SELECT count(*), min(actor), max(actor) FROM audit_log WHERE action = 'users.read'"
        ).fetchone()
    assert row == (7, "program:cli", "program:cli"), "each look is written down"


def test_every_field_is_optional(novadex: Command):
    made = novadex.json("users", "create")
    assert (made["username"], made["email"], made["wallets"], made["role"]) == (None, None, [], "user")
    assert made["id"] in novadex.run("users", "show", made["id"]).stdout


def test_with_an_id_a_retry_adds_nobody(novadex: Command):
    id = str(uuid7())
    made = create(novadex, "--id", id)
    assert made["id"] == id
    assert create(novadex, "--id", id) == made
    error = error_of(novadex, "users", "create", "--id", id, "--username", "other")
    assert (error["code"], error["details"]["field"]) == ("CONFLICT", "id")
    assert len(novadex.json("users", "list")["items"]) == 1


def test_conflicts_and_wrong_values_name_the_field(novadex: Command):
    create(novadex)
    for arguments, code, field in (
        (("--username", "ada"), "CONFLICT", "username"),
        (("--email", EMAIL.upper()), "CONFLICT", "email"),
        (("--wallet", WALLETS[0].swapcase()), "INVALID_VALUE", "wallet_address"),
        (("--wallet", WALLETS[1], "--chain", "bitcoin"), "INVALID_VALUE", "chain"),
        (("--role", "owner"), "INVALID_VALUE", "role"),
        (("--preferences", "{"), "INVALID_VALUE", "preferences"),
        (("--preferences", "[" * 100_000), "INVALID_VALUE", "preferences"),
        (("--personal", "name"), "INVALID_VALUE", "personal"),
    ):
        error = error_of(novadex, "users", "create", *arguments)
        assert (error["code"], error["details"]["field"]) == (code, field), arguments
        assert error["hint"] or error["message"]
    assert len(novadex.json("users", "list")["items"]) == 1


def test_who_is_not_there_is_wrong_usage(novadex: Command):
    create(novadex)
    for name in (
        str(uuid7()),
        WALLETS[2],
        "nobody@example.com",
        "' or 1=1--",
        "\udcff",
    ):
        error = error_of(novadex, "users", "show", name)
        assert error["code"] in {"NOT_FOUND", "INVALID_VALUE"}, name
        assert "example.com" not in error["message"]
    assert "checksum" in error_of(novadex, "users", "show", WALLETS[0].replace("A", "a"))["message"]
    novadex.run("users", "deactivate", str(uuid7()), code=2)


def test_a_list_goes_by_pages_and_shows_no_personal_data(novadex: Command, fresh_databases: DatabasePair):
    assert novadex.json("users", "list") == {"items": [], "next": None}
    assert "novadex users create" in novadex.run("users", "list").stderr
    made = [create(novadex)["id"], *(novadex.json("users", "create")["id"] for _ in range(2))]
    first = novadex.json("users", "list", "--limit", "2")
    assert [user["id"] for user in first["items"]] == [made[2], made[1]]
    rest = novadex.json("users", "list", "--limit", "2", "--cursor", first["next"])
    assert [user["id"] for user in rest["items"]] == [made[0]]
    assert rest["next"] is None
    assert rest["items"][0]["email"] is None
    assert first["next"] in novadex.run("users", "list", "--limit", "2").stderr
    assert EMAIL not in novadex.run("users", "list").stdout
    assert [user["id"] for user in novadex.json("users", "list", "--role", "trader")["items"]] == [made[0]]
    assert novadex.json("users", "list", "--status", "erased")["items"] == []
    for wrong in (("--limit", "0"), ("--limit", "1001"), ("--status", "x"), ("--role", "x"), ("--cursor", "x")):
        novadex.run("users", "list", *wrong, code=2)


def test_what_is_given_is_changed(novadex: Command):
    made = create(novadex)
    changed = novadex.json(
        "users", "update", "ada", "--username", "bea", "--preferences", '{"b": 2}', "--personal", "phone=+44 1"
    )
    assert (changed["username"], changed["preferences"], changed["personal"]) == ("bea", {"b": 2}, {"phone": "+44 1"})
    assert (changed["email"], changed["wallets"]) == (made["email"], made["wallets"])
    stale = error_of(
        novadex, "users", "update", "bea", "--username", "cea", "--expected-version", str(made["version"])
    )
    assert (stale["code"], stale["details"]["field"]) == ("CONFLICT", "version")
    emptied = novadex.json("users", "update", "bea", "--remove", "email", "--remove", "personal")
    assert (emptied["email"], emptied["personal"], emptied["username"]) == (None, None, "bea")
    novadex.run("users", "update", "bea", "--remove", "role", code=2)
    novadex.run("users", "update", "bea", "--remove", "email", "--email", "a@example.com", code=2)


def test_roles_and_states_change(novadex: Command):
    made = create(novadex)
    assert novadex.json("users", "role", "ada", "support")["role"] == "support"
    assert novadex.json("users", "deactivate", WALLETS[0])["status"] == "deactivated"
    assert error_of(novadex, "users", "update", made["id"], "--username", "bea")["code"] == "ACCESS"
    assert novadex.json("users", "reactivate", EMAIL)["status"] == "active"
    novadex.run("users", "role", "ada", "owner", code=2)


def test_wallets_are_added_removed_and_made_primary(novadex: Command):
    create(novadex)
    novadex.run("users", "wallets", "add", "ada", WALLETS[1])
    added = novadex.json("users", "wallets", "add", "ada", WALLETS[2], "--primary")
    assert [wallet["address"] for wallet in added["wallets"]] == [WALLETS[2], WALLETS[0], WALLETS[1]]
    assert novadex.json("users", "wallets", "list", WALLETS[1]) == added["wallets"]
    lines = novadex.run("users", "wallets", "list", "ada").stdout.splitlines()
    assert lines[0].split() == ["solana", WALLETS[2], "primary"]
    assert lines[1].split() == ["evm", WALLETS[0]]
    moved = novadex.json("users", "wallets", "set-primary", "ada", WALLETS[1].lower())
    assert moved["wallets"][0]["address"] == WALLETS[1]
    removed = novadex.json("users", "wallets", "remove", "ada", WALLETS[1])
    assert [wallet["address"] for wallet in removed["wallets"]] == [WALLETS[0], WALLETS[2]]
    assert error_of(novadex, "users", "wallets", "remove", "ada", WALLETS[1])["code"] == "NOT_FOUND"
    novadex.json("users", "create", "--username", "bea")
    assert error_of(novadex, "users", "wallets", "add", "bea", WALLETS[0])["details"]["field"] == "wallet_address"


def test_erasing_needs_a_yes_and_is_for_good(novadex: Command, fresh_databases: DatabasePair):
    made = create(novadex)
    error = error_of(novadex, "users", "erase", "ada")
    assert "--yes" in error["hint"]
    assert novadex.json("users", "show", "ada") == made
    assert novadex.json("users", "erase", EMAIL, "--yes") == {"id": made["id"], "status": "erased"}
    assert left_of(fresh_databases, made["id"]) == ERASED
    assert error_of(novadex, "users", "show", "ada")["code"] == "NOT_FOUND"
    shown = novadex.json("users", "show", made["id"])
    assert (shown["status"], shown["email"], shown["wallets"]) == ("erased", None, [])
    assert "erased" in novadex.run("users", "erase", made["id"], "--yes").stdout
    assert error_of(novadex, "users", "reactivate", made["id"])["code"] == "CONFLICT"


def test_a_user_whose_data_is_damaged_is_erased_by_id(novadex: Command, fresh_databases: DatabasePair):
    made = create(novadex)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("UPDATE users SET email_ciphertext = '\\x01'")
    novadex.run("users", "show", made["id"], code=1)
    novadex.run("users", "erase", made["id"], "--yes")
    assert left_of(fresh_databases, made["id"]) == ERASED


def test_nobody_is_named_like_the_id_or_the_wallet_of_somebody_else(novadex: Command):
    made = create(novadex)
    for name in (made["id"], made["id"].replace("-", ""), WALLETS[0]):
        error = error_of(novadex, "users", "create", "--username", name)
        assert (error["code"], error["details"]["field"]) == ("INVALID_VALUE", "username")
        assert novadex.json("users", "show", name)["id"] == made["id"]


def test_after_a_restore_the_list_is_applied_again(novadex: Command, fresh_databases: DatabasePair):
    ada, bea = create(novadex), novadex.json("users", "create", "--username", "bea", "--email", "bea@example.com")
    server, backup = fresh_databases.server, f"{fresh_databases.main}_backup"
    server.make_database(backup, owner="novadex_owner", template=fresh_databases.main)
    novadex.run("users", "erase", ada["id"], "--yes")
    assert novadex.json("users", "reapply-erasures") == {"listed": 1, "erased_again": [], "added": 0, "damaged": []}
    server.drop_database(fresh_databases.main)
    server.make_database(fresh_databases.main, owner="novadex_owner", template=backup)
    server.drop_database(backup)
    assert novadex.json("users", "show", "ada")["email"] == EMAIL, "the restore brought it back"
    assert "1 of them were erased again" in novadex.run("users", "reapply-erasures").stdout
    assert left_of(fresh_databases, ada["id"]) == ERASED
    assert novadex.json("users", "show", "bea") == bea


def test_without_servers_or_master_keys_it_fails_in_words(
    novadex: Command, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NOVADEX_MASTER_KEY_FILE", str(novadex.folder / "nowhere.json"))
    assert error_of(novadex, "users", "create", "--email", EMAIL, code=1)["code"] == "CONFIGURATION"
    assert novadex.json("users", "create", "--username", "ada")["username"] == "ada"
    fresh_databases.server.drop_database(fresh_databases.main)
    assert error_of(novadex, "users", "list", code=1)["code"] == "UNAVAILABLE"

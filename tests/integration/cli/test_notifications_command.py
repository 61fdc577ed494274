"""``novadex notifications``: list, send, what was given up, words."""

from __future__ import annotations

from uuid import UUID

import psycopg

from novadex.ids import uuid7
from tests.conftest import DatabasePair, add_users
from tests.integration.cli.command import Command


def give_up(databases: DatabasePair, user: UUID) -> UUID:
    """A delivery that was given up."""
    with psycopg.connect(databases.main_url("owner")) as connection:
        row = connection.execute("SELECT id FROM notifications WHERE user_id = %s", (user,)).fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO notification_deliveries (notification_id, channel, status, attempts, finished_at,"
            " last_error) VALUES (%s, 'webhook', 'dead', 8, now(), 'it answered 500')",
            row,
        )
    return row[0]


def test_a_notice_is_sent_listed_and_what_was_given_up_replayed(novadex: Command, fresh_databases: DatabasePair):
    user, other = add_users(fresh_databases.main_url("owner"), 2)
    id = str(uuid7())
    send = ("notifications", "send", "Maintenance", "On Sunday.", "--user", str(user), "--id", id)
    assert novadex.json(*send) == {"user": str(user), "told": True}
    assert novadex.json(*send) == {"user": str(user), "told": False}
    listed = novadex.json("notifications", "list", str(user))
    assert [item["title"] for item in listed["items"]] == ["Maintenance"]
    assert "Maintenance" in novadex.run("notifications", "list", str(user)).stdout
    assert novadex.json("notifications", "list", str(other))["items"] == []
    notice = novadex.json("notifications", "send", "To all", "Text", "--all")
    assert (notice["role"], notice["finished_at"]) == (None, None)

    dead = str(give_up(fresh_databases, user))
    [item] = novadex.json("notifications", "dead", "--channel", "webhook")["items"]
    assert (item["notification_id"], item["last_error"]) == (dead, "it answered 500")
    assert dead in novadex.run("notifications", "dead").stdout
    assert novadex.json("notifications", "replay", dead) == {"replayed": 1}
    assert novadex.json("notifications", "replay", dead, code=2)["error"]["code"] == "NOT_FOUND"
    assert novadex.json("notifications", "replay", "--all") == {"replayed": 0}
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        acts = connection.execute(
            "SELECT action, actor FROM audit_log WHERE starts_with(action, 'notifications.') ORDER BY id"
        ).fetchall()
    assert set(acts) == {
        ("notifications.sent", "program:cli"),
        ("notifications.listed", "program:cli"),
        ("notifications.replayed", "program:cli"),
    }


def test_words_are_listed_changed_and_taken_away(novadex: Command):
    found = novadex.json("notifications", "templates", "list")
    assert {kind["name"] for kind in found["kinds"]} == {template["kind"] for template in found["templates"]}
    words = ("system_notice", "email", "de")
    text = ("--subject", "Mitteilung: {title}", "--body", "{text}", "--html", "<p>{text}</p>")
    assert novadex.json("notifications", "templates", "put", *words, *text)["html"] == "<p>{text}</p>"
    assert "Mitteilung" in novadex.run("notifications", "templates", "list").stdout
    wrong = novadex.json(
        "notifications", "templates", "put", *words, "--subject", "{password}", "--body", "x", code=2
    )
    assert wrong["error"]["details"]["field"] == "subject"
    assert novadex.json("notifications", "templates", "delete", *words)["deleted"]
    assert novadex.json("notifications", "templates", "delete", *words, code=2)["error"]["code"] == "NOT_FOUND"


def test_wrong_usage_says_what_to_do(novadex: Command):
    assert "--user, --role and --all" in novadex.run("notifications", "send", "x", "y", code=2).stderr
    assert "or --all" in novadex.run("notifications", "replay", code=2).stderr
    for words in (("", "y"), ("x", " "), ("x" * 201, "y")):
        assert novadex.json("notifications", "send", *words, "--all", code=2)["error"]["hint"]

"""The settings that programs run with stand in the audit log, without their secrets."""

from __future__ import annotations

import json
from typing import Any

from novadex.audit.configuration import record_settings
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair

KEYS = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


async def entries(db: DatabaseConnection) -> list[Any]:
    return await db.query(
        "SELECT actor, subject, detail FROM audit_log WHERE action = 'settings.changed' ORDER BY id"
    )


async def test_settings_are_written_down_where_they_changed(db: DatabaseConnection, fresh_databases: DatabasePair):
    assert await record_settings(db, "worker")
    assert not await record_settings(db, "worker"), "the same"
    assert await record_settings(db, "api"), "another program"
    async with fresh_databases.connection("worker", session_idle_s=900, master_keys=KEYS) as changed:
        assert await record_settings(changed, "worker")
        assert not await record_settings(changed, "worker")
    assert await record_settings(db, "worker"), "back again"
    first, api, second, third = await entries(db)
    assert (first.actor, first.subject, first.detail["changed"]) == ("program:worker", "settings:worker", [])
    assert first.detail["settings"]["NOVADEX_SESSION_IDLE_S"] == 1_800
    assert first.detail["settings"]["NOVADEX_MASTER_KEYS"] == "unset"
    assert (api.actor, api.subject) == ("program:api", "settings:api")
    assert second.detail["changed"] == third.detail["changed"] == ["NOVADEX_MASTER_KEYS", "NOVADEX_SESSION_IDLE_S"]
    assert second.detail["settings"]["NOVADEX_MASTER_KEYS"] == "set"


async def test_no_secret_is_written_down(fresh_databases: DatabasePair):
    urls: dict[str, Any] = {
        name: f"{scheme}://user:S3CRET-{name}@127.0.0.1:1/0"
        for name, scheme in {
            "database_url": "postgresql",
            "analytics_database_url": "postgresql",
            "database_owner_url": "postgresql",
            "analytics_database_owner_url": "postgresql",
            "database_replica_urls": "postgresql",
            "database_listen_url": "postgresql",
            "redis_url": "redis",
            "redis_session_url": "redis",
        }.items()
    }
    async with fresh_databases.connection("app", **urls, master_keys=KEYS) as db:
        await record_settings(db, "api")
        [entry] = await entries(db)
    text = json.dumps(entry.detail)
    assert "S3CRET" not in text
    assert "127.0.0.1:1/" not in text
    assert KEYS[2:] not in text
    assert text.count('"set"') == 9

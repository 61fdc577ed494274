"""Changes of settings: each program writes down the settings it runs with, unless they are those of its last run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from novadex.audit.acts import record_act
from novadex.audit.sealing import QUERIES
from novadex.roles.actor import Actor, act_as

if TYPE_CHECKING:
    from novadex.settings import Settings
    from novadex.storage.connection import DatabaseConnection

ACTION = "settings.changed"


def readable_settings(settings: Settings) -> dict[str, Any]:
    """Every setting by its variable; of a secret only whether it is set.

    >>> from novadex.settings import Settings
    >>> shown = readable_settings(Settings(master_keys="1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
    >>> shown["NOVADEX_MASTER_KEYS"], shown["NOVADEX_API_PORT"]
    ('set', 3000)
    """
    shown: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if "SecretStr" in str(field.annotation):  # wherever it stands in it
            value = "unset" if value is None else "set"
        elif value is not None and not isinstance(value, (bool, int, float, str)):
            value = str(value)
        shown[str(field.alias)] = value
    return shown


async def record_settings(db: DatabaseConnection, program: str) -> bool:
    """Write the settings down where they are not those that this program wrote down last; returns whether it did."""
    subject = f"settings:{program}"
    actor = Actor.program(program)
    now = msgspec.json.decode(msgspec.json.encode(readable_settings(db.settings)))
    detail = await db.main.value(QUERIES.last_settings, (subject, ACTION), read_only=True)
    before: dict[str, Any] = (detail or {}).get("settings", {})
    if now == before:
        return False
    nothing = object()
    changed = sorted(name for name in {*before, *now} if before.get(name, nothing) != now.get(name, nothing))
    async with db.main.transaction() as session:
        await act_as(session, actor)
        await record_act(session, actor, ACTION, subject, {"changed": changed if before else [], "settings": now})
    return True

"""Making notifications, in the transaction of whoever found their causes: with it they are there, or none is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from novadex import metrics
from novadex.notifications.records import Draft, Template
from novadex.notifications.texts import Templates, words_of
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.settings import Settings
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
FIELD_MAX = 5_000


class Maker:
    """Turns drafts into notifications and their deliveries."""

    def __init__(self, settings: Settings, *, make_id: Callable[[], UUID] = uuid7) -> None:
        # Without a mail server an email would wait for good.
        self._ways = ("email", "webhook") if settings.smtp_url is not None else ("webhook",)
        self._make_id = make_id

    async def make(self, session: Session, drafts: Sequence[Draft]) -> Counter[str]:
        """Write what these users are to be told; returns how many of each kind were new. A cause that was told
        already is not told again, and who is erased or wants to hear nothing of it is told nothing."""
        if not drafts:
            return Counter()
        pairs = sorted({(draft.user_id, draft.kind) for draft in drafts})
        found = await session.query(QUERIES.recipients, ([user for user, _ in pairs], [kind for _, kind in pairs]))
        recipients = {(row.id, row.kind): row for row in found}
        kinds = sorted({kind for _, kind in pairs})
        templates = Templates(await session.made(Template, QUERIES.templates_of, (kinds,)))
        rows = []
        ways: dict[UUID, list[str]] = {}
        for draft in drafts:
            recipient = recipients.get((draft.user_id, draft.kind))
            if recipient is None:
                continue
            wanted = [way for way in self._ways if way in recipient.channels]
            in_app = "in_app" in recipient.channels
            if not in_app and not wanted:
                continue
            data = {name: value[:FIELD_MAX] for name, value in draft.data.items()}
            words = words_of(templates.choose(draft.kind, "in_app", recipient.locale), data)
            id = self._make_id()
            ways[id] = wanted
            document = msgspec.json.encode(data).decode()
            rows.append((id, draft.user_id, draft.kind, draft.cause_id, words.title, words.body, document, in_app))
        if not rows:
            return Counter()
        made = await session.query(QUERIES.insert_notifications, [list(column) for column in zip(*rows, strict=True)])
        deliveries = [(row.id, way) for row in made for way in ways[row.id]]
        if deliveries:
            await session.execute(
                QUERIES.insert_deliveries, [list(column) for column in zip(*deliveries, strict=True)]
            )
        return Counter(row.kind for row in made)


def count_made(made: Counter[str]) -> None:
    """After the commit: the metrics."""
    for kind, count in made.items():
        metrics.notifications_made.labels(kind).inc(count)

"""The routes of notifications: what the caller was told, and how they want to hear of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from novadex.api import bodies
from novadex.api.access import Caller, Calling, CountedRoute, Db, whose
from novadex.api.answers import documented, json_answer
from novadex.api.people import NO_CONTENT, nothing, recent_actor
from novadex.notifications.records import NewWebhook, Notification, Preference, PriceAlert, Webhook
from novadex.notifications.service import NotificationService
from novadex.trading.records import Page

router = APIRouter(
    prefix="/api/notifications", tags=["notifications"], default_response_class=Response, route_class=CountedRoute
)


def _of(db: Any, caller: Caller) -> tuple[NotificationService, str]:
    """The service on behalf of the caller, and who that is."""
    return NotificationService(db, actor=caller.actor), whose(caller, None)


@router.get("", **documented(Page[Notification]))
async def list_notifications(
    db: Db,
    caller: Calling,
    *,
    unread: bool = False,
    kind: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Response:
    """A page of what the caller was told, the newest first."""
    service, me = _of(db, caller)
    return json_answer(await service.list(me, unread=unread, kind=kind, limit=limit, cursor=cursor))


@router.get("/unread")
async def count_unread(db: Db, caller: Calling) -> Response:
    """How many the caller has not read, counted up to 1,000."""
    service, me = _of(db, caller)
    return json_answer({"unread": await service.unread_count(me)})


@router.post("/read")
async def mark_all_read(body: bodies.ReadUpTo, db: Db, caller: Calling) -> Response:
    """All up to this id were read. Answers how many were not before."""
    service, me = _of(db, caller)
    return json_answer({"marked": await service.mark_all_read(me, up_to=body.up_to)})


@router.get("/preferences", **documented(list[Preference]))
async def list_preferences(db: Db, caller: Calling) -> Response:
    """Each kind and channel, and whether the caller hears of it there."""
    service, me = _of(db, caller)
    return json_answer(await service.preferences(me))


@router.put("/preferences/{kind}/{channel}", status_code=NO_CONTENT)
async def set_preference(kind: str, channel: str, body: bodies.Wish, db: Db, caller: Calling) -> Response:
    """Hear of a kind by a channel, or not; null is the default again."""
    service, me = _of(db, caller)
    await service.set_preference(me, kind, channel, body.enabled)
    return nothing()


@router.get("/webhook", **documented(Webhook))
async def show_webhook(db: Db, caller: Calling) -> Response:
    """The caller's webhook, without its secret; null where there is none."""
    service, me = _of(db, caller)
    return json_answer(await service.webhook(me))


@router.put("/webhook", **documented(NewWebhook))
async def set_webhook(body: bodies.WebhookWanted, db: Db, caller: Calling) -> Response:
    """Another webhook in the place of the one before; its secret is seen this once. Needs a sign-in a short while
    ago."""
    service = NotificationService(db, actor=recent_actor(db, caller))
    return json_answer(await service.set_webhook(whose(caller, None), body.url))


@router.delete("/webhook", status_code=NO_CONTENT)
async def remove_webhook(db: Db, caller: Calling) -> Response:
    """No webhook any more."""
    service, me = _of(db, caller)
    await service.remove_webhook(me)
    return nothing()


@router.get("/alerts", **documented(Page[PriceAlert]))
async def list_alerts(db: Db, caller: Calling, limit: int = 50, cursor: str | None = None) -> Response:
    """A page of the caller's price alerts, the newest first."""
    service, me = _of(db, caller)
    return json_answer(await service.alerts.list(me, limit=limit, cursor=cursor))


@router.post("/alerts", **documented(PriceAlert, HTTPStatus.CREATED))
async def create_alert(body: bodies.AlertWanted, db: Db, caller: Calling) -> Response:
    """Tell the caller when a market trades at a price or beyond it."""
    service, me = _of(db, caller)
    return json_answer(await service.alerts.create(me, **body.model_dump()), HTTPStatus.CREATED)


@router.delete("/alerts/{alert_id}", status_code=NO_CONTENT)
async def delete_alert(alert_id: str, db: Db, caller: Calling) -> Response:
    """Do not wait for it any more."""
    service, me = _of(db, caller)
    await service.alerts.delete(me, alert_id)
    return nothing()


@router.post("/{notification_id}/read", status_code=NO_CONTENT)
async def mark_read(notification_id: str, db: Db, caller: Calling) -> Response:
    """One was read."""
    service, me = _of(db, caller)
    await service.mark_read(me, notification_id)
    return nothing()

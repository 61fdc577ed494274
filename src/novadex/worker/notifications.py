"""What the worker does about notifications: finds what users are to be told, and delivers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novadex.monitoring.jobs import Job
from novadex.notifications.causes import NoticeSpreader, PriceAlertWatch, SignInWatch
from novadex.notifications.projection import OrderNotifier
from novadex.notifications.records import WAYS
from novadex.notifications.sending import DeliverySender

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

CAUSES_INTERVAL_S = 0.5
"""How long an event waits until it is told, at most, while the worker runs."""
SENDING_INTERVAL_S = 0.5
DEADLINE_S = 120.0
RETRY_S = 5.0


def notification_jobs(database: DatabaseConnection) -> list[Job]:
    """One job for each cause and each channel: where one fails, the others go on."""
    causes = {
        "notify_of_orders": OrderNotifier(database).catch_up,
        "notify_of_prices": PriceAlertWatch(database).look,
        "notify_of_sign_ins": SignInWatch(database).look,
        "notify_of_notices": NoticeSpreader(database).spread,
    }
    senders = {f"send_by_{way}": DeliverySender(database, way).drain for way in WAYS}
    return [
        *(
            Job(name, work, interval_s=CAUSES_INTERVAL_S, deadline_s=DEADLINE_S, retry_s=RETRY_S)
            for name, work in causes.items()
        ),
        # Without a deadline: a long queue is no failure, and each attempt has its own.
        *(
            Job(name, work, interval_s=SENDING_INTERVAL_S, deadline_s=None, retry_s=RETRY_S)
            for name, work in senders.items()
        ),
    ]

"""The states of a delivery, as the database enforces them (``follow_delivery()``)."""

from __future__ import annotations

from novadex.notifications.records import DeliveryStatus

TRANSITIONS: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    # An attempt begins: it is counted and under a lease, and only then something is sent.
    "pending": frozenset({"sending", "cancelled"}),
    # It ends; or its sender was lost, the lease is over, and another attempt of the same series begins.
    "sending": frozenset({"sending", "delivered", "pending", "dead", "cancelled"}),
    "delivered": frozenset(),
    # Somebody replays it: another series begins.
    "dead": frozenset({"pending", "cancelled"}),
    "cancelled": frozenset(),
}
ENDS: frozenset[DeliveryStatus] = frozenset({"delivered", "dead", "cancelled"})


def after_failure(attempts: int, attempts_max: int, *, permanent: bool) -> DeliveryStatus:
    """Where a delivery goes whose attempt failed.

    >>> after_failure(3, 8, permanent=False), after_failure(8, 8, permanent=False)
    ('pending', 'dead')
    >>> after_failure(1, 8, permanent=True)
    'dead'
    """
    return "dead" if permanent or attempts >= attempts_max else "pending"

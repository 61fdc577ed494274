"""What the notification services give back, and what they are given to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

Channel = Literal["in_app", "email", "webhook"]
Way = Literal["email", "webhook"]
"""A channel that leaves the house: what takes it is delivered by attempts."""
Direction = Literal["above", "below"]
DeliveryStatus = Literal["pending", "sending", "delivered", "dead", "cancelled"]
AlertStatus = Literal["armed", "waiting", "done"]

CHANNELS: tuple[Channel, ...] = ("in_app", "email", "webhook")
WAYS: tuple[Way, ...] = ("email", "webhook")


@dataclass(frozen=True, slots=True)
class Draft:
    """Something that a user is to be told: once for each ``cause_id`` of a kind, however often it is asked for."""

    user_id: UUID
    kind: str
    cause_id: str
    data: Mapping[str, str] = field(repr=False)
    """The fields of the kind; what is not given is empty."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a user was told, in the words of the app."""

    id: UUID
    user_id: UUID
    kind: str
    title: str = field(repr=False)
    body: str = field(repr=False)
    """Plain text: whoever shows it on a page escapes it."""
    data: dict[str, str] = field(repr=False)
    created_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class Preference:
    """Whether a user hears of a kind by a channel."""

    kind: str
    description: str
    channel: Channel
    enabled: bool
    required: bool
    """Everybody hears of it by this channel, whatever they wish."""
    chosen: bool
    """Whether the user said so; else it is the kind's default."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a program of a user hears of notifications."""

    user_id: UUID
    url: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook that was just set. This is the only time that its secret is seen."""

    webhook: Webhook
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PriceAlert:
    """A price that a user wants to hear of. ``above``: at it or more; ``below``: at it or less."""

    id: UUID
    user_id: UUID
    market: str
    direction: Direction
    price: Decimal
    once: bool
    """Else it is armed again when the price is back on the other side."""
    status: AlertStatus
    created_at: datetime
    triggered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification on its way by a channel, without its words."""

    notification_id: UUID
    user_id: UUID
    kind: str
    channel: Way
    status: DeliveryStatus
    series: int
    """1, and one more each time that it was replayed."""
    attempts: int
    """Begun in this series."""
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Template:
    """The words of a kind for a channel and a locale."""

    kind: str
    channel: Channel
    locale: str
    subject: str
    body: str
    html: str | None = None
    """For email only."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that users can be told of."""

    name: str
    description: str
    fields: list[str]
    """The placeholders of its templates."""
    default_channels: list[str]
    required_channels: list[str]


@dataclass(frozen=True, slots=True)
class Notice:
    """What the venue tells many."""

    id: UUID
    role: str | None
    title: str
    text: str
    created_at: datetime
    finished_at: datetime | None
    """When everybody was told; None while the worker is at it."""

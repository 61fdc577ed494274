"""How an attempt to deliver ended. None of these says where it was sent: that is personal."""

from __future__ import annotations


class DeliveryFailedError(Exception):
    """The attempt failed; ``permanent`` where another one would fail too."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class NoWayError(Exception):
    """There is no way to the user any more: they took the address or the webhook away, or were erased."""

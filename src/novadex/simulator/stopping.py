"""A simulation that a signal ends."""

from __future__ import annotations

import asyncio
import signal


class SignalEvent(asyncio.Event):
    """An event that a signal sets, the first of which it remembers."""

    signal: int | None = None

    def take(self, number: int) -> None:
        self.signal = self.signal or number
        self.set()


def stop_on_signals() -> SignalEvent:
    """An event that SIGINT and SIGTERM set: what is under way is finished."""
    stop = SignalEvent()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.take, number)
    return stop

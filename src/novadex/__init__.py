"""NovaDex: the data backend of a trading venue.

>>> from novadex import DatabaseConnection, TradingService
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novadex.analytics.service import AnalyticsService
    from novadex.errors import NovaDexError
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.service import TradingService

__all__ = ["AnalyticsService", "DatabaseConnection", "NovaDexError", "TradingService"]

_HOMES = {
    "AnalyticsService": "novadex.analytics.service",
    "DatabaseConnection": "novadex.storage.connection",
    "NovaDexError": "novadex.errors",
    "TradingService": "novadex.trading.service",
}


def __getattr__(name: str) -> Any:
    # Lazily: `novadex --help` must not pay for the database driver.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'novadex' has no attribute {name!r}")

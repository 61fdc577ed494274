"""NovaDex: the data backend of a trading venue.

>>> from novadex import DatabaseConnection, TradingService, UserService
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novadex.analytics.service import AnalyticsService
    from novadex.api_keys.service import ApiKeyService
    from novadex.audit.service import AuditService
    from novadex.cache_upkeep.service import CacheService
    from novadex.errors import NovaDexError
    from novadex.keys.service import KeyService
    from novadex.notifications.service import NotificationService
    from novadex.sessions.service import SessionService
    from novadex.sign_in.service import SignInService
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.service import TradingService
    from novadex.users.service import UserService

__all__ = [
    "AnalyticsService",
    "ApiKeyService",
    "AuditService",
    "CacheService",
    "DatabaseConnection",
    "KeyService",
    "NotificationService",
    "NovaDexError",
    "SessionService",
    "SignInService",
    "TradingService",
    "UserService",
]

_HOMES = {
    "AnalyticsService": "novadex.analytics.service",
    "ApiKeyService": "novadex.api_keys.service",
    "AuditService": "novadex.audit.service",
    "CacheService": "novadex.cache_upkeep.service",
    "DatabaseConnection": "novadex.storage.connection",
    "KeyService": "novadex.keys.service",
    "NotificationService": "novadex.notifications.service",
    "NovaDexError": "novadex.errors",
    "SessionService": "novadex.sessions.service",
    "SignInService": "novadex.sign_in.service",
    "TradingService": "novadex.trading.service",
    "UserService": "novadex.users.service",
}


def __getattr__(name: str) -> Any:
    # Lazily: `novadex --help` must not pay for the database driver.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'novadex' has no attribute {name!r}")

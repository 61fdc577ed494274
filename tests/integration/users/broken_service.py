"""A pytest plugin that breaks ``UserService``: its example must fail then. ``BREAK`` names what."""

from __future__ import annotations

import os
from typing import Any

import pytest

from novadex.users.service import UserService


def pytest_configure() -> None:
    patch = pytest.MonkeyPatch()
    if os.environ["BREAK"] == "create_session":

        async def no_session(*_: Any, **__: Any) -> None:
            return None

        patch.setattr(UserService, "create_session", no_session)
    elif os.environ["BREAK"] == "checksum":
        patch.setattr("novadex.users.service.normalise", lambda _, address: str(address).lower())

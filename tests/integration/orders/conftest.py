"""What tests of orders share: the service, two users and how an order and a fill look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from novadex import TradingService


@pytest.fixture
async def service(db: Any, sol_market: Any) -> AsyncIterator[TradingService]:
    async with TradingService(db) as service:
        yield service


def limit(user: Any, side: str = "buy", quantity: str = "2", price: str = "100", **changes: Any) -> Any:
    """A limit order of SOL/USDC."""
    return {
        "user_id": user,
        "market": "SOL/USDC",
        "side": side,
        "type": "limit",
        "quantity": quantity,
        "price": price,
        **changes,
    }


def fill_of(taker: Any, maker: Any, base_amount: str = "1", price: str = "100", **changes: Any) -> Any:
    """A fill of SOL/USDC between two orders; ``maker`` None is a pool."""
    return {
        "market": "SOL/USDC",
        "price": price,
        "base_amount": base_amount,
        "taker_order_id": taker.id,
        **({"maker_order_id": maker.id} if maker is not None else {}),
        **changes,
    }

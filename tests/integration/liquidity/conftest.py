"""Fixtures of liquidity."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from novadex.liquidity.records import Pool
from novadex.liquidity.service import LiquidityService
from novadex.storage.connection import DatabaseConnection

ADDRESS = "0x45dda9cb7c25131df268515131f647d726f50608"


@pytest.fixture
def liquidity(db: DatabaseConnection) -> LiquidityService:
    return LiquidityService(db)


@pytest.fixture
async def pool(liquidity: LiquidityService, make_market: Any) -> Pool:
    """USDC (token 0) and WETH (token 1) on Polygon, 0.05 %, priced as WETH/USDC."""
    make_market("WETH/USDC", 18, 6)
    return await liquidity.pools.add(
        ADDRESS, market="WETH/USDC", kind="concentrated", fee="0.0005", tick_spacing=10, base_is_token0=False
    )


@pytest.fixture
def user(users: Any) -> UUID:
    return users(1)[0]

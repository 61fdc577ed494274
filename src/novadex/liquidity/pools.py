"""Pools of an instance: added once, never changed, found by their address."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import parse_id
from novadex.liquidity.records import Pool, PoolKind
from novadex.money import parse_amount
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.queries import load_queries
from novadex.trading.markets import Markets, check_limit
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_name("queries.sql"))
KINDS = ("constant_product", "concentrated")
ADDRESS_LENGTH_MAX = 128
TICK_SPACING_MAX = 32_767
MILLION = 1_000_000


class Pools:
    """Everybody may see pools; to add some needs ``pools.manage``."""

    def __init__(self, db: DatabaseConnection, *, actor: Actor = SERVICE) -> None:
        self._db = db
        self._actor = actor
        self._markets = Markets(db, actor=actor)

    def acting_as(self, actor: Actor) -> Pools:
        pools = copy.copy(self)
        pools._actor = actor  # noqa: SLF001 - of the same class
        return pools

    async def get(self, address: str) -> Pool:
        """A pool by its address; ``NotFoundError`` where there is none."""
        found = await self._db.main.made(Pool, SQL.pool, [address], read_only=True)
        if not found:
            raise NotFoundError(
                f"There is no pool {address[:128]!r}.",
                hint="Add it: novadex liquidity add-pool ADDRESS --market BASE/QUOTE --fee 0.0005",
            )
        return found[0]

    async def list(self, *, market: str | None = None, after: str | None = None, limit: int = 100) -> Page[Pool]:
        """A page of pools by address."""
        limit = check_limit(limit)
        rows = await self._db.main.made(Pool, SQL.pools, [after or "", market, limit + 1], read_only=True)
        return Page(rows[:limit], rows[limit - 1].address if len(rows) > limit else None)

    async def add(
        self,
        address: str,
        *,
        market: str,
        kind: PoolKind,
        fee: Decimal | str | int,
        tick_spacing: int | None = None,
        base_is_token0: bool = True,
    ) -> Pool:
        """Add a pool; the same again gives the one that is there, another one of this address is a ``ConflictError``.

        ``fee`` is the share of what swaps pay in, such as ``"0.0005"``; ``tick_spacing`` is for concentrated ones.
        ``base_is_token0`` says which token of the pool the base asset of the market is.
        """
        self._actor.require("pools.manage")
        if kind not in KINDS:
            raise ValidationError(f"kind must be one of {', '.join(KINDS)}, got {str(kind)[:40]!r}.", field="kind")
        if type(address) is not str or not 1 <= len(address) <= ADDRESS_LENGTH_MAX or "\0" in address:
            raise ValidationError(f"address must be a text of 1 to {ADDRESS_LENGTH_MAX} characters.", field="address")
        if (kind == "concentrated") != (tick_spacing is not None) or not 1 <= (tick_spacing or 1) <= TICK_SPACING_MAX:
            raise ValidationError(
                f"tick_spacing must be 1 to {TICK_SPACING_MAX} of a concentrated pool, and none of another.",
                field="tick_spacing",
            )
        symbol = (await self._markets.get(market)).symbol
        fee_ppm = _fee_ppm(fee)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(
                SQL.add_pool,
                [parse_id(uuid7(), "id"), symbol, kind, address, fee_ppm, tick_spacing, base_is_token0],
            )
        pool = await self.get(address)
        wanted = (symbol, kind, fee_ppm, tick_spacing, base_is_token0)
        if (pool.market, pool.kind, pool.fee_ppm, pool.tick_spacing, pool.base_is_token0) != wanted:
            raise ConflictError(
                f"The pool {address} is there as another one: {pool.market}, {pool.kind}, fee {pool.fee_ppm} ppm.",
                hint="What a pool is never changes: use it as it is.",
            )
        return pool


def _fee_ppm(fee: Decimal | str | int) -> int:
    share, _ = parse_amount(fee, "fee")
    ppm = share * MILLION
    if ppm != int(ppm) or ppm >= MILLION:
        raise ValidationError(
            f"fee must be a share below 1 in whole millionths, got {share}.", field="fee", hint="0.05 % is 0.0005."
        )
    return int(ppm)

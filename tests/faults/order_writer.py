"""A process that places, fills and busts orders until it is killed: ``python -m tests.faults.order_writer URL SEED``.

It says what was acknowledged, one line each, on standard output.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvloop

from novadex import DatabaseConnection, TradingService
from novadex.errors import NovaDexError
from novadex.instance import Endpoints
from novadex.settings import load_settings

CALLERS = 12
MARKETS = ("SOL/USDC", "ETH/USDC")


async def work(url: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seed is the point
    async with DatabaseConnection(Endpoints(url, url, "", ""), load_settings()) as db, TradingService(db) as service:
        users = [row.id for row in await db.query("SELECT id FROM users ORDER BY id")]

        async def call(caller: int) -> None:
            number = 0
            while True:
                number += 1
                market = chance.choice(MARKETS)
                pair = []
                for side in ("buy", "sell"):
                    wanted: Any = {
                        "user_id": chance.choice(users),
                        "market": market,
                        "side": side,
                        "type": "limit",
                        "quantity": "2",
                        "price": "5",
                        "client_order_id": f"{seed}-{caller}-{number}-{side}",
                    }
                    order = await until_acknowledged(partial(service.place_order, wanted))
                    say("order", order.id)
                    pair.append(order)
                report: Any = {
                    "market": market,
                    "price": "5",
                    "base_amount": "1",
                    "taker_order_id": pair[0].id,
                    "maker_order_id": pair[1].id,
                    "source": "venue",
                    "source_match_id": f"{seed}-{caller}-{number}",
                    "allow_self_trade": True,
                }
                match = await until_acknowledged(partial(service.record_fill, report))
                say("match", match.id)
                if chance.random() < 0.3:
                    await until_acknowledged(partial(service.bust_trade, match.id, reason="typo"))
                    say("bust", match.id)
                await until_acknowledged(partial(service.cancel_order, pair[chance.randint(0, 1)].id))

        await asyncio.gather(*(call(n) for n in range(CALLERS)))


async def until_acknowledged(call: Callable[[], Awaitable[Any]]) -> Any:
    """The same again while the server is away: all of these calls may be repeated."""
    while True:
        try:
            return await call()
        except NovaDexError as error:
            if not error.retryable:
                raise


def say(what: str, id: object) -> None:
    sys.stdout.write(f"{what} {id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], int(sys.argv[2])))

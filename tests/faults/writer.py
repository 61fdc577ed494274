"""A client of the kill campaign: many callers create trades, or place, amend, fill and cancel orders, and bust fills,
each until it is acknowledged.

Every id is noted in a file before it is sent and again when it is acknowledged. Ends when its standard
input ends: ``python -m tests.faults.writer --data-dir FOLDER --seed N --journal FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import uvloop

from novadex import DatabaseConnection, TradingService
from novadex.errors import NovaDexError
from novadex.ids import uuid7
from novadex.money import EXACT

CALLERS = 8
ORDERS_MARKET = "ETH/USDT"
"""Trades are created in BTC/USDT: their candles are recomputed from what was sent."""
RETRY_PAUSE_S = 0.05
ORDERS_SHARE = 0.4
"""How often a caller goes through the life of two orders instead of creating a trade."""
PRICES = ("61837.63", "61837.64", "61840", "61799.5")


class Client:
    """Callers that share a service, and make a new one when the servers went away."""

    def __init__(self, data_dir: Path, seed: int, journal: Path) -> None:
        self.data_dir = data_dir
        self.random = random.Random(seed)  # noqa: S311 - a seed is the point
        self.journal = journal.open("a", buffering=1)
        self.stopping = asyncio.Event()
        self.db = DatabaseConnection.connect(data_dir=data_dir)
        self.service = TradingService(self.db)
        self.users: list[str] = []

    async def run(self) -> None:
        self.users = [
            str(row.id)
            for row in await self.db.query("SELECT id FROM users WHERE kind = 'person' ORDER BY id LIMIT 50")
        ]
        await asyncio.gather(self._until_stdin_ends(), *(self._call_again_and_again() for _ in range(CALLERS)))
        await self.service.close()
        await self.db.close()

    async def _until_stdin_ends(self) -> None:
        await asyncio.to_thread(sys.stdin.read)
        self.stopping.set()

    async def _call_again_and_again(self) -> None:
        while not self.stopping.is_set():
            if self.random.random() < ORDERS_SHARE:
                await self._trade_by_orders()
                continue
            id = str(uuid7())
            amount, price = self.random.randint(1, 500), self.random.choice(PRICES)
            trade = {
                "id": id,
                "user_id": self.random.choice(self.users),
                "market": "BTC/USDT",
                "side": self.random.choice(("buy", "sell")),
                "base_amount": amount,
                "price": price,
                "quote_amount": EXACT.multiply(Decimal(amount), Decimal(price)),
            }
            if self.random.random() < 0.2:
                trade["idempotency_key"] = f"key of {id}"
            print(f"sent {id}", file=self.journal)
            await self._until_acknowledged(lambda trade=trade: self.service.create_trade(trade))  # pyright: ignore[reportArgumentType]
            print(f"acknowledged {id}", file=self.journal)

    async def _trade_by_orders(self) -> None:
        """A maker waits, a taker takes a part; then the rest is amended and cancelled, or the fill is busted."""
        one, two = self.random.sample(self.users, 2)
        maker = await self._placed(one, "sell", 10)
        taker = await self._placed(two, "buy", 4)
        match = str(uuid7())
        fill = {"market": ORDERS_MARKET, "id": match, "price": "2640.5", "base_amount": 4}
        fill |= {"taker_order_id": taker, "maker_order_id": maker}
        print(f"sent-fill {match}", file=self.journal)
        await self._until_acknowledged(lambda: self.service.record_fill(fill))  # pyright: ignore[reportArgumentType]
        print(f"acknowledged-fill {match}", file=self.journal)
        what = self.random.random()
        if what < 0.3:
            await self._until_acknowledged(lambda: self.service.amend_order(maker, quantity=8, price="2641"))
        if what < 0.6:
            await self._until_acknowledged(lambda: self.service.cancel_order(maker))
            print(f"cancelled {maker}", file=self.journal)
        elif what < 0.7:
            await self._until_acknowledged(lambda: self.service.bust_trade(match, reason="by the campaign"))
            print(f"busted {match}", file=self.journal)

    async def _placed(self, user: str, side: str, quantity: int) -> str:
        id = str(uuid7())
        order = {"id": id, "user_id": user, "market": ORDERS_MARKET, "side": side, "type": "limit"}
        order |= {"quantity": quantity, "price": "2640.5"}
        print(f"sent-order {id}", file=self.journal)
        await self._until_acknowledged(lambda: self.service.place_order(order))  # pyright: ignore[reportArgumentType]
        print(f"acknowledged-order {id}", file=self.journal)
        return id

    async def _until_acknowledged(self, call: Callable[[], Awaitable[object]]) -> None:
        """The journal has to know the outcome of every call, so a caller tries until it has one."""
        while True:
            try:
                await call()
            except NovaDexError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
                self._find_servers_again()
            else:
                return

    def _find_servers_again(self) -> None:
        """After a restart the servers may have other ports."""
        try:
            found = DatabaseConnection.connect(data_dir=self.data_dir)
        except NovaDexError:
            return  # not started again yet
        if found.endpoints.main != self.db.endpoints.main:
            self.db, self.service = found, TradingService(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()

    async def run() -> None:
        await Client(arguments.data_dir, arguments.seed, arguments.journal).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()

"""A client of the kill campaign: many callers create trades, each until it is acknowledged.

Every id is noted in a file before it is sent and again when it is acknowledged. Ends when its standard
input ends: ``python -m tests.faults.writer --data-dir FOLDER --seed N --journal FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from decimal import Decimal
from pathlib import Path

import uvloop

from novadex import DatabaseConnection, TradingService
from novadex.errors import NovaDexError
from novadex.ids import uuid7
from novadex.money import EXACT

CALLERS = 8
RETRY_PAUSE_S = 0.05
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
            await self._until_acknowledged(trade)
            print(f"acknowledged {id}", file=self.journal)

    async def _until_acknowledged(self, trade: dict[str, object]) -> None:
        """The journal has to know the outcome of every trade, so a caller tries until it has one."""
        while True:
            try:
                await self.service.create_trade(trade)  # pyright: ignore[reportArgumentType]
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
        if found.main.address() != self.db.main.address():
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

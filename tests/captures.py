"""Captures of an exchange that never was: snapshot, differences and tickers, and the book that they lead to."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Sides = dict[str, dict[Decimal, Decimal]]


@dataclass
class Exchange:
    """An exchange with one market. ``lines`` is what is captured of it; ``sides`` its book at the end."""

    seed: int
    updates: int = 300
    perpetual: bool = False
    sides: Sides = field(default_factory=lambda: {"bids": {}, "asks": {}})
    update_id: int = 1_000
    chance: random.Random = field(default_factory=random.Random)

    def lines(self) -> list[str]:
        """The capture, one message on each line."""
        return [f"{1_700_000_000_000_000_000 + n} {line}" for n, line in enumerate(self._messages())]

    def _messages(self) -> Iterator[str]:
        self.chance = random.Random(self.seed)  # noqa: S311 - no secret
        for n in range(40):
            self._set("bids", 1000 - n)
            self._set("asks", 1001 + n)
        last = self.update_id
        before = self._snapshot(last)
        late: list[str] = []
        for number in range(self.updates):
            # A perpetual market's ids jump: only pu says what follows what.
            first = last + (self.chance.randint(1, 50) if self.perpetual else 1)
            changed = [self._change() for _ in range(self.chance.randint(1, 6))]
            self.update_id = first + len(changed) + self.chance.randint(0, 3)
            update = {"e": "depthUpdate", "E": 1, "s": "X", "U": first, "u": self.update_id}
            if self.perpetual:
                update |= {"T": 1, "pu": last}
            for name, side in (("b", "bids"), ("a", "asks")):
                update[name] = [
                    [f"{price:.8f}", f"{self.sides[side].get(price, 0):.8f}"] for at, price in changed if at == side
                ]
            if number == 5:  # the snapshot is asked for after differences began to come
                yield json.dumps(before)
            ticker = self._ticker()
            # Tickers come before their difference, or just after it.
            if self.chance.random() < 0.3:
                late.append(ticker)
            else:
                yield ticker
            yield json.dumps({"stream": "x@depth@100ms", "data": update})
            yield from late
            late.clear()
            if number == 5:
                yield json.dumps({"stream": "x@trade", "data": {"e": "trade", "p": "1", "q": "1"}})
            last = self.update_id
            before = self._snapshot(last)

    def _change(self) -> tuple[str, Decimal]:
        side = self.chance.choice(["bids", "asks"])
        best = max(self.sides["bids"]) if side == "bids" else min(self.sides["asks"])
        away = Decimal(self.chance.randint(0, 30)) / 2
        price = best - away if side == "bids" else best + away
        if self.chance.random() < 0.5 and len(self.sides[side]) > 5:
            price = self.chance.choice(sorted(self.sides[side]))
            del self.sides[side][price]
        else:
            self.sides[side][price] = Decimal(self.chance.randint(1, 10**9)) / 10**8
        return side, price

    def _set(self, side: str, price: int) -> None:
        self.sides[side][Decimal(price)] = Decimal(self.chance.randint(1, 10**9)) / 10**8

    def _snapshot(self, last: int) -> dict[str, Any]:
        return {"lastUpdateId": last} | {
            side: [[f"{price:.8f}", f"{self.sides[side][price]:.8f}"] for price in sorted(self.sides[side])]
            for side in ("bids", "asks")
        }

    def _ticker(self) -> str:
        bid, ask = max(self.sides["bids"]), min(self.sides["asks"])
        data = {
            "u": self.update_id,
            "s": "X",
            "b": f"{bid:.8f}",
            "B": f"{self.sides['bids'][bid]:.8f}",
            "a": f"{ask:.8f}",
            "A": f"{self.sides['asks'][ask]:.8f}",
        }
        if self.perpetual:
            data |= {"e": "bookTicker", "T": 1, "E": 1}
        return json.dumps({"stream": "x@bookTicker", "data": data})

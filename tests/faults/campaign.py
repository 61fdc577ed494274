"""The kill campaign: SIGKILL at random moments, chosen by a seed, while writers write.

``make campaign KILLS=500 SEED=7``, or ``python -m tests.faults.campaign --kills 500 --seed 7``. At the end:

- every acknowledged trade is in the main database, whole and once;
- nothing is there that was not sent;
- ``novadex analytics verify`` finds no difference;
- the candles equal a recompute that this file does by itself, from the trades;
- every acknowledged order, fill, cancel and bust is there, once, and nothing is there that was not sent;
- ``novadex reconcile`` finds no difference: orders, events, fills, books, caches and portfolios are right;
- users were told of each fill and bust of their orders once, and what they hear by webhook came in one series of
  attempts, at most as often as was counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil

from novadex import DatabaseConnection
from novadex.money import EXACT
from novadex.notifications.service import NotificationService
from novadex.settings import load_settings
from novadex.storage.database import Database
from tests.faults.receiver import Receiver
from tests.faults.writer import ORDERS_MARKET
from tests.forked import command_line
from tests.servers import server_folder

TARGETS = ("main", "analytics", "cache", "sessions", "api", "worker", "supervisor")
HEALTHY_WITHIN_S = 60.0
WRITERS = 2
TROUBLE_PAUSE_S = (0.05, 1.2)
LISTENERS = 3
"""Users who hear of their orders by webhook too."""
WEBHOOKS = {
    "NOVADEX_WEBHOOK_ALLOW_HTTP": "true",
    "NOVADEX_WEBHOOK_ALLOW_PRIVATE": "true",
    "NOVADEX_NOTIFICATION_TIMEOUT_S": "1",
    "NOVADEX_NOTIFICATION_RETRY_S": "0.05",
    "NOVADEX_NOTIFICATION_ATTEMPTS_MAX": "50",
}
NOT_TOLD_YET = """
    SELECT EXISTS (
        SELECT FROM market_sequences AS s LEFT JOIN notification_positions AS p USING (market_id)
        WHERE s.sequence > coalesce(p.market_sequence, 0)
    ) OR EXISTS (SELECT FROM notification_deliveries WHERE status IN ('pending', 'sending'))
"""
TOLD = "SELECT user_id, kind, cause_id FROM notifications"
TO_BE_TOLD = """
    SELECT o.user_id,
        CASE WHEN e.type = 'busted' THEN 'order_busted' WHEN e.status = 'filled' THEN 'order_filled'
            ELSE 'order_partially_filled' END AS kind,
        e.id::text
    FROM order_events AS e JOIN orders AS o ON o.id = e.order_id
    WHERE e.type IN ('filled', 'busted')
"""
DELIVERIES = """
    SELECT n.id, d.status, d.series, d.attempts
    FROM notification_deliveries AS d JOIN notifications AS n ON n.id = d.notification_id
    WHERE d.channel = 'webhook'
"""
BOTH_AT_ONCE = 0.25
"""How often two services are killed at the same moment."""


def novadex(*arguments: str, data_dir: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line on the instance."""
    return subprocess.run(
        [*command_line(), *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **WEBHOOKS},
    )


@dataclass
class Campaign:
    """One instance, its writers, and what was done to it."""

    data_dir: Path
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    writers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    journals: list[Path] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    """The targets to come."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - a seed is the point
        self.receiver = Receiver()

    def start(self) -> None:
        self._up()
        asyncio.run(self._add_records())
        for number in range(WRITERS):
            journal = self.data_dir.with_suffix(f".journal-{number}")
            command = [sys.executable, "-m", "tests.faults.writer", "--data-dir", str(self.data_dir)]
            command += ["--seed", str(self.seed * 100 + number), "--journal", str(journal)]
            self.journals.append(journal)
            self.writers.append(subprocess.Popen(command, stdin=subprocess.PIPE))

    def kill(self, count: int, report: Any = None) -> None:
        """Kill so often; after each time wait until everything is healthy again."""
        while self.kills.total() < count:
            time.sleep(self.random.uniform(*TROUBLE_PAUSE_S))  # the random moment, not a wait for something
            chosen = self._chosen(2 if self.random.random() < BOTH_AT_ONCE else 1)
            pids = self._pids()
            for target in chosen:
                if pids.get(target):
                    os.kill(pids[target], signal.SIGKILL)
                    self.kills[target] += 1
            if "supervisor" in chosen:
                self._up()
            self._wait_until_healthy({target: pids.get(target) for target in chosen})
            dead = [writer.pid for writer in self.writers if writer.poll() is not None]
            assert not dead, f"writers {dead} gave up"
            if report:
                report(self.kills)

    def _chosen(self, count: int) -> list[str]:
        """Targets by chance, none again before all had their turn."""
        while len(self.turns) < count:
            self.turns += self.random.sample(TARGETS, len(TARGETS))
        chosen, self.turns = self.turns[:count], self.turns[count:]
        return list(dict.fromkeys(chosen))

    def stop_writers(self) -> dict[str, set[str]]:
        """End the writers; returns the ids that were sent, acknowledged and so on."""
        for writer in self.writers:
            assert writer.stdin is not None
            writer.stdin.close()
        for writer in self.writers:
            assert writer.wait(timeout=HEALTHY_WITHIN_S) == 0, "a writer failed"
        noted: dict[str, set[str]] = defaultdict(set)
        for journal in self.journals:
            for line in journal.read_text().splitlines():
                what, id = line.split()
                noted[what].add(id)
        return noted

    def check(self) -> int:
        """Raise ``AssertionError`` with what is wrong; returns how many trades there are."""
        noted = self.stop_writers()
        sent, acknowledged = noted["sent"], noted["acknowledged"]
        assert acknowledged, "no trade was acknowledged: the campaign tried nothing"
        recorded, candles, recomputed = asyncio.run(self._read())
        assert len(recorded) == len(set(recorded)), "a trade stands there twice"
        lost = acknowledged - set(recorded)
        assert not lost, f"{len(lost)} acknowledged trades are lost, such as {sorted(lost)[:3]}"
        unknown = set(recorded) - sent
        assert not unknown, f"{len(unknown)} trades that nobody sent, such as {sorted(unknown)[:3]}"
        verify = novadex("analytics", "verify", "--json", data_dir=self.data_dir)
        assert verify.returncode == 0, f"analytics verify: {verify.stdout} {verify.stderr}"
        if candles is None:  # the projection had not caught up; after verify it has
            _, candles, recomputed = asyncio.run(self._read())
        assert candles == recomputed, "candles differ from their recompute"
        asyncio.run(self._check_orders(noted))
        self._reconcile()
        asyncio.run(self._check_notifications())
        return len(recorded)

    async def _check_orders(self, noted: dict[str, set[str]]) -> None:
        """What was noted of orders and fills is in the main database, and nothing else."""
        async with DatabaseConnection.connect(data_dir=self.data_dir, role="readonly") as db:
            for what, sent, acknowledged, statement in (
                ("orders", "sent-order", "acknowledged-order", "SELECT id::text FROM orders"),
                ("fills", "sent-fill", "acknowledged-fill", "SELECT id::text FROM matches"),
                ("busts", "acknowledged-fill", "busted", "SELECT id::text FROM matches WHERE undone = 'busted'"),
                (
                    "cancels",
                    "acknowledged-order",
                    "cancelled",
                    "SELECT order_id::text AS id FROM order_events WHERE type = 'cancelled'",
                ),
            ):
                rows = [row.id for row in await db.query(statement)]  # pyright: ignore[reportArgumentType]
                assert noted[acknowledged], f"no {what} were acknowledged: the campaign tried none"
                assert len(rows) == len(set(rows)), f"{what} are there twice"
                assert noted[acknowledged] <= set(rows), f"acknowledged {what} are lost"
                assert set(rows) <= noted[sent], f"{what} that nobody sent"

    async def _check_notifications(self) -> None:
        """Each fill and bust was told once; every delivery came, in one series, once an attempt in doubt is over."""
        async with DatabaseConnection.connect(data_dir=self.data_dir, role="owner") as db:
            listeners = {row.user_id for row in await db.query("SELECT user_id FROM notification_webhooks")}
            assert len(listeners) == LISTENERS
            deadline = time.monotonic() + HEALTHY_WITHIN_S
            while await db.main.value(NOT_TOLD_YET):
                assert time.monotonic() < deadline, f"not told within {HEALTHY_WITHIN_S} s"
                await asyncio.sleep(0.1)
            told = Counter(tuple(row.values()) for row in await db.query(TOLD))
            events = [tuple(row.values()) for row in await db.query(TO_BE_TOLD)]
            expected = Counter(e for e in events if e[1] != "order_partially_filled" or e[0] in listeners)
            assert told == expected, f"told otherwise than once: {(told - expected, expected - told)}"[:2000]
            deliveries = await db.query(DELIVERIES)
        heard = [notification for notification in told if notification[0] in listeners]
        assert len(deliveries) == len(heard) > 0, "the campaign tried no webhook"
        assert {(row.status, row.series) for row in deliveries} == {("delivered", 1)}
        attempts = {str(row.id): row.attempts for row in deliveries}
        assert set(attempts) == set(self.receiver.came)
        wrong = {id: (came, attempts[id]) for id, came in self.receiver.came.items() if not 0 < came <= attempts[id]}
        assert not wrong, f"received more often than attempts were counted: {wrong}"

    def _reconcile(self) -> None:
        """Every invariant holds, and all could be asked, once a projector that was killed is at work again."""
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while True:
            done = novadex("reconcile", "--json", data_dir=self.data_dir)
            assert done.returncode == 0, f"reconcile: {done.stdout[:5000]} {done.stderr}"
            report = json.loads(done.stdout)
            books = {check["name"]: check["checked"] for check in report["checks"]}["book"]
            if books and not report["skipped"]:
                return
            assert time.monotonic() < deadline, f"not everything can be asked: {report}"

    def end(self) -> None:
        """Stop everything and see that nothing is left."""
        for writer in self.writers:
            if writer.poll() is None:
                writer.kill()
                writer.wait()
        self.receiver.close()
        down = novadex("down", data_dir=self.data_dir)
        assert down.returncode == 0, down.stderr
        left = [process for process in psutil.process_iter(["cmdline"]) if self._is_ours(process)]
        assert not left, f"left behind: {left}"
        for journal in self.journals:
            journal.unlink(missing_ok=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        return str(self.data_dir) in " ".join(process.info["cmdline"] or ())  # pyright: ignore[reportAttributeAccessIssue]

    def _up(self) -> None:
        started = novadex("up", "--detach", data_dir=self.data_dir)
        assert started.returncode == 0, f"up failed: {started.stderr}"

    def _status(self) -> dict[str, Any]:
        status = novadex("status", "--json", data_dir=self.data_dir)
        assert status.returncode == 0, status.stderr
        return json.loads(status.stdout)

    def _pids(self) -> dict[str, int]:
        status = self._status()
        pids = {name: service["pid"] for name, service in status["services"].items()}
        supervisor = status["supervisor"]
        pids["supervisor"] = supervisor["pid"] if isinstance(supervisor, dict) else supervisor
        return pids

    def _wait_until_healthy(self, killed: dict[str, int | None]) -> None:
        """Until everything is healthy, and what was killed runs under another process id."""
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while True:
            status = self._status()
            services = status["services"]
            again = all(
                services[name]["pid"] not in (None, pid) for name, pid in killed.items() if name in services and pid
            )
            if again and all(service["status"] == "healthy" for service in services.values()):
                return
            assert time.monotonic() < deadline, f"not healthy within {HEALTHY_WITHIN_S} s after {killed}: {status}"

    async def _add_records(self) -> None:
        async with DatabaseConnection.connect(data_dir=self.data_dir, role="owner") as db:
            from novadex.trading.markets import Markets

            await Markets(db).add("BTC/USDT")
            await Markets(db).add(ORDERS_MARKET)
            await db.query(
                "INSERT INTO users (id) SELECT ('019b0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
                " FROM generate_series(1, 50) AS n"
            )
            listeners = [
                row.id
                for row in await db.query(
                    "SELECT id FROM users WHERE kind = 'person' ORDER BY id LIMIT $1", [LISTENERS]
                )
            ]
        settings = load_settings(webhook_allow_http=True, webhook_allow_private=True)
        async with DatabaseConnection.connect(data_dir=self.data_dir, settings=settings) as db:
            for user in listeners:
                await NotificationService(db).set_webhook(user, self.receiver.url)

    async def _read(self) -> tuple[list[str], dict[Any, Any] | None, dict[Any, Any]]:
        """The ids of all trades; the candles (None where some are not applied yet); the recompute."""
        async with DatabaseConnection.connect(data_dir=self.data_dir, role="readonly") as db:
            ids, recomputed = await _recompute(db.main)
            rows = await db.analytics_query("SELECT * FROM candles WHERE market = 'BTC/USDT'")
            candles = {
                row.start: (
                    row.open,
                    row.high,
                    row.low,
                    row.close,
                    row.base_volume,
                    row.quote_volume,
                    row.taker_buy_base_volume,
                    row.trades,
                )
                for row in rows
            }
        complete = sum(row.trades for row in rows) == len(ids)
        return ids, candles if complete else None, recomputed


async def _recompute(main: Database) -> tuple[list[str], dict[Any, Any]]:
    """Minute candles from the trades, in plain Python, knowing nothing of the projection."""
    ids: list[str] = []
    minutes: dict[Any, Any] = {}
    async for trade in main.stream(
        "SELECT id, executed_at, side, base_amount, quote_amount, price FROM trades WHERE order_id IS NULL"
        " ORDER BY executed_at, coalesce(sequence, 0), id"
    ):
        ids.append(str(trade.id))
        minute = trade.executed_at.replace(second=0, microsecond=0)
        bought = trade.base_amount if trade.side == "buy" else Decimal(0)
        if minute not in minutes:
            amounts = (trade.base_amount, trade.quote_amount, bought, 1)
            minutes[minute] = (trade.price, trade.price, trade.price, trade.price, *amounts)
        else:
            first, high, low, _, base, quote, taker_buy, count = minutes[minute]
            minutes[minute] = (
                first,
                max(high, trade.price),
                min(low, trade.price),
                trade.price,
                EXACT.add(base, trade.base_amount),
                EXACT.add(quote, trade.quote_amount),
                EXACT.add(taker_buy, bought),
                count + 1,
            )
    return ids, minutes


def run(kills: int, seed: int, report: Any = None, *, in_memory: bool = False) -> tuple[int, Counter[str]]:
    """A whole campaign on a new instance; returns how many trades it wrote, and the kills by target."""
    folder = server_folder("novadex-campaign-", in_memory=in_memory)
    campaign = Campaign(folder / "instance", seed)
    try:
        campaign.start()
        campaign.kill(kills, report)
        return campaign.check(), campaign.kills
    finally:
        try:
            campaign.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill NovaDex at random moments and see that nothing is lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()

    def report(kills: Counter[str]) -> None:
        done, spent = kills.total(), time.monotonic() - began
        left = spent / done * max(arguments.kills - done, 0)
        print(
            f"\r{done} of {arguments.kills} kills, {done / spent:.2f}/s, {left:.0f} s left ", end="", file=sys.stderr
        )

    trades, killed = run(arguments.kills, arguments.seed, report)
    spent = time.monotonic() - began
    print(
        f"\nseed {arguments.seed}: {trades} trades, 0 lost, 0 twice, candles equal their recompute,"
        f" every invariant holds; {spent:.0f} s"
    )
    print(", ".join(f"{name} {count}" for name, count in sorted(killed.items())))


if __name__ == "__main__":
    main()

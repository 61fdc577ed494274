"""``Simulator``: sends the commands of a plan through the public services, as fast as told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from novadex.errors import ConflictError, NotFoundError, NovaDexError, ValidationError
from novadex.ids import milliseconds_of
from novadex.portfolio.transfers import TransferService
from novadex.roles.actor import Actor
from novadex.simulator.flow import MarketFlow, is_maker, market_spec, user_ids
from novadex.simulator.ownership import QUERIES, RETRY_S, Ownership
from novadex.simulator.records import Command, Plan, SimulationProgress, SimulationReport
from novadex.trading.service import TradingService
from novadex.users.service import UserService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from novadex.storage.connection import DatabaseConnection

T = TypeVar("T")
ACTOR = Actor.program("simulator")
BASE_DECIMALS, QUOTE_DECIMALS = 8, 6
AHEAD = timedelta(minutes=5)
"""How far ahead of the clock a fill may be, as the services have it."""
PROGRESS_INTERVAL_S = 0.25
BEGINS = "a new simulation begins"
"""Why it cancels what others left in a market."""
FEES = ((0, "0.0002", "0.0005"), (1, "-0.0001", "0.0004"))
"""Tier, maker's and taker's rate; market makers are in tier 1."""
EVENTS_LOOKED_AT = 1_000

log = structlog.get_logger("novadex.simulator")


@dataclass(slots=True)
class Simulator:
    """One simulation of a plan on an instance.

    ``simulated_time``: the clock is the simulation's, which goes as fast as the machine can. A plan that was carried
    out before, whole or in part, is carried out again without adding anything twice.
    """

    db: DatabaseConnection
    plan: Plan
    simulated_time: bool = False
    _commands: Counter[str] = field(default_factory=Counter)
    _refused: Counter[str] = field(default_factory=Counter)
    _reached_ms: dict[int, int] = field(default_factory=dict)
    """How far each market is."""

    async def run(
        self, stop: asyncio.Event | None = None, progress: Callable[[SimulationProgress], None] | None = None
    ) -> SimulationReport:
        """Carry it out; ends early where ``stop`` is set. A server that is away is waited for, with the same ids.

        Raises ``MarketsTakenError`` where another simulation is at work in a market, and ``ConflictError`` where this
        one was begun before and cannot go on: another has begun since.
        """
        stop = stop or asyncio.Event()
        plan, began = self.plan, time.monotonic()
        self._check_time()
        async with TradingService(self.db, actor=ACTOR) as trading:
            run = _Run(self, trading, stop)
            async with Ownership(self.db, await run.prepare_markets()).held() as owned:
                await run.prepare_users()
                started = time.monotonic()
                telling = asyncio.create_task(self._tell(progress)) if progress else None
                try:
                    async with asyncio.TaskGroup() as group:
                        keeping = group.create_task(owned.keep())
                        await asyncio.wait(
                            [group.create_task(run.market(number, started, owned)) for number in plan.numbers]
                        )
                        keeping.cancel()
                except BaseExceptionGroup as errors:
                    known, others = errors.split(NovaDexError)
                    if known is None or others is not None:
                        raise
                    raise known.exceptions[0] from None
                finally:
                    if telling:
                        telling.cancel()
        if progress:
            progress(self._now())
        return SimulationReport(
            plan.start,
            plan.seed,
            dict(sorted(self._commands.items())),
            dict(sorted(self._refused.items())),
            round(self._simulated_s(), 3),
            round(time.monotonic() - began, 3),
        )

    def _check_time(self) -> None:
        plan, now = self.plan, datetime.now(UTC)
        if plan.start < now - timedelta(days=365):
            raise ValidationError(
                f"start is {plan.start.isoformat()}, more than a year ago: orders with an end would have ended.",
                field="start",
                hint="Let it start within the last year, or leave out the start.",
            )
        if self.simulated_time and not plan.duration_s:
            raise ValidationError(
                "Simulated time needs a duration.", field="duration", hint="Such as 60s, 5m or 1h: --duration 5m"
            )
        ahead_s = (plan.start - now - AHEAD).total_seconds() + (plan.duration_s if self.simulated_time else 0)
        if ahead_s > 0:
            raise ValidationError(
                f"The simulation of {plan.duration_s:,.0f} s from {plan.start.isoformat()} is ahead of the clock.",
                field="start",
                hint="Let it start so much earlier, or leave out the start: then it ends now."
                if self.simulated_time
                else "In real time it begins now: leave out the start.",
            )

    async def _tell(self, progress: Callable[[SimulationProgress], None]) -> None:
        while True:
            progress(self._now())
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    def _now(self) -> SimulationProgress:
        return SimulationProgress(self._commands.total(), self._simulated_s(), self._refused.total())

    def _simulated_s(self) -> float:
        if len(self._reached_ms) < self.plan.markets:
            return 0.0
        return max(0, min(self._reached_ms.values()) - milliseconds_of(self.plan.start)) / 1000

    def done(self, number: int, command: Command, error: NovaDexError | None) -> None:
        """Count a command."""
        self._commands[command.kind] += 1
        self._reached_ms[number] = command.at_ms
        if error is not None:
            self._refused[error.code] += 1

    def finished(self, number: int, at_ms: int) -> None:
        self._reached_ms[number] = at_ms


class _Run:
    """The services, and what they are asked to do. Within a market one command follows the other, so that each gets
    its place among the events; the markets go on beside each other, and share transactions."""

    def __init__(self, simulator: Simulator, trading: TradingService, stop: asyncio.Event) -> None:
        self._simulator = simulator
        self._plan = simulator.plan
        self._trading = trading
        self._users = UserService(simulator.db, actor=ACTOR)
        self._transfers = TransferService(simulator.db, actor=ACTOR)
        self._stop = stop

    # Before it begins

    async def prepare_markets(self) -> list[int]:
        """Markets where they are not there yet; returns their ids."""
        return [await self._market(number) for number in self._plan.numbers]

    async def prepare_users(self) -> None:
        """Users where they are not there yet."""
        for number, id in enumerate(user_ids(self._plan)):
            await self._user(number, id)

    async def _market(self, number: int) -> int:
        spec, markets = market_spec(number), self._trading.markets
        market = await markets.add(spec.symbol, base_decimals=BASE_DECIMALS, quote_decimals=QUOTE_DECIMALS)
        if market.tick_size is None and market.lot_size is None:
            await markets.set_sizes(spec.symbol, spec.tick_size, spec.lot_size)
        if not await markets.fees(spec.symbol):
            for tier, maker, taker in FEES:
                await markets.set_fees(spec.symbol, tier, maker, taker)
        return market.id

    async def _user(self, number: int, id: UUID) -> None:
        try:
            await self._users.get_user(id)
        except NotFoundError:
            await self._users.create_user(id=id, username=f"sim-{self._plan.seed}-{number}")
            if is_maker(number):
                await self._trading.markets.set_fee_tier(id, 1)

    # One market

    async def market(self, number: int, started: float, owned: Ownership) -> None:
        """The commands of a market, until the end of the plan or the stop: what belongs together is not parted, for
        an order that takes would be left in a crossed book without its fills."""
        plan = self._plan
        start_ms = milliseconds_of(plan.start)
        end_ms = start_ms + int(plan.duration_s * 1000) if plan.duration_s else None
        past = _Past(self._trading, self._simulator.db, market_spec(number).symbol)
        for command in MarketFlow(plan, number).commands():
            if not command.follows:
                if self._stop.is_set():
                    return
                if end_ms is not None and command.at_ms >= end_ms:
                    self._simulator.finished(number, end_ms)
                    return
            if not self._simulator.simulated_time:
                await self._until(started + (command.at_ms - start_ms) / 1000)
            if past.again and await self._patiently(owned, partial(past.holds, command)):
                self._simulator.done(number, command, None)
            else:
                error = await self._carry_out(owned, command)
                past.check(command, error)
                self._simulator.done(number, command, error)

    async def _until(self, moment: float) -> None:
        wait_s = moment - time.monotonic()
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._stop.wait()
            except TimeoutError:
                return

    async def _carry_out(self, owned: Ownership, command: Command) -> NovaDexError | None:
        """The error where it was refused."""
        try:
            await self._patiently(owned, partial(self._call, command))
        except NovaDexError as error:
            log.debug("refused", kind=command.kind, error=error.message)
            return error
        return None

    async def _patiently(self, owned: Ownership, work: Callable[[], Awaitable[T]]) -> T:
        """Do it once the servers answer, and the markets are owned; until the stop."""
        while True:
            try:
                owned.check()
                return await work()
            except NovaDexError as error:
                if not error.retryable or self._stop.is_set():
                    raise
                await asyncio.sleep(RETRY_S)

    async def _call(self, command: Command) -> Any:
        trading, fields = self._trading, command.fields
        match command.kind:
            case "place":
                await trading.place_order(**fields)
            case "amend":
                await trading.amend_order(**fields)
            case "cancel":
                await trading.cancel_order(**fields)
            case "reject":
                await trading.reject_order(**fields)
            case "trigger":
                await trading.trigger_order(**fields)
            case "expire":
                await trading.expire_order(**fields)
            case "fill":
                await trading.record_fill(**fields)
            case "bust":
                await trading.bust_trade(**fields)
            case "deposit" | "withdrawal":
                await self._transfers.record(**fields, kind=command.kind)


class _Past:
    """What was in a market before: this very simulation, which is carried out again up to where it was, or others."""

    def __init__(self, trading: TradingService, db: DatabaseConnection, symbol: str) -> None:
        self._trading = trading
        self._db = db
        self._symbol = symbol
        self._placed: list[UUID] = []
        """By this simulation, before."""
        self.again = True
        """Whether the commands are still those that were carried out before. The first one tells."""

    async def holds(self, command: Command) -> bool:
        """Whether it was done before, where the service could not tell: an amended order may have changed since. The
        first order that is not there is where this simulation goes on; what others left goes before it."""
        match command.kind:
            case "place":
                id: UUID = command.fields["id"]
                if await self._is_there(id):
                    self._placed.append(id)
                else:
                    await self._clear()
                    self.again = False
            case "amend" | "trigger":
                event = "amended" if command.kind == "amend" else "triggered"
                return await self._has_event(command.fields["id"], event)
        return False

    def check(self, command: Command, error: NovaDexError | None) -> None:
        """Raise where an order that is there is another one than this simulation's."""
        if self.again and command.kind == "place" and isinstance(error, ConflictError):
            raise ConflictError(
                f"A simulation of this seed and start, but of other sizes, was begun in {self._symbol}.",
                hint="Give it the same sizes and duration, or another seed or start.",
            )

    async def _is_there(self, order_id: UUID) -> bool:
        try:
            await self._trading.get_order(order_id)
        except NotFoundError:
            return False
        return True

    async def _has_event(self, order_id: UUID, type: str) -> bool:
        try:
            page = await self._trading.list_order_events(order_id, limit=EVENTS_LOOKED_AT)
        except NotFoundError:
            return False
        return any(event.type == type for event in page.items)

    async def _clear(self) -> None:
        """Cancel what others left: their venue is no more."""
        if not self._placed:
            await self._trading.cancel_all_orders(market=self._symbol, reason=BEGINS)
            return
        if await self._db.main.value(QUERIES.another_began, [self._placed[0], BEGINS], read_only=True):
            raise ConflictError(
                f"This simulation cannot go on: another one has begun in {self._symbol} since.",
                hint="Begin a new one, with another start or seed.",
            )
        own = frozenset(self._placed)
        cursor: str | None = None
        while True:
            page = await self._trading.list_orders(market=self._symbol, live=True, cursor=cursor)
            for order in page.items:
                if order.id not in own:
                    await self._trading.cancel_order(order.id, reason=BEGINS)
            if (cursor := page.next) is None:
                return

"""``Simulator``: sends the commands of a plan through the public services, as fast as told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from novadex.errors import NotFoundError, NovaDexError, ValidationError
from novadex.ids import milliseconds_of
from novadex.portfolio.transfers import TransferService
from novadex.roles.actor import Actor
from novadex.simulator.flow import MarketFlow, is_maker, market_spec, user_ids
from novadex.simulator.records import Command, Plan, SimulationProgress, SimulationReport
from novadex.trading.service import TradingService
from novadex.users.service import UserService

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from novadex.storage.connection import DatabaseConnection

ACTOR = Actor.program("simulator")
BASE_DECIMALS, QUOTE_DECIMALS = 8, 6
AHEAD = timedelta(minutes=5)
"""How far ahead of the clock a fill may be, as the services have it."""
PROGRESS_INTERVAL_S = 0.25
RETRY_S = 0.2
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
        """Carry it out; ends early where ``stop`` is set. A server that is away is waited for, with the same ids."""
        stop = stop or asyncio.Event()
        plan, began = self.plan, time.monotonic()
        self._check_time()
        async with TradingService(self.db, actor=ACTOR) as trading:
            run = _Run(self, trading, stop)
            await run.prepare()
            started = time.monotonic()
            telling = asyncio.create_task(self._tell(progress)) if progress else None
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(plan.markets):
                        group.create_task(run.market(number, started))
            except* NovaDexError as errors:
                raise errors.exceptions[0] from None
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
            )
        end = plan.start + timedelta(seconds=plan.duration_s)
        if (end if self.simulated_time else plan.start) > now + AHEAD:
            raise ValidationError(
                f"The simulation from {plan.start.isoformat()} to {end.isoformat()} is ahead of the clock.",
                field="start",
                hint="In simulated time let it start so much earlier, or leave out the start.",
            )
        if self.simulated_time and not plan.duration_s:
            raise ValidationError("Simulated time needs a duration.", field="duration")

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

    async def prepare(self) -> None:
        """Markets and users, where they are not there yet."""
        for number in range(self._plan.markets):
            await self._market(number)
        for number, id in enumerate(user_ids(self._plan)):
            await self._user(number, id)

    async def _market(self, number: int) -> None:
        spec, markets = market_spec(number), self._trading.markets
        market = await markets.add(spec.symbol, base_decimals=BASE_DECIMALS, quote_decimals=QUOTE_DECIMALS)
        if market.tick_size is None and market.lot_size is None:
            await markets.set_sizes(spec.symbol, spec.tick_size, spec.lot_size)
        if not await markets.fees(spec.symbol):
            for tier, maker, taker in FEES:
                await markets.set_fees(spec.symbol, tier, maker, taker)

    async def _user(self, number: int, id: UUID) -> None:
        try:
            await self._users.get_user(id)
        except NotFoundError:
            await self._users.create_user(id=id, username=f"sim-{self._plan.seed}-{number}")
            if is_maker(number):
                await self._trading.markets.set_fee_tier(id, 1)

    # One market

    async def market(self, number: int, started: float) -> None:
        """The commands of a market, until the end of the plan or the stop."""
        plan = self._plan
        start_ms = milliseconds_of(plan.start)
        end_ms = start_ms + int(plan.duration_s * 1000) if plan.duration_s else None
        again: bool | None = None
        for command in MarketFlow(plan, number).commands():
            if self._stop.is_set():
                return
            if end_ms is not None and command.at_ms >= end_ms:
                self._simulator.finished(number, end_ms)
                return
            if not self._simulator.simulated_time:
                await self._until(started + (command.at_ms - start_ms) / 1000)
            if again is None:
                again = await self._begun_before(number, command)
            if not (again and await self._happened(command)):
                self._simulator.done(number, command, await self._carry_out(command))

    async def _until(self, moment: float) -> None:
        wait_s = moment - time.monotonic()
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._stop.wait()
            except TimeoutError:
                return

    async def _begun_before(self, number: int, first: Command) -> bool:
        """Whether this very simulation was begun before. Of another one the orders go: its venue is no more."""
        try:
            await self._trading.get_order(first.fields["id"])
        except NotFoundError:
            reason = "a new simulation begins"
            await self._trading.cancel_all_orders(market=market_spec(number).symbol, reason=reason)
            return False
        return True

    async def _happened(self, command: Command) -> bool:
        """Whether it was done before, where the service could not tell: an amended order may have changed since."""
        if command.kind != "amend":
            return False
        try:
            page = await self._trading.list_order_events(command.fields["id"], limit=EVENTS_LOOKED_AT)
        except NotFoundError:
            return False
        return any(event.type == "amended" for event in page.items)

    async def _carry_out(self, command: Command) -> NovaDexError | None:
        """The error where it was refused."""
        while True:
            try:
                await self._call(command)
            except NovaDexError as error:
                if not error.retryable:
                    log.debug("refused", kind=command.kind, error=error.message)
                    return error
                if self._stop.is_set():
                    return error
                await asyncio.sleep(RETRY_S)
            else:
                return None

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

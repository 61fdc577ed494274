"""``import_pool``: what a Uniswap v3 pool did minute by minute, from a file of raw integer amounts.

The columns are those of demeter's minute files: ``timestamp`` (UTC), ``netAmount0`` and ``netAmount1`` (smallest
units that went into the pool less what came out), ``closeTick``, ``openTick``, ``lowestTick``, ``highestTick``,
``inAmount0`` and ``inAmount1`` (what swaps paid in, fees included) and ``currentLiquidity`` (in range at the end).
"""

from __future__ import annotations

import asyncio
import csv
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novadex.errors import ConflictError, UsageError, ValidationError
from novadex.liquidity.pools import MILLION
from novadex.liquidity.records import Pool, PoolImportReport
from novadex.liquidity.service import LiquidityService
from novadex.liquidity.uniswap_v3 import MAX_TICK, MIN_TICK
from novadex.roles.actor import Actor, act_as
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_name("queries.sql"))
ACTOR = Actor.program("import")
SOURCE = "uniswap-v3"
BATCH_MINUTES = 1_000
LINE_CHARACTERS_MAX = 10_000
TICKS = ("openTick", "closeTick", "lowestTick", "highestTick")
AMOUNTS = ("netAmount0", "netAmount1", "inAmount0", "inAmount1")
COLUMNS = ("timestamp", *AMOUNTS, *TICKS, "currentLiquidity")
_WHOLE = re.compile(r"-?\d{1,78}(\.0+)?")

Minute = tuple[Any, ...]


async def import_pool(db: DatabaseConnection, file: str, pool: str) -> PoolImportReport:
    """Load the minutes of a file into a pool, each exactly once: a second import adds none, one that was stopped
    continues.

    Raises ``ValidationError`` (a line, and what is wrong with it; the batches before it are in), ``ConflictError``
    where a minute is there with other values, ``NotFoundError`` (pool), ``UsageError`` (file).
    """
    started = time.perf_counter()
    where = await LiquidityService(db, actor=ACTOR).pools.get(pool)
    if where.kind != "concentrated":
        raise UsageError(
            f"The pool {pool} is a constant product: such a file is of a concentrated one.",
            hint="Record how it stands: novadex liquidity snapshot ADDRESS",
        )
    read = added = 0
    first: datetime | None = None
    last: datetime | None = None
    try:
        stream = await asyncio.to_thread(Path(file).open, newline="", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.", hint="Look at the name of the file.") from None
    with stream:
        minutes = _minutes(stream)
        while batch := await asyncio.to_thread(list, islice(minutes, BATCH_MINUTES)):
            added += await _write(db, where, batch)
            read += len(batch)
            moments = [minute[0] for minute in batch]
            first = min([*moments, *([first] if first else [])])
            last = max([*moments, *([last] if last else [])])
    (totals,) = await db.main.query(SQL.totals, [where.id, first, last], read_only=True)
    amounts = {name: int(totals[name]) for name in ("net_amount0", "net_amount1", "in_amount0", "in_amount1")}
    return PoolImportReport(
        file=file,
        pool=where.address,
        market=where.market,
        read=read,
        added=added,
        duplicates=read - added,
        first=first,
        last=last,
        active_minutes=totals.active_minutes,
        **amounts,
        fees0=amounts["in_amount0"] * where.fee_ppm // MILLION,
        fees1=amounts["in_amount1"] * where.fee_ppm // MILLION,
        open_tick=totals.open_tick,
        close_tick=totals.close_tick,
        lowest_tick=totals.lowest_tick,
        highest_tick=totals.highest_tick,
        liquidity=None if totals.liquidity is None else int(totals.liquidity),
        seconds=round(time.perf_counter() - started, 3),
    )


async def _write(db: DatabaseConnection, pool: Pool, batch: list[Minute]) -> int:
    rows = [
        (moment, liquidity, opened, closed, lowest, highest, None, None, net0, net1, in0, in1, SOURCE)
        for moment, net0, net1, in0, in1, opened, closed, lowest, highest, liquidity in batch
    ]
    parameters = [pool.id, *([list(column) for column in zip(*rows, strict=True)])]
    async with db.transaction() as session:
        await act_as(session, ACTOR)
        added = await session.execute(SQL.add_snapshots, parameters)
        # Afterwards, so that a minute that stands twice in the file is noticed too.
        other = await session.value(SQL.other_snapshots, parameters)
        if other is not None:
            raise ConflictError(
                f"The minute {other.isoformat()} of {pool.address} is there with other values.",
                hint="Snapshots are never changed: is it the file of this pool?",
            )
        return added


def _minutes(stream: Any) -> Iterator[Minute]:
    """The minutes of a file, checked line by line."""
    reader = csv.DictReader(stream)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValidationError(
            f"The file has no column {', '.join(missing)}.",
            field="file",
            hint=f"Its first line names: {', '.join(COLUMNS)}.",
        )
    try:
        for row in reader:
            line = reader.line_num
            amounts = [_whole(row, name, line) for name in AMOUNTS]
            ticks = [_whole(row, name, line) for name in TICKS]
            liquidity = _whole(row, "currentLiquidity", line)
            moment = _moment(row["timestamp"], line)
            if not all(MIN_TICK <= tick <= MAX_TICK for tick in ticks):
                raise _wrong(line, f"a tick is outside {MIN_TICK} to {MAX_TICK}", "ticks")
            if ticks[2] > min(ticks[:2]) or ticks[3] < max(ticks[:2]):
                raise _wrong(line, "the lowest and the highest tick do not contain the others", "ticks")
            if not all(-(1 << 255) <= amount < 1 << 255 for amount in amounts[:2]):
                raise _wrong(line, "a net amount is not of 256 bits", "netAmount")
            if not all(0 <= amount < 1 << 256 for amount in (*amounts[2:], liquidity)):
                raise _wrong(line, "an amount is below 0 or not below 2^256", "inAmount")
            yield (moment, *amounts, *ticks, liquidity)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _wrong(reader.line_num, f"it is no CSV: {error}", "file") from None


def _whole(row: dict[str, Any], name: str, line: int) -> int:
    """A whole number; ticks are written like 196858.0."""
    text = row[name]
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise _wrong(line, f"{name} is not a whole number: {str(text)[:80]!r}", name)
    return int(text.partition(".")[0])


def _moment(text: Any, line: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise _wrong(line, f"timestamp is not a time: {str(text)[:80]!r}", "timestamp") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _wrong(line: int, what: str, field: str) -> ValidationError:
    return ValidationError(f"Line {line}: {what}.", field=field, hint="Mend the line, and run the import again.")

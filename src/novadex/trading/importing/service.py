"""``import_trades``: from a file to committed trades."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from uuid_utils.compat import uuid7

from novadex.errors import ConflictError, NotFoundError, NovaDexError, UsageError, ValidationError
from novadex.roles.actor import Actor, act_as
from novadex.storage.failures import translate
from novadex.trading.importing.binance import FIELDS as BINANCE_FIELDS
from novadex.trading.importing.binance import BinanceLines
from novadex.trading.importing.ccxt import FIELDS as CCXT_FIELDS
from novadex.trading.importing.ccxt import CcxtTrades
from novadex.trading.importing.chunks import ChunkSize, read_chunks
from novadex.trading.importing.detection import Layout, layout_of
from novadex.trading.importing.json_elements import elements
from novadex.trading.importing.loading import ChunkLoader
from novadex.trading.importing.market_trades import MarketTrades
from novadex.trading.importing.novadex_csv import NovaDexLines
from novadex.trading.importing.reading_thread import in_thread
from novadex.trading.importing.records import (
    FORMATS,
    MARKET_SOURCES,
    ON_ERROR,
    FormatName,
    ImportFailedError,
    ImportReport,
    OnError,
    Progress,
)
from novadex.trading.importing.rejects import RejectsFile
from novadex.trading.importing.source_file import SourceFile, open_source
from novadex.trading.importing.text_lines import blocks
from novadex.trading.markets import QUERIES, Markets, split_market
from novadex.trading.prepare import check_source

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.importing.chunks import Chunk
    from novadex.trading.importing.records import BadLine
    from novadex.trading.records import Market

ACTOR = Actor.program("import")
CONTINUE = "Run the same command again: it continues, nothing is loaded twice."


async def import_trades(
    db: DatabaseConnection,
    file: str,
    market: str,
    *,
    format: FormatName = "auto",  # noqa: A002 - the word of the command line
    create_market: bool = False,
    on_error: OnError = "stop",
    source: str | None = None,
    on_opened: Callable[[str], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Load the trades of a file (``-``: standard input) into a market, each exactly once.

    A second import of the same trades adds none; one that was stopped or killed continues. ``on_error``: with
    ``stop`` the first bad line ends the import, everything before it is in and nothing after it; with ``skip`` bad
    lines go to a rejects file. ``source`` names whose trades they are, for the formats that do not say it.
    ``on_opened`` gets a sentence about what the file is, ``on_progress`` is called after every commit.

    Raises ``ImportFailedError`` (the file, or a line of it), ``UnavailableError`` (the database went away for
    longer than retries bridge), ``UsageError`` and its kinds (no such file, market or format).
    """
    split_market(market)
    if format not in FORMATS or on_error not in ON_ERROR:
        wrong, known = ("format", FORMATS) if format not in FORMATS else ("on_error", ON_ERROR)
        raise ValidationError(f"{wrong} must be one of {', '.join(known)}.", field=wrong)
    if source is not None:
        check_source(source)
    opened = await in_thread(lambda: open_source(file))
    try:
        layout = layout_of(opened.name, opened.head, format)
        if on_opened is not None:
            on_opened(_describe(opened, layout))
        run = _Run(db, opened, layout, rejects=RejectsFile(file), stop=on_error == "stop", on_progress=on_progress)
    except BaseException:
        opened.close()
        raise
    try:
        return await run.to_the_end(market, source, create_market=create_market)
    except psycopg.Error as error:
        raise translate(error, "main") or ImportFailedError(
            f"The database refused the import: {error.diag.message_primary or error}."
        ) from error
    finally:
        run.close()


class _Run:
    """One import and its counts."""

    def __init__(
        self,
        db: DatabaseConnection,
        opened: SourceFile,
        layout: Layout,
        *,
        rejects: RejectsFile,
        stop: bool,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._db = db
        self._opened = opened
        self._layout = layout
        self._stop = stop
        self._on_progress = on_progress
        self._rejects = rejects
        self._coming: Future[Chunk | None] | None = None
        self._size = ChunkSize()
        self._added = self._duplicates = self._rejected = 0

    async def to_the_end(self, market: str, source: str | None, *, create_market: bool) -> ImportReport:
        own_trades = self._layout.format == "novadex"
        if own_trades and source is not None:
            raise UsageError("NovaDex's own format names the source on each line.", hint="Leave out the source.")
        source = source or MARKET_SOURCES.get(self._layout.format)
        markets = Markets(self._db, actor=ACTOR)
        chunks = await self._chunks(await _market(markets, market, create=create_market), markets, source)
        loader = ChunkLoader(self._db.main, own_trades=own_trades, stop=self._stop)
        started = time.perf_counter()
        try:
            await self._load(chunks, loader)
        finally:
            await loader.close()
            self._rejects.close()
        return ImportReport(
            file=self._opened.name,
            market=market,
            format=self._layout.format,
            source=source,
            read=self._added + self._duplicates + self._rejected,
            added=self._added,
            duplicates=self._duplicates,
            rejected=self._rejected,
            seconds=round(time.perf_counter() - started, 3),
            rejects_file=self._rejects.path,
        )

    def close(self) -> None:
        """Close the file, once the thread that reads it has come back."""
        if self._coming is None or self._coming.done():
            self._opened.close()
        else:
            self._coming.add_done_callback(lambda _: self._opened.close())

    async def _chunks(self, market: Market, markets: Markets, source: str | None) -> Iterator[Chunk]:
        """The chunks of the file; reading them blocks."""
        opened, layout = self._opened, self._layout
        gather = partial(read_chunks, size=self._size, position=opened.position)
        if source is None:
            assets = {asset.symbol: asset for asset in await markets.list_assets()}
            own = NovaDexLines(opened.name, list(layout.header), market, assets)
            return gather(blocks(opened.pieces()), own.parse)
        account = await _system_account(self._db, source)
        if layout.format == "binance":
            dump = BinanceLines(
                MarketTrades(market, source, account, BINANCE_FIELDS), header=layout.shape == "header"
            )
            return gather(blocks(opened.pieces()), dump.parse)
        trades = CcxtTrades(MarketTrades(market, source, account, CCXT_FIELDS))
        if layout.shape == "array":
            return gather(elements(opened.name, opened.pieces()), trades.parse_elements)
        return gather(blocks(opened.pieces()), trades.parse_lines)

    async def _load(self, chunks: Iterator[Chunk], loader: ChunkLoader) -> None:
        read = partial(next, chunks, None)
        self._coming = in_thread(read)
        while (chunk := await self._coming) is not None:
            first_bad = chunk.rejects[0] if chunk.rejects and self._stop else None
            if first_bad is None and chunk.failure is None:
                self._coming = in_thread(read)  # the next one, while this one is written
            if first_bad is not None:
                chunk = chunk.before(first_bad.place)
            await self._write(chunk, loader)
            if first_bad is not None:
                raise self._stopped_at(first_bad)
            if chunk.failure is not None:
                raise self._with_counts(chunk.failure, chunk.failure.hint)

    async def _write(self, chunk: Chunk, loader: ChunkLoader) -> None:
        started = time.perf_counter()
        try:
            written = await loader.write(chunk)
        except NovaDexError as error:
            raise self._with_counts(error, CONTINUE) from error
        self._size.learn(len(chunk.lines), time.perf_counter() - started)
        self._added += written.added
        self._duplicates += written.duplicates
        if written.rejects and self._stop:
            raise self._stopped_at(written.rejects[0])
        bad = sorted([*chunk.rejects, *written.rejects], key=lambda line: (line.line, line.element or 0))
        try:
            if bad:
                await in_thread(partial(self._rejects.write, bad))
        except NovaDexError as error:
            raise self._with_counts(error, error.hint) from error
        self._rejected += len(bad)
        if self._on_progress is not None:
            counts = self._counts()
            self._on_progress(Progress(chunk.position, self._opened.bytes_total, **counts))

    def _counts(self) -> dict[str, int]:
        return {
            "read": self._added + self._duplicates + self._rejected,
            "added": self._added,
            "duplicates": self._duplicates,
            "rejected": self._rejected,
        }

    def _with_counts(self, error: NovaDexError, hint: str | None) -> NovaDexError:
        """The same error, which says how far the import came."""
        details = {**error.details, **self._counts()}
        return type(error)(f"{error.message} {self._so_far()}", hint=hint, **details)

    def _so_far(self) -> str:
        known = f", {self._duplicates:,} were there before" if self._duplicates else ""
        return f"Of the trades before, {self._added:,} were added{known}; they stay."

    def _stopped_at(self, bad: BadLine) -> ImportFailedError:
        value = f" {bad.value[:80]!r}" if bad.value else ""
        return ImportFailedError(
            f"{self._opened.name}, {bad.where()}, {bad.field}{value}: {bad.reason} {self._so_far()}",
            hint="Correct the line and run the same command again: it continues, nothing is loaded twice."
            " Or add --on-error skip.",
            file=self._opened.name,
            line=bad.line,
            **({} if bad.element is None else {"element": bad.element}),
            field=bad.field,
            value=bad.value,
            **self._counts(),
        )


def _describe(opened: SourceFile, layout: Layout) -> str:
    shape = {
        "header": "with a header",
        "no header": "without a header",
        "array": "a JSON array",
        "lines": "JSON lines",
    }
    packed = f", packed with {opened.compression}" if opened.compression else ""
    return f"{opened.name}: {layout.format}, {shape[layout.shape]}{packed}"


async def _market(markets: Markets, symbol: str, *, create: bool) -> Market:
    if create:
        return await markets.add(symbol)
    try:
        return await markets.get(symbol)
    except NotFoundError as error:
        raise NotFoundError(
            error.message,
            hint=f"Add --create-market, or first: novadex markets add {symbol}",
            **error.details,
        ) from None


async def _system_account(db: DatabaseConnection, source: str) -> UUID:
    """Whose trades the source's are; made at its first import."""
    name = f"source:{source}"
    account = await db.main.value(QUERIES.system_account, [name], read_only=True)
    if account is None:
        async with db.transaction() as session:
            await act_as(session, ACTOR)
            await session.execute(QUERIES.ensure_system_account, [uuid7(), name])
        account = await db.main.value(QUERIES.system_account, [name], read_only=True)
    if account is None:
        raise ConflictError(
            f"The user name {name} belongs to a user that is no system account.",
            hint="Rename that user, or name another source.",
        )
    return account

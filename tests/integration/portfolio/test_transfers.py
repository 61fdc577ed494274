"""Transfers are recorded once, undone by rows, and seen by whom they concern."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors

from novadex.errors import ConflictError, NotFoundError, NovaDexError, PermissionDeniedError, ValidationError
from novadex.ids import id_at
from novadex.portfolio.service import PortfolioService
from novadex.portfolio.transfers import TransferService
from novadex.roles.actor import Actor
from tests.integration.analytics.records import NOON, drain

UNDOING = """INSERT INTO transfers (id, user_id, kind, asset_id, amount, executed_at, reverses)
    SELECT overlay(id::text PLACING '0' FROM 36)::uuid, user_id, kind, {} FROM transfers"""
DEPOSIT = {"kind": "deposit", "asset": "USDT", "amount": "12.5"}


@pytest.fixture
def transfers(db: Any) -> TransferService:
    return TransferService(db)


async def test_a_retry_finds_the_first_transfer(transfers, market, user):
    by_source = {**DEPOSIT, "user_id": user, "source": "evm", "source_transfer_id": "0xabc:7"}
    first = await transfers.record(by_source, executed_at=NOON)
    assert await transfers.record(by_source) == first
    assert await transfers.record(by_source, executed_at=NOON) == first
    by_id = {**DEPOSIT, "user_id": user, "id": id_at(NOON)}
    second = await transfers.record(by_id)
    assert await transfers.record(by_id) == second
    assert second.executed_at == NOON
    for changes in ({"amount": 13}, {"asset": "BTC"}, {"kind": "withdrawal"}, {"executed_at": NOON + timedelta(1)}):
        with pytest.raises(ConflictError, match="already"):
            await transfers.record({**by_source, **changes})
    assert [t.id for t in (await transfers.list(user)).items] == sorted([first.id, second.id], reverse=True)


async def test_many_are_recorded_each_with_its_own_outcome(transfers, market, user):
    good = [{**DEPOSIT, "user_id": user, "source": "evm", "source_transfer_id": str(n)} for n in range(1100)]
    bad: Any = [{**DEPOSIT, "user_id": id_at(NOON)}, {**DEPOSIT, "user_id": user, "amount": "-1"}, good[0]]
    outcomes = await transfers.record_many([*good, *bad])
    assert [type(outcome).__name__ for outcome in outcomes[1100:]] == ["NotFoundError", "ValidationError", "Transfer"]
    assert outcomes[1102] == outcomes[0]
    assert not any(isinstance(outcome, NovaDexError) for outcome in outcomes[:1100])
    assert await transfers.record_many([]) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "gift"}, "kind"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": 0.1}, "amount"),
        ({"amount": "0.0000000000000000001"}, "amount"),
        ({"asset": 7}, "asset"),
        ({"market": "BTC/USDT"}, "market"),
        ({"kind": "funding"}, "market"),
        ({"source": "evm"}, "source_transfer_id"),
        ({"source": "EVM", "source_transfer_id": "1"}, "source"),
        ({"sequence": "1"}, "sequence"),
        ({"note": ""}, "note"),
        ({"user_id": "nobody"}, "user_id"),
        ({"executed_at": "2024-08-08"}, "executed_at"),
        ({"id": id_at(NOON), "executed_at": NOON + timedelta(seconds=1)}, "id"),
    ],
)
async def test_what_is_wrong_is_named(transfers, market, user, changes, field):
    with pytest.raises(ValidationError) as caught:
        await transfers.record({"user_id": user, **DEPOSIT, **changes})
    assert caught.value.field == field


async def test_a_transfer_is_undone_once_and_its_row_not_at_all(transfers, market, user):
    paid = await transfers.record(
        user_id=user, kind="funding", asset="USDT", market="BTC/USDT", amount="-3", executed_at=NOON, sequence=4
    )
    undone = await transfers.reverse(paid.id, note="twice")
    assert (undone.amount, undone.executed_at, undone.reverses, undone.note) == (3, NOON, paid.id, "twice")
    assert await transfers.reverse(paid.id) == undone
    with pytest.raises(ConflictError, match="cannot be undone"):
        await transfers.reverse(undone.id)
    with pytest.raises(NotFoundError):
        await transfers.reverse(id_at(NOON))
    assert await transfers.get(paid.id) == paid


async def test_the_largest_amounts_are_exact(transfers, make_market, user):
    make_market("A/B", 0, 18)
    most = await transfers.record(user_id=user, kind="deposit", asset="A", amount=2**256 - 1)
    assert most.amount == 2**256 - 1
    assert (await transfers.reverse(most.id)).amount == -(2**256 - 1)
    text = "115792089237316195423570985008687907853269984665640564039457584007913129639935.999999999999999999"
    assert (await transfers.record(user_id=user, kind="deposit", asset="B", amount=text)).amount == Decimal(text)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfers SET amount = 7",
        "DELETE FROM transfers",
        "TRUNCATE transfers",
        UNDOING.format("asset_id, -amount - 1, executed_at, id"),
        UNDOING.format("1, -amount, executed_at, id"),
        UNDOING.format("asset_id, -amount, executed_at, NULL"),
    ],
)
async def test_plain_sql_changes_no_transfer_and_undoes_none_wrongly(transfers, market, user, main_url, statement):
    await transfers.record({"user_id": user, **DEPOSIT}, executed_at=NOON, id=str(id_at(NOON))[:35] + "1")
    with psycopg.connect(main_url("owner")) as connection, pytest.raises(errors.IntegrityError):
        connection.execute(statement.encode())


async def test_everyone_sees_their_own(transfers, db, market, users, projection):
    mine, other = users(2)
    for user in (mine, other):
        await transfers.record({"user_id": user, **DEPOSIT}, executed_at=NOON)
    await drain(projection)
    me = Actor(f"user:{mine}", mine, "user", frozenset({"portfolio.read_own"}))
    own, portfolios = transfers.acting_as(me), PortfolioService(db).acting_as(me)
    (seen,) = (await own.list()).items
    assert seen.user_id == mine
    assert await own.get(seen.id) == seen
    (theirs,) = (await transfers.list(other)).items
    with pytest.raises(NotFoundError):
        await own.get(theirs.id)
    for call in (
        own.list(other),
        own.record({"user_id": mine, **DEPOSIT}),
        own.reverse(seen.id),
        portfolios.holdings(other),
        portfolios.pnl(other),
        portfolios.snapshots(other),
        portfolios.lots(other, market="BTC/USDT"),
        portfolios.record_price("BTC/USDT", 1),
    ):
        with pytest.raises(PermissionDeniedError):
            await call
    assert await portfolios.positions() == []
    staff = PortfolioService(db).acting_as(Actor("user:staff", None, "auditor", frozenset({"portfolio.read_any"})))
    with pytest.raises(ValidationError, match="user_id"):
        await staff.holdings()
    await staff.holdings(other)
    looks = await db.main.query("SELECT subject FROM audit_log WHERE action = 'portfolio.holdings_read'")
    assert [row.subject for row in looks] == [f"user:{other}"]


async def test_transfers_page_by_key_and_kind(transfers, market, user):
    for n in range(5):
        await transfers.record({"user_id": user, **DEPOSIT}, executed_at=NOON + timedelta(seconds=n))
    await transfers.record(user_id=user, kind="withdrawal", asset="USDT", amount=1, executed_at=NOON)
    first = await transfers.list(user, kind="deposit", limit=3)
    rest = await transfers.list(user, kind="deposit", limit=3, cursor=first.next)
    moments = [t.executed_at for t in first.items + rest.items]
    assert moments == [NOON + timedelta(seconds=n) for n in range(4, -1, -1)]
    assert rest.next is None
    between = await transfers.list(user, start=NOON + timedelta(seconds=1), end=NOON + timedelta(seconds=3))
    assert len(between.items) == 2

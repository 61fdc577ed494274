"""Liquidity positions change by their events only, each once, and the current row is what all events make of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from novadex.errors import ConflictError, NotFoundError, PermissionDeniedError, UnavailableError, ValidationError
from novadex.ids import id_at
from novadex.liquidity.service import LiquidityService
from novadex.liquidity.uniswap_v3 import Q128, amounts_of_liquidity, fees_owed, sqrt_ratio_at_tick
from novadex.roles.actor import Actor
from tests.integration.analytics.records import NOON, wide_decimals

MOST = 2**256 - 1
EVENT = """INSERT INTO liquidity_events (id, position_id, version, user_id, market_id, type, liquidity, base_amount,
    quote_amount, executed_at) SELECT overlay(id::text PLACING '0' FROM 36)::uuid, id, {}, opened_at
    FROM liquidity_positions"""
OPENED = {
    "tick_lower": 196000,
    "tick_upper": 198000,
    "liquidity": 10**18,
    "base_amount": "1.5",
    "quote_amount": "4000",
}


async def open_(liquidity: LiquidityService, user: UUID, pool: Any, /, **changes: Any) -> Any:
    return await liquidity.open(user, pool=pool.address, **{"executed_at": NOON, **OPENED, **changes})


async def test_a_position_follows_its_events_to_its_end(liquidity, pool, user, main_url):
    position = await open_(liquidity, user, pool, source="polygon", source_position_id="token:77")
    await liquidity.increase(
        position.id, liquidity=5, base_amount="0.1", quote_amount="2", executed_at=NOON + timedelta(hours=1)
    )
    await liquidity.decrease(position.id, liquidity=10**17, base_amount="0.2", quote_amount="400", quote_fees="1.5")
    await liquidity.collect(position.id, base_fees="0.01", quote_fees="0.5")
    closed = await liquidity.close_position(position.id, base_amount="1.4", quote_amount="3600.1", base_fees="0.001")
    assert (closed.status, closed.liquidity, closed.version) == ("closed", 0, 5)
    assert (closed.base_amount, closed.quote_amount) == (Decimal("1.6"), Decimal(4002))
    assert (closed.base_withdrawn, closed.quote_withdrawn) == (Decimal("1.6"), Decimal("4000.1"))
    assert (closed.base_fees, closed.quote_fees) == (Decimal("0.011"), Decimal(2))
    events = (await liquidity.events(position.id)).items
    assert [(e.version, e.type, e.liquidity) for e in events] == [
        (1, "opened", 10**18),
        (2, "increased", 10**18 + 5),
        (3, "decreased", 9 * 10**17 + 5),
        (4, "collected", 9 * 10**17 + 5),
        (5, "closed", 0),
    ]
    assert events[0].id == position.id
    with pytest.raises(ValidationError, match="closed already"):
        await liquidity.collect(position.id, base_fees=1)
    with pytest.raises(ValidationError, match="closed already"):
        await liquidity.close_position(position.id, base_amount=0, quote_amount=0)
    # The row is what its events make of it.
    with psycopg.connect(main_url("owner")) as connection:
        same = connection.execute("""
            SELECT l.liquidity = (array_agg(e.liquidity ORDER BY e.version DESC))[1] AND l.version = max(e.version)
                AND l.base_amount = sum(e.base_amount) FILTER (WHERE e.type IN ('opened', 'increased'))
                AND l.quote_withdrawn = sum(e.quote_amount) FILTER (WHERE e.type IN ('decreased', 'closed'))
                AND l.base_fees = sum(e.base_fees) AND l.quote_fees = sum(e.quote_fees)
                AND l.closed_at = max(e.executed_at) FILTER (WHERE e.type = 'closed')
            FROM liquidity_positions l JOIN liquidity_events e ON e.position_id = l.id GROUP BY l.id
        """).fetchall()
    assert same == [(True,)]


async def test_every_event_is_recorded_once(liquidity, pool, user):
    position = await open_(liquidity, user, pool, source="polygon", source_position_id="1")
    assert await open_(liquidity, user, pool, source="polygon", source_position_id="1") == position
    with pytest.raises(ConflictError):
        await open_(liquidity, user, pool, source="polygon", source_position_id="1", liquidity=7)
    event = {"liquidity": 5, "base_amount": 1, "quote_amount": 2, "source": "polygon", "source_event_id": "0xa:1"}
    first = await liquidity.increase(position.id, **event, executed_at=NOON + timedelta(hours=1))
    assert await liquidity.increase(position.id, **event) == first
    for changes in ({"liquidity": 6}, {"base_amount": 3}, {"executed_at": NOON + timedelta(hours=2)}):
        with pytest.raises(ConflictError):
            await liquidity.increase(position.id, **{**event, **changes})
    own = id_at(NOON + timedelta(hours=3))
    closing = {"base_amount": 1, "quote_amount": 1, "id": own}
    closed = await liquidity.close_position(position.id, **closing)
    assert await liquidity.close_position(position.id, **closing) == closed
    assert closed.version == 3


async def test_many_at_once_each_get_their_version(liquidity, pool, user):
    position = await open_(liquidity, user, pool)
    await asyncio.gather(
        *(liquidity.increase(position.id, liquidity=n, base_amount=0, quote_amount=1) for n in range(1, 13))
    )
    now = await liquidity.get(position.id)
    assert (now.liquidity, now.version, now.quote_amount) == (10**18 + 78, 13, 4012)


async def test_amounts_up_to_256_bits_are_exact(liquidity, pool, user, make_market):
    make_market("A/B", 0, 0)
    await liquidity.pools.add("pair", market="A/B", kind="constant_product", fee="0.003")
    position = await liquidity.open(user, pool="pair", liquidity=MOST, base_amount=MOST, quote_amount=MOST)
    assert (position.liquidity, position.base_amount, position.quote_amount) == (MOST, MOST, MOST)
    position = await liquidity.decrease(position.id, liquidity=MOST - 1, base_amount=MOST - 1, quote_amount=0)
    assert (position.liquidity, position.base_withdrawn) == (1, MOST - 1)
    with pytest.raises(ValidationError, match="2\\^256"):
        await liquidity.increase(position.id, liquidity=MOST + 1, base_amount=0, quote_amount=0)
    with pytest.raises(ValidationError, match="cannot have less liquidity than 0 or more than"):
        await liquidity.increase(position.id, liquidity=MOST, base_amount=0, quote_amount=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tick_lower": 196001}, "tick_lower"),
        ({"tick_upper": 196000}, "tick_lower"),
        ({"tick_upper": 887280}, "tick_upper"),
        ({"tick_lower": None}, "tick_lower"),
        ({"liquidity": 0}, "liquidity"),
        ({"liquidity": "7"}, "liquidity"),
        ({"base_amount": "-1"}, "base_amount"),
        ({"base_amount": 1.5}, "base_amount"),
        ({"quote_amount": "0.0000001"}, "quote_amount"),
        ({"source": "polygon"}, "source_position_id"),
        ({"id": "0191346a-0000-4000-8000-000000000001"}, "id"),
    ],
)
async def test_what_is_wrong_is_named(liquidity, pool, user, changes, field):
    with pytest.raises(ValidationError) as caught:
        await open_(liquidity, user, pool, **changes)
    assert caught.value.field == field


async def test_who_and_what_must_be_there(liquidity, pool, user):
    with pytest.raises(NotFoundError, match="user"):
        await open_(liquidity, id_at(NOON), pool)
    with pytest.raises(NotFoundError, match="pool"):
        await liquidity.open(user, pool="0xnone", liquidity=1, base_amount=1, quote_amount=1)
    with pytest.raises(NotFoundError, match="position"):
        await liquidity.collect(id_at(NOON), base_fees=1)
    position = await open_(liquidity, user, pool)
    with pytest.raises(ValidationError, match="Nothing would be left"):
        await liquidity.decrease(position.id, liquidity=10**18, base_amount=1, quote_amount=1)
    with pytest.raises(ValidationError, match="cannot have less liquidity than 0 or more than"):
        await liquidity.decrease(position.id, liquidity=10**18 + 1, base_amount=1, quote_amount=1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE liquidity_positions SET liquidity = 7",
        "DELETE FROM liquidity_positions",
        "TRUNCATE liquidity_positions CASCADE",
        "UPDATE liquidity_events SET base_amount = 7",
        "DELETE FROM liquidity_events",
        EVENT.format("3, user_id, market_id, 'collected', liquidity, 0, 0"),
        EVENT.format("2, user_id, market_id, 'increased', liquidity, 1, 1"),
        "UPDATE pools SET fee_ppm = 1",
    ],
)
async def test_plain_sql_changes_nothing_that_events_did_not(liquidity, pool, user, main_url, statement):
    await open_(liquidity, user, pool)
    with psycopg.connect(main_url("owner")) as connection, pytest.raises(errors.IntegrityError):
        connection.execute(statement.encode())


async def test_everyone_sees_their_own(liquidity, pool, users):
    mine, other = users(2)
    position = await open_(liquidity, mine, pool)
    theirs = await open_(liquidity, other, pool)
    me = liquidity.acting_as(Actor(f"user:{mine}", mine, "user", frozenset({"liquidity.read_own"})))
    assert (await me.list()).items == [position]
    assert await me.get(position.id) == position
    with pytest.raises(NotFoundError):
        await me.get(theirs.id)
    for call in (me.list(other), open_(me, mine, pool), me.collect(position.id, base_fees=1)):
        with pytest.raises(PermissionDeniedError):
            await call
    staff = liquidity.acting_as(Actor("user:staff", None, "support", frozenset({"liquidity.read_any"})))
    assert (await staff.list(other)).items == [theirs]


async def test_positions_page_by_key(liquidity, pool, user):
    for n in range(5):
        await open_(liquidity, user, pool, executed_at=NOON + timedelta(seconds=n))
    first = await liquidity.list(user, limit=3)
    rest = await liquidity.list(user, limit=3, cursor=first.next)
    assert [p.opened_at for p in first.items + rest.items] == [NOON + timedelta(seconds=n) for n in range(4, -1, -1)]
    assert rest.next is None


async def test_value_and_impermanent_loss_of_a_concentrated_position(liquidity, pool, user, main_url):
    position = await open_(liquidity, user, pool)
    with pytest.raises(UnavailableError, match="Nothing is known"):
        await liquidity.value(position.id, at=NOON + timedelta(hours=1))
    with psycopg.connect(main_url("owner")) as connection:
        for minute, tick in ((30, 197000), (31, 196500), (32, 198500)):
            connection.execute(
                "INSERT INTO pool_snapshots (pool_id, taken_at, liquidity, open_tick, close_tick, lowest_tick,"
                " highest_tick, in_amount0, in_amount1, source) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'x')",
                (pool.id, NOON + timedelta(minutes=minute), 4 * 10**18, *[tick] * 4, 8_000_000, 4 * 10**15),
            )
    value = await liquidity.value(position.id, at=NOON + timedelta(minutes=32))
    usdc, weth = amounts_of_liquidity(sqrt_ratio_at_tick(196500), 196000, 198000, 10**18)
    assert (value.quote_amount, value.base_amount) == (Decimal(usdc) / 10**6, Decimal(weth).scaleb(-18))
    assert abs(value.price - 10**12 / Decimal("1.0001") ** 196500) < Decimal("1e-9")
    with wide_decimals():
        assert value.held_value == Decimal("1.5") * value.price + 4000
        assert value.impermanent_loss == value.value - value.held_value
    # A quarter of the liquidity, in range in two of the minutes: 0.05 % of what was paid in, a quarter of that; a
    # unit less, for growth is rounded down.
    accrued = (Decimal("0.001999"), Decimal("0.000000999999999999"))
    assert (value.quote_fees_accrued, value.base_fees_accrued) == accrued
    late = await liquidity.value(position.id, at=NOON + timedelta(hours=1))
    assert late.quote_fees_accrued == Decimal("0.001999")
    assert (late.base_amount > 0, late.quote_amount) == (True, 0)
    with pytest.raises(NotFoundError, match="later"):
        await liquidity.value(position.id, at=NOON)


@pytest.fixture
async def pair(liquidity, make_market):
    """A constant product of ETH (token 1) and DAI (token 0), 0.3 %."""
    make_market("ETH/DAI", 18, 18)
    return await liquidity.pools.add(
        "0xpair", market="ETH/DAI", kind="constant_product", fee="0.003", base_is_token0=False
    )


STATE = {"liquidity": 4000, "base_reserve": 20, "quote_reserve": 8000, "taken_at": NOON + timedelta(minutes=1)}


async def test_value_of_a_share_of_a_constant_product(liquidity, user, pair):
    position = await liquidity.open(
        user, pool="0xpair", liquidity=1000, base_amount=10, quote_amount=1000, executed_at=NOON
    )
    with pytest.raises(UnavailableError) as caught:
        await liquidity.value(position.id)
    assert "novadex liquidity snapshot" in str(caught.value.hint)
    await liquidity.record_snapshot("0xpair", **STATE, base_paid_in=2, quote_paid_in="0.5")
    value = await liquidity.value(position.id)
    assert (value.price, value.base_amount, value.quote_amount, value.value) == (400, 5, 2000, 4000)
    assert (value.held_value, value.impermanent_loss) == (5000, -1000)
    # 0.3 % of what was paid in, a quarter of that.
    assert (value.base_fees_accrued, value.quote_fees_accrued) == (Decimal("0.0015"), Decimal("0.000375"))


async def test_a_state_of_a_constant_product_is_recorded_once(liquidity, pair):
    first = await liquidity.record_snapshot("0xpair", **STATE, base_paid_in=2)
    assert (first.base_reserve, first.quote_reserve, first.in_amount1) == (20, 8000, 2 * 10**18)
    assert await liquidity.record_snapshot("0xpair", **STATE, base_paid_in=2) == first
    for other in ({"liquidity": 4001}, {"base_reserve": 21}, {"quote_paid_in": 1}):
        with pytest.raises(ConflictError):
            await liquidity.record_snapshot("0xpair", **{**STATE, "base_paid_in": 2, **other})
    now = await liquidity.record_snapshot("0xpair", **{**STATE, "taken_at": None})
    assert (await liquidity.snapshots("0xpair")).items == [now, first]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"liquidity": 0}, "liquidity"),
        ({"base_reserve": 0}, "base_reserve"),
        ({"quote_reserve": 0}, "quote_reserve"),
        ({"base_reserve": "-1"}, "base_reserve"),
        ({"quote_paid_in": 1.5}, "quote_paid_in"),
        ({"base_paid_in": 2**256 - 1}, "base_paid_in"),
        ({"taken_at": "2999-01-01T00:00:00Z"}, "taken_at"),
        ({"taken_at": "noon"}, "taken_at"),
        ({"source": "A B"}, "source"),
    ],
)
async def test_what_is_wrong_in_a_state_is_named(liquidity, pair, changes, field):
    with pytest.raises(ValidationError) as caught:
        await liquidity.record_snapshot("0xpair", **{**STATE, **changes})
    assert caught.value.field == field


async def test_a_concentrated_pool_has_no_reserves(liquidity, pool):
    with pytest.raises(ValidationError, match="ticks"):
        await liquidity.record_snapshot(pool.address, **STATE)
    actor = Actor("user:staff", None, "support", frozenset({"liquidity.report"}))
    with pytest.raises(PermissionDeniedError, match=r"pools\.manage"):
        await liquidity.acting_as(actor).record_snapshot(pool.address, **STATE)


def add_minutes(url: str, pool: Any, minutes: int, amount0: int = 8_000_000) -> None:
    """Minutes from NOON on, at tick 197000, in each of which so much of token 0 is paid in."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO pool_snapshots (pool_id, taken_at, liquidity, open_tick, close_tick, lowest_tick,"
            " highest_tick, in_amount0, source) SELECT %s, %s + n * interval '1 minute', %s + n, 197000, 197000,"
            " 197000, 197000, %s, 'x' FROM generate_series(0, %s) AS n",
            (pool.id, NOON, 4 * 10**18, amount0, minutes - 1),
        )


@pytest.mark.parametrize("taken", ["decreased", "collected"])
async def test_fees_that_were_taken_out_are_not_accrued_any_more(liquidity, pool, user, main_url, taken):
    position = await open_(liquidity, user, pool)
    add_minutes(main_url("owner"), pool, 10)
    at = NOON + timedelta(minutes=10)
    before = await liquidity.value(position.id, at=at)
    fees = {"base_fees": before.base_fees_accrued, "quote_fees": before.quote_fees_accrued}
    if taken == "decreased":
        await liquidity.decrease(
            position.id, liquidity=1, base_amount=0, quote_amount=0, **fees, executed_at=at - timedelta(seconds=1)
        )
    else:
        await liquidity.collect(position.id, **fees, executed_at=at - timedelta(seconds=1))
    after = await liquidity.value(position.id, at=at)
    assert after.quote_fees == before.quote_fees_accrued > 0
    assert (after.base_fees_accrued, after.quote_fees_accrued) == (0, 0)


async def test_a_decrease_that_takes_no_fees_leaves_them_accrued(liquidity, pool, user, main_url):
    position = await open_(liquidity, user, pool)
    add_minutes(main_url("owner"), pool, 10)
    at = NOON + timedelta(minutes=10)
    before = await liquidity.value(position.id, at=at)
    await liquidity.decrease(
        position.id, liquidity=1, base_amount=0, quote_amount=0, executed_at=at - timedelta(seconds=1)
    )
    assert (await liquidity.value(position.id, at=at)).quote_fees_accrued == before.quote_fees_accrued > 0


async def test_at_a_moment_a_position_is_what_was_executed_before_it_in_whatever_order_it_came(
    liquidity, pool, user, main_url
):
    add_minutes(main_url("owner"), pool, 40)
    changes = [("increase", 3 * 10**18, 10), ("decrease", 10**18, 20), ("increase", 5 * 10**17, 30)]
    values = []
    for order in ((0, 1, 2), (2, 0, 1)):
        position = await open_(liquidity, user, pool)
        for n in order:
            name, change, minutes = changes[n]
            await getattr(liquidity, name)(
                position.id,
                liquidity=change,
                base_amount=1,
                quote_amount=1,
                executed_at=NOON + timedelta(minutes=minutes),
            )
        moments = [NOON + timedelta(minutes=m) for m in (5, 10, 15, 25, 35)]
        values.append([replace(await liquidity.value(position.id, at=at), position=user) for at in moments])
    assert values[0] == values[1]
    first, _, third, fourth, _ = (v.quote_amount for v in values[0])
    assert first < fourth < third


async def test_accrued_fees_are_those_of_the_contract_and_many_minutes_hold_nobody_up(
    liquidity, pool, user, main_url
):
    """Growth for each unit of liquidity is rounded down in every minute, and what it earned at every change."""
    minutes, apart = 20_000, 500
    add_minutes(main_url("owner"), pool, minutes)
    position = await open_(liquidity, user, pool)
    for n in range(apart, minutes, apart):
        await liquidity.increase(
            position.id,
            liquidity=10**17 + n,
            base_amount=0,
            quote_amount=0,
            executed_at=NOON + timedelta(minutes=n),
        )
    expected, own, growth = 0, OPENED["liquidity"], 0
    for n in range(minutes):
        if n and n % apart == 0:
            expected += fees_owed(own, growth, 0)
            own, growth = own + 10**17 + n, 0
        growth += 8_000_000 * 500 * Q128 // (1_000_000 * (4 * 10**18 + n))
    expected += fees_owed(own, growth, 0)
    pauses: list[float] = []

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - before)

    watching = asyncio.create_task(watch())
    value = await liquidity.value(position.id, at=NOON + timedelta(minutes=minutes))
    watching.cancel()
    assert value.quote_fees_accrued == Decimal(expected).scaleb(-6)
    assert max(pauses) < 1

"""Any mixture of calls through group commit ends as a simple model says.

Waves of concurrent calls: valid ones, bad ones, repeats and conflicts of ids and keys that came before or
come at the same moment, and callers that are cancelled. The model: an id and a key stand for one trade.
"""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from novadex import TradingService
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.trading.records import Trade

BODIES = [("buy", "1", "100"), ("sell", "1", "100"), ("buy", "2.5", "250")]
BAD = {
    "float": ({"price": 0.1}, ValidationError),
    "disagreeing": ({"quote_amount": "1"}, ValidationError),
    "unknown user": ({"user_id": None}, NotFoundError),
    "unknown market": ({"base_asset": "NONE"}, NotFoundError),
    "of an order": ({"order_id": None}, ValidationError),
    "bad key": ({"idempotency_key": ""}, ValidationError),
}

calls = st.fixed_dictionaries(
    {
        "body": st.integers(0, len(BODIES) - 1),
        "id": st.none() | st.integers(0, 3),
        "key": st.none() | st.integers(0, 3),
        "bad": st.none() | st.sampled_from(sorted(BAD)),
        "cancel_after": st.none() | st.none() | st.integers(0, 6),
    }
)
waves = st.lists(st.lists(calls, min_size=1, max_size=14), min_size=1, max_size=4)


@dataclass
class Call:
    spec: dict
    fields: dict
    outcome: object = None


@dataclass
class Names:
    """The ids and keys of one example: fresh in each, so that examples do not meet."""

    ids: list = field(default_factory=lambda: [uuid7() for _ in range(4)])
    prefix: str = field(default_factory=lambda: str(uuid7()))


@pytest.fixture
async def service(fresh_databases, sol_market, users):
    connection = fresh_databases.connection("app", group_commit_batch_max=5, group_commit_queue_max=8)
    async with connection, TradingService(connection) as service:
        yield service


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(waves=waves)
async def test_any_mixture_of_calls_ends_as_the_model_says(waves, service, users):
    user, names = users(1)[0], Names()
    seen = []
    for wave in waves:
        batch = [Call(spec, _fields(spec, user, names)) for spec in wave]
        await asyncio.gather(*(_carry_out(service, call) for call in batch))
        seen += batch
    # A cancelled trade may be committed at this moment: both tables are read as of one.
    async with service._db.transaction("repeatable read", read_only=True) as session:
        trades = await session.query(
            "SELECT id, side, base_amount, quote_amount FROM trades WHERE user_id = $1", [user]
        )
        keys = await session.query("SELECT key, trade_id FROM idempotency_keys WHERE user_id = $1", [user])
    _check(seen, trades, {row.key: row.trade_id for row in keys}, names)


def _fields(spec, user, names):
    side, base, quote = BODIES[spec["body"]]
    fields = {
        "user_id": user,
        "side": side,
        "base_asset": "SOL",
        "quote_asset": "USDC",
        "base_amount": base,
        "quote_amount": quote,
        "price": "100",
    }
    if spec["id"] is not None:
        fields["id"] = names.ids[spec["id"]]
    if spec["key"] is not None:
        fields["idempotency_key"] = f"{names.prefix} {spec['key']}"
    if spec["bad"] is not None:
        changes, _ = BAD[spec["bad"]]
        fields |= {name: uuid7() if value is None else value for name, value in changes.items()}
    return fields


async def _carry_out(service, call):
    task = asyncio.create_task(service.create_trade(call.fields))
    if call.spec["cancel_after"] is not None:
        for _ in range(call.spec["cancel_after"]):
            await asyncio.sleep(0)
        task.cancel()
    call.outcome = (await asyncio.gather(task, return_exceptions=True))[0]


def _body(trade):
    return trade.side, trade.base_amount, trade.quote_amount


def _sent_body(call):
    side, base, quote = BODIES[call.spec["body"]]
    return side, Decimal(base), Decimal(quote)


def _check(seen, trades, key_of, names):
    recorded = {row.id: _body(row) for row in trades}
    assert len(recorded) == len(trades), "a trade stands there twice"
    assert set(key_of.values()) <= recorded.keys(), "a key stands for no trade"
    acknowledged = set()
    for call in seen:
        spec, outcome = call.spec, call.outcome
        cancelled = isinstance(outcome, asyncio.CancelledError)
        if spec["bad"] is not None:
            # A key or an id that is taken may be what the database says first.
            _, expected = BAD[spec["bad"]]
            assert cancelled or isinstance(outcome, (expected, ConflictError)), outcome
        elif isinstance(outcome, Trade):
            acknowledged.add(outcome.id)
            assert recorded[outcome.id] == _body(outcome) == _sent_body(call)
            if spec["id"] is not None:
                assert outcome.id == call.fields["id"]
            if spec["key"] is not None:
                assert key_of[call.fields["idempotency_key"]] == outcome.id
        elif isinstance(outcome, ConflictError):
            assert _really_conflicts(call, recorded, key_of, names), outcome
        else:
            assert cancelled, outcome
    for key, holder in key_of.items():
        takers = [call for call in seen if call.fields.get("idempotency_key") == key]
        assert any(
            isinstance(call.outcome, asyncio.CancelledError) or getattr(call.outcome, "id", None) == holder
            for call in takers
        ), "a refused call kept its key"
    named = {call.fields.get("id") for call in seen}
    unnamed_cancelled = sum(
        isinstance(call.outcome, asyncio.CancelledError) and "id" not in call.fields for call in seen
    )
    assert acknowledged <= recorded.keys()
    assert len(recorded.keys() - acknowledged - named) <= unnamed_cancelled


def _really_conflicts(call, recorded, key_of, names):
    """Whether the id, or the key, stands for something else than what was sent."""
    id, holder = call.fields.get("id"), key_of.get(call.fields.get("idempotency_key"))
    if id in recorded and recorded[id] != _sent_body(call):
        return True
    if holder is None:
        return False
    first_request = (recorded[holder], holder if holder in names.ids else None)
    return first_request != (_sent_body(call), id)

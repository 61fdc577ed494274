"""Any mixture of calls through group commit ends as a simple model says.

Waves of concurrent calls: valid ones, bad ones, repeats and conflicts of ids and keys that came before or
come at the same moment, and callers that are cancelled. The model: an id and a key stand for one trade.
"""

import asyncio
from dataclasses import dataclass, field

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
    "unknown order": ({"order_id": None}, NotFoundError),
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


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(waves=waves)
async def test_any_mixture_of_calls_ends_as_the_model_says(waves, service, users):
    user, names = users(1)[0], Names()
    seen = []
    for wave in waves:
        batch = [Call(spec, _fields(spec, user, names)) for spec in wave]
        await asyncio.gather(*(_carry_out(service, call) for call in batch))
        seen += batch
    # What is cancelled may still be being written: closing waits for it.
    rows = await service._db.main.query(
        "SELECT t.id, t.side, t.base_amount, t.quote_amount, k.key FROM trades t"
        " LEFT JOIN idempotency_keys k ON k.trade_id = t.id WHERE t.user_id = $1",
        [user],
    )
    _check(seen, rows, names)


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


def _check(seen, rows, names):
    recorded = {row.id: _body(row) for row in rows}
    key_of = {row.key: row.id for row in rows if row.key is not None}
    assert len(recorded) == len(rows), "a trade has two keys or stands there twice"
    acknowledged = set()
    for call in seen:
        spec, outcome = call.spec, call.outcome
        cancelled = isinstance(outcome, asyncio.CancelledError)
        if spec["bad"] is not None:
            # A repeated key answers before the bad part of the trade is looked at by the database.
            _, expected = BAD[spec["bad"]]
            assert cancelled or isinstance(outcome, (expected, ConflictError)), outcome
        elif isinstance(outcome, Trade):
            acknowledged.add(outcome.id)
            assert recorded[outcome.id] == _body(outcome)
            side, base, quote = BODIES[spec["body"]]
            assert (outcome.side, outcome.base_amount, outcome.quote_amount) == (
                side,
                int(float(base) * 10) / 10,
                int(quote),
            )
            if spec["id"] is not None:
                assert outcome.id == names.ids[spec["id"]]
            if spec["key"] is not None and spec["id"] is None:
                assert key_of[call.fields["idempotency_key"]] == outcome.id
        else:
            assert cancelled or isinstance(outcome, ConflictError), outcome
            if isinstance(outcome, ConflictError):
                _check_conflict(call, recorded, key_of)
    possible = {call.fields.get("id") for call in seen}
    unnamed_cancelled = sum(
        isinstance(call.outcome, asyncio.CancelledError) and "id" not in call.fields for call in seen
    )
    assert acknowledged <= recorded.keys()
    assert len(recorded.keys() - acknowledged - possible) <= unnamed_cancelled


def _check_conflict(call, recorded, key_of):
    """A conflict is raised only where the id or the key really stands for something else."""
    side, base, quote = BODIES[call.spec["body"]]
    id, key = call.fields.get("id"), call.fields.get("idempotency_key")
    id_differs = id in recorded and recorded[id] != (side, float(base), int(quote))
    key_holder = key_of.get(key)
    key_differs = key_holder is not None and (
        recorded[key_holder] != (side, float(base), int(quote)) or (id is not None and id != key_holder) or id is None
    )
    assert id_differs or key_differs

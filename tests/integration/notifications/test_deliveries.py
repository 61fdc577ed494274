"""The state machine of deliveries is the database's: every transition is tried by plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from novadex.ids import uuid7
from novadex.notifications.machine import ENDS, TRANSITIONS, after_failure
from novadex.notifications.records import DeliveryStatus
from tests.conftest import DatabasePair, add_users

STATES: tuple[DeliveryStatus, ...] = get_args(DeliveryStatus)
SET = (
    "UPDATE notification_deliveries SET status = %(status)s, attempts = %(attempts)s, series = %(series)s,"
    " lease = CASE WHEN %(status)s = 'sending' THEN gen_random_uuid() END,"
    " finished_at = CASE WHEN %(ends)s THEN now() END, due_at = now() - interval '1 second'"
)


@pytest.fixture
def worker(fresh_databases: DatabasePair) -> Iterator[psycopg.Connection[Any]]:
    """As the worker, with one notification that has a delivery in the state of nothing done yet."""
    [user] = add_users(fresh_databases.main_url("owner"), 1)
    with psycopg.connect(fresh_databases.main_url("worker"), autocommit=True) as connection:
        id = uuid7()
        connection.execute(
            "INSERT INTO notifications (id, user_id, kind, title, body, cause_id)"
            " VALUES (%s, %s, 'order_filled', 'x', '', 'x')",
            (id, user),
        )
        connection.execute(
            "INSERT INTO notification_deliveries (notification_id, channel) VALUES (%s, 'email')", (id,)
        )
        yield connection


def put(connection: psycopg.Connection[Any], status: str, attempts: int, series: int) -> None:
    values = {"status": status, "attempts": attempts, "series": series, "ends": status in ENDS}
    connection.execute(SET.encode(), values)


def bring_to(connection: psycopg.Connection[Any], status: DeliveryStatus) -> None:
    """From the beginning to a state, by legal steps."""
    if status != "pending":
        put(connection, "sending", 1, 1)
        if status != "sending":
            put(connection, status, 1, 1)


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_the_database_allows_what_the_machine_allows_and_nothing_else(
    worker: psycopg.Connection[Any], before: DeliveryStatus, after: DeliveryStatus
):
    with worker.transaction(force_rollback=True):
        bring_to(worker, before)
        allowed = []
        for attempts, series in product(range(4), range(1, 4)):
            try:
                with worker.transaction(force_rollback=True):
                    put(worker, after, attempts, series)
            except errors.CheckViolation:
                continue
            allowed.append((attempts, series))
    begun = 0 if before == "pending" else 1
    if after not in TRANSITIONS[before]:
        assert allowed == []
    elif after == "sending":
        assert allowed == [(begun + 1, 1)], "an attempt is counted when it begins"
    elif before == "dead" and after == "pending":
        assert allowed == [(0, 2)], "a replay is another series"
    else:
        assert allowed == [(begun, 1)]


def test_a_lease_that_is_not_over_cannot_be_taken(worker: psycopg.Connection[Any]):
    put(worker, "sending", 1, 1)
    worker.execute(
        "UPDATE notification_deliveries SET status = 'pending', lease = NULL, due_at = now() - interval '1 s'"
    )
    worker.execute(
        "UPDATE notification_deliveries SET status = 'sending', attempts = 2, lease = gen_random_uuid(),"
        " due_at = now() + interval '1 minute'"
    )
    with pytest.raises(errors.CheckViolation):
        put(worker, "sending", 3, 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(STATES), max_size=12))
def test_whatever_is_tried_attempts_only_rise_within_a_series(
    worker: psycopg.Connection[Any], steps: list[DeliveryStatus]
):
    """A model beside the database: both take the same steps and refuse the same ones."""
    status, attempts, series = "pending", 0, 1
    with worker.transaction(force_rollback=True):
        for step in steps:
            wanted = (
                (attempts + 1, series)
                if step == "sending"
                else (0, series + 1)
                if (status, step) == ("dead", "pending")
                else (attempts, series)
            )
            try:
                with worker.transaction():
                    put(worker, step, *wanted)
                taken = True
            except errors.CheckViolation:
                taken = False
            assert taken == (step in TRANSITIONS[status])
            if taken:
                status, (attempts, series) = step, wanted
        row = worker.execute("SELECT status, attempts, series FROM notification_deliveries").fetchone()
    assert row == (status, attempts, series)


@given(attempts=st.integers(1, 200), attempts_max=st.integers(1, 100), permanent=st.booleans())
def test_a_failure_leads_to_another_attempt_or_to_the_end(attempts: int, attempts_max: int, permanent: bool):
    status = after_failure(attempts, attempts_max, permanent=permanent)
    assert status in TRANSITIONS["sending"]
    assert (status == "pending") == (not permanent and attempts < attempts_max)

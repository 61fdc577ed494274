"""The reconciler finds nothing on a clean run, whatever goes on meanwhile."""

import pytest

from tests.faults.reconciling import run

pytestmark = pytest.mark.alone


def test_there_is_no_false_alarm_while_traffic_runs():
    quiet = run("2m", seed=3)
    assert quiet.looks >= 1
    assert sum(quiet.commands.values()) > 1_000
    assert all(quiet.compared.values()), quiet.compared

"""Status shows what is, not what was written down."""

import os
from pathlib import Path

import pytest

from novadex.instance import SERVICES, Instance, Process, Service
from novadex.local.status import Report

HERE = Process.of(os.getpid())
GONE = Process(2**22 + 1, 0.0)


def report(service: Service, supervisor: Process | None) -> Service:
    instance = Instance("0123456789abcdef", "/srv/data", 18, services={"main": service})
    return Report(Path("/srv/data"), instance, supervisor).services()["main"]


@pytest.mark.parametrize(
    ("written", "process", "supervisor", "shown", "detail"),
    [
        ("healthy", HERE, HERE, "healthy", None),
        ("healthy", GONE, HERE, "unhealthy", "its process died, and it is started again"),
        ("healthy", GONE, None, "stopped", "its process died"),
        ("healthy", HERE, None, "unhealthy", "runs without a supervisor"),
        ("starting", None, HERE, "starting", None),
        ("starting", None, None, "stopped", None),
        ("external", None, None, "external", None),
        ("failed", None, None, "failed", None),
    ],
)
def test_a_status_is_borne_out_by_the_process_and_the_supervisor(written, process, supervisor, shown, detail):
    found = report(Service(written, process, 5432, "postgresql://somewhere"), supervisor)
    assert (found.status, found.detail) == (shown, detail)
    assert found.process == (process if process is HERE else None)


def test_the_number_of_a_dead_process_that_another_has_now_is_not_taken_for_it():
    assert report(Service("healthy", Process(os.getpid(), HERE.started - 60)), HERE).status == "unhealthy"


def test_the_document_names_every_service_also_where_there_is_no_instance():
    document = Report(Path("/nowhere"), None, None).as_document()
    assert document["running"] is False
    assert list(document["services"]) == list(SERVICES)
    assert {s["status"] for s in document["services"].values()} == {"stopped"}


def test_the_table_shows_no_url_with_a_password():
    service = Service("healthy", HERE, 5432, "postgresql://novadex_owner:secret@127.0.0.1:5432/novadex_db")
    instance = Instance("0123456789abcdef", "/srv/data", 18, services={"main": service})
    lines = "\n".join(Report(Path("/srv/data"), instance, HERE).as_table())
    assert "127.0.0.1:5432" in lines
    assert "secret" not in lines

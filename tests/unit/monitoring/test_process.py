"""What a process uses, and what it may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from novadex.monitoring import process
from novadex.monitoring.process import instance_name, memory_health, memory_limit_bytes, process_use


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the control group's limit, not there yet."""
    file = tmp_path / "memory.max"
    monkeypatch.setattr(process, "CGROUP_LIMITS", (str(file),))
    memory_limit_bytes.cache_clear()
    yield file
    memory_limit_bytes.cache_clear()


@pytest.mark.parametrize("content", [None, "max\n", f"{1 << 62}\n"])
def test_without_a_limit_a_process_may_use_the_machine(limits: Path, content: str | None):
    if content is not None:
        limits.write_text(content)
    assert memory_limit_bytes() == psutil.virtual_memory().total


def test_a_control_group_bounds_the_memory(limits: Path):
    limits.write_text("2000000000\n")
    assert memory_limit_bytes() == 2_000_000_000
    assert memory_health().status == "healthy"


def test_a_process_near_its_limit_is_degraded(limits: Path):
    limits.write_text(str(psutil.Process().memory_info().rss))
    health = memory_health()
    assert health.status == "degraded"
    assert str(health.limit_bytes) in (health.error or "")


def test_figures_are_those_of_the_operating_system():
    use = process_use()
    mine = psutil.Process()
    assert use.started_s == mine.create_time()
    assert use.resident_bytes == pytest.approx(mine.memory_info().rss, rel=0.2)
    assert 0 < use.cpu_s <= sum(mine.cpu_times()[:2])
    assert use.open_fds >= 3
    assert use.threads >= 1


def test_an_instance_is_named_within_the_column(monkeypatch: pytest.MonkeyPatch):
    assert instance_name("api").startswith("api@")
    assert instance_name("api").endswith(f":{os.getpid()}")
    monkeypatch.setattr(process.platform, "node", lambda: "n" * 500)
    assert len(instance_name("worker")) <= 200

"""What the machine has, and shares of it."""

import pytest

from novadex.local import machine


def test_a_containers_limit_counts_where_it_is_lower(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1073741824\n")
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (limit, tmp_path / "none"))
    assert machine.memory_bytes() == 1024 * machine.MIB
    assert machine.share_mib(16, least=32, most=4096) == 64
    limit.write_text("max\n")
    assert machine.memory_bytes() > 0


@pytest.mark.parametrize(("parts", "least", "most"), [(10**6, 32, 4096), (1, 1, 16)])
def test_a_share_stays_within_its_bounds(parts, least, most):
    assert machine.share_mib(parts, least=least, most=most) in (least, most)

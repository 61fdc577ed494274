"""Ports: the one of last time, else the well-known one, else another that is free."""

import socket
from contextlib import contextmanager

import pytest

from novadex.errors import ConfigurationError
from novadex.local.ports import choose, choose_all, is_free


@contextmanager
def listening(host: str = "127.0.0.1"):
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen()
        yield listener.getsockname()[1]


def free_port() -> int:
    with listening() as port:
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_another_listens_on_is_not_free(host):
    with listening(host) as port:
        assert not is_free(port)
    assert is_free(port)


def test_the_port_of_last_time_comes_before_the_well_known_one():
    last, known = free_port(), free_port()
    assert choose("main", wanted=(last, known), taken=()) == last


def test_a_port_in_use_is_passed_over():
    with listening() as last:
        known = free_port()
        assert choose("main", wanted=(last, known), taken=()) == known
        assert choose("main", wanted=(last, known), taken=(known,)) not in (last, known)


def test_without_a_port_of_last_time_the_well_known_one_is_taken():
    known = free_port()
    assert choose("main", wanted=(None, known), taken=()) == known


def test_services_never_share_a_port_nor_take_one_that_another_wants():
    with listening() as first, listening() as second:
        free = free_port()
        chosen = choose_all({"a": (None, first), "b": (first, second), "c": (None, free)})
        assert chosen["c"] == free
        assert len({first, second, *chosen.values()}) == 5


def test_a_host_that_is_not_this_machine_is_a_wrong_setting():
    with pytest.raises(ConfigurationError, match=r"203\.0\.113\.1"):
        is_free(3000, "203.0.113.1")

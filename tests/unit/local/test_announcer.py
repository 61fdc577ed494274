"""A display that hangs holds nobody up."""

import threading

from novadex.instance import Service
from novadex.local import announcer as announcing
from novadex.local.announcer import Announcer


class Collector:
    """Remembers what it is told, while it is allowed to."""

    def __init__(self):
        self.told = []
        self.allowed = threading.Event()

    def event(self, text):
        self.allowed.wait(30)
        self.told.append(text)

    def changed(self, services):
        self.told.append(services["main"].status)

    def up(self, services):  # noqa: ARG002
        raise OSError("the terminal is gone")


def test_everything_arrives_in_order_and_as_it_was():
    collector = Collector()
    collector.allowed.set()
    announcer = Announcer(collector)
    services = {"main": Service("starting")}
    announcer.event("first")
    announcer.changed(services)
    services["main"].status = "healthy"
    announcer.changed(services)
    announcer.close()
    assert collector.told == ["first", "starting", "healthy"]


def test_a_display_that_fails_is_tried_again_with_the_next_word():
    collector = Collector()
    collector.allowed.set()
    announcer = Announcer(collector)
    announcer.up({})
    announcer.event("after")
    announcer.close()
    assert collector.told == ["after"]


def test_a_display_that_hangs_takes_a_bounded_number_of_words_and_nobodys_time(monkeypatch):
    monkeypatch.setattr(announcing, "WAITING_MAX", 10)
    monkeypatch.setattr(announcing, "CLOSE_S_MAX", 0.05)
    collector = Collector()
    announcer = Announcer(collector)
    for number in range(1000):
        announcer.event(str(number))
    announcer.close()
    assert collector.told == []
    collector.allowed.set()
    announcer._thread.join(10)
    assert 1 <= len(collector.told) <= 11

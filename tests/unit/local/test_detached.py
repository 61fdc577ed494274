"""What a detached supervisor says on its pipe."""

import os

import pytest

from novadex.errors import ConfigurationError, UnavailableError
from novadex.local.detached import AlreadyUp, Event, NotUp, PipeDisplay, Up, _error, _words


def test_every_word_arrives_as_it_was_said():
    reader, writer = os.pipe()
    said = [Event("main was killed"), NotUp("ConfigurationError", "wrong", "do this"), AlreadyUp(), Up()]
    display = PipeDisplay(writer)
    for word in said[:-1]:
        display.word(word)
    display.last_word(said[-1])
    display.event("after the last word only the log hears")
    with os.fdopen(reader, "rb") as pipe:
        assert list(_words(pipe)) == said


def test_a_command_that_no_longer_listens_does_not_disturb_the_supervisor():
    reader, writer = os.pipe()
    os.close(reader)
    display = PipeDisplay(writer)
    display.event("nobody hears this")
    display.last_word(Up())


@pytest.mark.parametrize("error", [ConfigurationError("wrong", hint="do this"), UnavailableError("away")])
def test_an_error_keeps_its_kind(error):
    found = _error(type(error).__name__, error.message, error.hint)
    assert type(found) is type(error)
    assert str(found) == str(error)

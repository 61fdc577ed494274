"""Commands that were written wrongly: a code, and what to do next."""

from __future__ import annotations

import json

import pytest

from tests.integration.cli.command import Command


@pytest.mark.parametrize(
    ("arguments", "told", "command"),
    [
        (("book", "--depth", "abc"), "--depth", "novadex book"),
        (("notifications", "dead", "--limit", "0"), "--limit", "novadex notifications dead"),
        (("simulate", "--seed", "x"), "--seed", "novadex simulate"),
        (("simulate", "--speed", "x"), "--speed", "novadex simulate"),
        (("book", "own"), "--market", "novadex book own"),
        (("import", "book"), "FILE", "novadex import book"),
        (("horoscope",), "horoscope", "novadex"),
    ],
)
def test_what_the_parser_refuses_is_told_as_any_other_error(
    novadex: Command, arguments: tuple[str, ...], told: str, command: str
):
    printed = novadex.run(*arguments, "--json", code=2)
    error = json.loads(printed.stdout)["error"]
    assert error["code"] == "USAGE"
    assert told in error["message"]
    assert error["hint"] == f"See {command} --help."
    assert printed.stderr == f"novadex: {error['message']} [USAGE]\n  {error['hint']}\n"
    assert novadex.run(*arguments, code=2).stdout == ""


def test_help_is_shown_where_it_is_asked_for_and_where_a_command_is_missing(novadex: Command):
    assert "Usage: novadex book" in novadex.run("book", "--help").stdout
    assert "replay" in novadex.run("notifications", code=2).stderr
    assert "simulate" in novadex.run(code=2).stderr


def test_a_depth_below_0_has_a_next_step(novadex: Command):
    error = novadex.json("book", "--market", "BTC/USDT", "--depth", "-1", code=2)["error"]
    assert (error["code"], error["details"]["field"]) == ("INVALID_VALUE", "depth")
    assert "every level" in error["hint"]

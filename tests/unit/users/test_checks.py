"""What users may be called and tell: the bounds of every field, and what does not pass."""

from __future__ import annotations

import enum
import json
import math
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.users.checks import (
    EMAIL_LENGTH_MAX,
    PERSONAL_FIELDS_MAX,
    PERSONAL_LENGTH_MAX,
    PREFERENCES_BYTES_MAX,
    PREFERENCES_DEPTH_MAX,
    check_email,
    check_personal,
    check_preferences,
    check_username,
)
from tests.payloads import LONG, PAYLOADS

NOT_TEXT: list[Any] = [None, 0, 1.5, True, b"text", ["text"], {"a": 1}, 10**5000, object()]
SECRET = "ada.lovelace"


def named(value: object) -> str:
    """For the ids of tests."""
    return ascii(value)[:40] if isinstance(value, str) else type(value).__name__


def refused(check: Any, value: Any, field: str) -> str:
    with pytest.raises(ValidationError) as error:
        check(value)
    assert error.value.field == field
    message = str(error.value)
    assert len(message) < 300
    message.encode()
    return message


# Usernames


@pytest.mark.parametrize("name", ["ab", "a" * 64, "0x", "a.b", "a-b", "a_b", "1st", "trader123"])
def test_a_username_of_small_letters_stays(name: str):
    assert check_username(name) == name
    assert check_username(name.upper()) == name


@pytest.mark.parametrize(
    "name",
    [
        *NOT_TEXT,
        "",
        "a",
        "a" * 65,
        "_a",
        ".a",
        "-a",
        "a b",
        " ab",
        "ab\n",
        "a:b",
        "source:test",
        "a@b",
        "\u212aim",  # the Kelvin sign, whose small letter is k
        "\uff41dmin",
        "adm\u0131n",
        "\u0430dmin",
        "ab\x00",
        "ab\ud800",
    ],
    ids=named,
)
def test_another_username_is_refused(name: object):
    refused(check_username, name, "username")


VICTIM_ID, VICTIM_ADDRESS = UUID("01912fd2-ec00-7000-8000-00000000abcd"), f"0x{'5aAeb6053F' * 4}"


@pytest.mark.parametrize(
    "name",
    [
        str(VICTIM_ID),
        VICTIM_ID.hex,
        VICTIM_ID.hex.upper(),
        "-".join(VICTIM_ID.hex)[:63],
        f"{VICTIM_ID.hex[:5]}-{VICTIM_ID.hex[5:]}",
        f"1_{VICTIM_ID.hex[2:]}",
        f"0x{VICTIM_ID.hex[2:]}",
        VICTIM_ADDRESS,
        VICTIM_ADDRESS.lower(),
    ],
)
def test_a_username_is_never_read_as_the_id_or_the_wallet_of_somebody(name: str):
    assert "id or a wallet" in refused(check_username, name, "username")


@given(st.from_regex(r"[0-9a-f_x-]{30,40}", fullmatch=True))
def test_what_is_a_username_is_no_id(name: str):
    try:
        checked = check_username(name)
    except ValidationError:
        return
    with pytest.raises(ValueError, match=r"hexadecimal UUID|invalid literal"):
        UUID(checked)


@pytest.mark.parametrize("text", PAYLOADS, ids=named)
def test_no_payload_is_a_username_unless_it_is_letters_and_digits(text: str):
    plain = text.replace("-", "")
    if plain.isascii() and plain.isalnum() and text[0] != "-" and 2 <= len(text) <= 64:
        assert check_username(text) == text.lower()
    else:
        refused(check_username, text, "username")


# Email addresses


@pytest.mark.parametrize(
    "email",
    [
        "user@example.com",
        "a@b",
        "o'hara@example.com",
        "user+tag@sub.example.co.uk",
        "\u00fcser@m\u00fcller.example",
        "\u0909\u0926\u093e@\u0909\u0926\u093e\u0939\u0930\u0923.\u092a\u0930\u0940\u0915\u094d\u0937\u093e",
        "a@xn--mller-kva.example",
        "a" * 64 + "@example.com",
        "a@" + "b" * (EMAIL_LENGTH_MAX - 2),
    ],
)
def test_an_email_address_stays_as_it_is_written(email: str):
    assert check_email(email) == email
    assert check_email(f"  {email} ") == email


@pytest.mark.parametrize(
    "email",
    [
        *NOT_TEXT,
        "",
        "@",
        "a@",
        "@b",
        f"{SECRET}example.com",
        f"{SECRET}@a@b",
        f"{SECRET}@example..com",
        f"{SECRET}@example.com.",
        f"{SECRET}@.example.com",
        f"{SECRET} @example.com",
        f"{SECRET}@exa mple.com",
        f"{SECRET}@exa'mple.com",
        f"{SECRET}@[192.0.2.1]",
        f"{SECRET}@example.com;drop table users",
        f"{SECRET}@exam\u00a0ple.com",
        f"{SECRET}@exam\u3000ple.com",
        f"{SECRET}\n@example.com",
        f"{SECRET}@example.com\nBcc: all@example.com",
        f"{SECRET}\x00@example.com",
        f"{SECRET}\u202e@example.com",
        f"{SECRET}\u200b@example.com",
        f"{SECRET}\ud800@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * (EMAIL_LENGTH_MAX - 1),
        "a@" + "." * 1_000_000,
        "a@" + "b." * 500_000,
    ],
    ids=named,
)
def test_another_email_address_is_refused_without_telling_it(email: object):
    assert SECRET not in refused(check_email, email, "email")


# Personal data


@pytest.mark.parametrize(
    "personal",
    [
        {},
        {"full_name": "Ada Lovelace"},
        {"a": ""},
        {"a" * 40: "x" * PERSONAL_LENGTH_MAX},
        {f"field_{number}": "x" for number in range(PERSONAL_FIELDS_MAX)},
        {"note": "lines\nand\ttabs"},
        {"name": "\u738b\u5c0f\u660e \U0001f469\U0001f3fd\u200d\U0001f4bb"},
    ],
)
def test_personal_data_stays_as_it_is(personal: dict[str, str]):
    assert check_personal(personal) == personal
    assert check_personal(MappingProxyType(personal)) == personal


@pytest.mark.parametrize(
    "personal",
    [
        *(value for value in NOT_TEXT if not isinstance(value, dict)),
        "text",
        {"a": 1},
        {"a": None},
        {"a": {"b": "c"}},
        {1: "a"},
        {"": "a"},
        {"A": "a"},
        {"a b": "a"},
        {"1a": "a"},
        {"a" * 41: "a"},
        {"a'; drop table users;--": "a"},
        {"a": "x" * (PERSONAL_LENGTH_MAX + 1)},
        {"a": "x" * 1_000_000},
        {f"field_{number}": "x" for number in range(PERSONAL_FIELDS_MAX + 1)},
        {"a": "\x00"},
        {"a": "\x1b[2J"},
        {"a": "\r"},
        {"a": "\ud800"},
        {"a": "\uffff"},
    ],
    ids=named,
)
def test_other_personal_data_is_refused(personal: object):
    refused(check_personal, personal, "personal")


# Preferences


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels - 1):
        inner = {"a": inner}
    return inner


class Colour(enum.StrEnum):
    DARK = "dark"


@pytest.mark.parametrize(
    ("preferences", "stored"),
    [
        ({}, {}),
        ({"theme": "dark", "n": 1, "x": 0.5, "on": True, "none": None, "list": [1, [2]]}, None),
        (nested(PREFERENCES_DEPTH_MAX), None),
        ({"a": [[[[[[["deep"]]]]]]]}, None),
        ({"": ""}, None),
        ({"'; DROP TABLE users;--": "$1"}, None),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (MappingProxyType({"a": MappingProxyType({"b": 1})}), {"a": {"b": 1}}),
        ({"a": Colour.DARK, Colour.DARK: 1}, {"a": "dark", "dark": 1}),
        ({"a": (1 << 53) - 1, "b": 1 - (1 << 53)}, None),
        ({"a": 1e-15, "b": -0.0, "c": 9007199254740991.0}, None),
        ({"a": "x" * (PREFERENCES_BYTES_MAX - len('{"a":""}'))}, None),
    ],
)
def test_preferences_stay_as_they_are(preferences: Any, stored: Any):
    checked = check_preferences(preferences)
    assert checked == (preferences if stored is None else stored)
    assert json.loads(json.dumps(checked)) == checked


@pytest.mark.parametrize(
    "preferences",
    [
        *(value for value in NOT_TEXT if not isinstance(value, dict)),
        "text",
        [],
        nested(PREFERENCES_DEPTH_MAX + 1),
        nested(100_000),
        {"a": [[[[[[[["too deep"]]]]]]]]},
        {"a": math.nan},
        {"a": math.inf},
        {"a": -math.inf},
        {"a": 1e308},
        {"a": 1e-300},
        {"a": float(1 << 53)},
        {"a": 1 << 53},
        {"a": 10**5000},
        {"a": b"bytes"},
        {"a": {1, 2}},
        {"a": object()},
        {1: "a"},
        {None: "a"},
        {"a": "\x00"},
        {"a\x00": 1},
        {"a": ["\ud800"]},
        {"a": "x" * (PREFERENCES_BYTES_MAX - len('{"a":""}') + 1)},
        {"a": "x" * 1_000_000},
        {str(number): number for number in range(100_000)},
        {"a": [0] * PREFERENCES_BYTES_MAX},
    ],
    ids=named,
)
def test_other_preferences_are_refused(preferences: object):
    refused(check_preferences, preferences, "preferences")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_preferences_are_either_kept_exactly_or_refused(preferences: dict[str, Any]):
    try:
        checked = check_preferences(preferences)
    except ValidationError:
        return
    assert checked == preferences
    json.dumps(checked).encode()


def test_long_text_is_refused_by_every_field():
    for text in LONG:
        refused(check_username, text, "username")
        refused(check_email, text, "email")
        refused(check_email, f"a@{text}", "email")
        refused(check_personal, {"a": text}, "personal")
        refused(check_preferences, {"a": text}, "preferences")

"""Templates: what is put in is never more than text, whatever it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.notifications.records import Template
from novadex.notifications.texts import Templates, check_template, words_of

TEMPLATE = Template("price_alert", "email", "en", "{market}: {price}", "{market}\n{price}", "<p>{market}</p>")
anything = st.text(max_size=200)


@given(market=anything, price=anything)
def test_nothing_gets_out_of_its_place(market: str, price: str):
    words = words_of(TEMPLATE, {"market": market, "price": price, "title": "unused"})
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", words.title)
    assert len(words.title) <= 200
    assert words.title
    assert words.html is not None
    inner = words.html.removeprefix("<p>").removesuffix("</p>").replace("<br>", "")
    assert not re.search(r"[<>\"']", inner)
    assert not re.search(r"&(?!(amp|lt|gt|quot|#x27);)", inner)


@given(st.dictionaries(st.sampled_from(["market", "price"]), st.sampled_from(["{market}", "{price}", "{", "}}"])))
def test_what_stands_in_a_field_is_no_placeholder(data: dict[str, str]):
    assert words_of(TEMPLATE, data).body == f"{data.get('market', '')}\n{data.get('price', '')}".strip()


def template(channel: str, locale: str) -> Template:
    return Template("new_device", channel, locale, f"{channel} {locale}", "body")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("locale", "chosen"),
    [
        ("en", "email en"),
        ("de-AT", "email de-AT"),
        ("de-CH", "in_app de"),
        ("fr", "email en"),
        (None, "email en"),
        (["de"], "email en"),
        ("DE", "email en"),
    ],
)
def test_the_language_comes_before_the_channel(locale: object, chosen: str):
    known = Templates(
        [template("in_app", "en"), template("email", "en"), template("in_app", "de"), template("email", "de-AT")]
    )
    assert known.choose("new_device", "email", locale).subject == chosen


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"subject": "x" * 201},
        {"subject": "two\nlines"},
        {"subject": "{password}"},
        {"body": "{ market }"},
        {"body": "a { alone"},
        {"body": "{{market}}"},
        {"html": "<p>{password}</p>"},
        {"channel": "fax"},
        {"channel": "webhook"},
        {"locale": "german"},
    ],
)
def test_a_wrong_template_is_refused_with_its_field(changes: dict[str, str]):
    parts = {name: getattr(TEMPLATE, name) for name in Template.__dataclass_fields__}
    with pytest.raises(ValidationError):
        check_template(Template(**{**parts, **changes}), ["market", "price"])


def test_a_right_template_is_taken():
    assert check_template(TEMPLATE, ["market", "price"]) is TEMPLATE

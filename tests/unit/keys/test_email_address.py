"""Email addresses that reach the same mailbox have one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.keys.email_address import normalise_email


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("ada@example.com", "ada@example.com"),
        (" Ada@Example.COM\n", "ada@example.com"),
        ("\uff41\uff44\uff41\uff20example.com", "ada@example.com"),
        ("zoe\u0308@example.com", "zoë@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("a.b+tag@example.com", "a.b+tag@example.com"),
    ],
)
def test_the_form(written: str, form: str):
    assert normalise_email(written) == form


@given(st.text())
def test_the_form_of_the_form_is_the_form(text: str):
    assert normalise_email(normalise_email(text)) == normalise_email(text)

"""The form of tokens: what is made is taken, and nothing else is."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import NotAuthenticatedError
from novadex.roles.tokens import BYTES, TOKEN_LENGTH, check_form, hash_of, make_token


@given(st.binary(min_size=BYTES, max_size=BYTES), st.sampled_from(["nds_", "ndk_"]))
def test_what_is_made_is_taken_as_its_kind_alone(random_bits: bytes, start: str):
    token = make_token(start, lambda _: random_bits)
    assert len(token) == TOKEN_LENGTH
    assert check_form(token, start) == token
    with pytest.raises(NotAuthenticatedError):
        check_form(token, "ndk_" if start == "nds_" else "nds_")


@given(st.binary(min_size=BYTES, max_size=BYTES), st.binary(min_size=BYTES, max_size=BYTES))
def test_other_bits_are_another_token(one: bytes, other: bytes):
    tokens = {make_token("nds_", lambda _: one), make_token("nds_", lambda _: other)}
    assert len(tokens) == len({one, other})


@given(st.text() | st.binary() | st.integers() | st.none())
def test_anything_else_is_refused_without_telling_why(wrong: Any):
    with pytest.raises(NotAuthenticatedError) as refusal:
        check_form(wrong, "nds_")
    assert "not valid" in str(refusal.value)


def test_the_bits_that_base64_leaves_over_must_be_zero():
    """Else 4 texts would stand for one secret; only one of them has its hash stored, but who counts on that?"""
    token = make_token("nds_", bytes)
    assert token.endswith("A")
    for last in "BCD":
        with pytest.raises(NotAuthenticatedError):
            check_form(token[:-1] + last, "nds_")


def test_the_hash_is_sha_256_of_the_whole_token():
    assert hash_of("nds_x") == hashlib.sha256(b"nds_x").digest()

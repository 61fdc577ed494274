"""Which addresses are of the public internet, and which only look as if they were."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from novadex.notifications.targets import is_public


@pytest.mark.parametrize(
    "text",
    [
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.7",
        "255.255.255.255",
        "fec0::1",
        "feff::1",
        "fe80::1",
        "fd00::1",
        "::1",
        "::c000:c0",
        "64:ff9b:1::c000:c0",
        "100::1",
        "100:0:0:1::1",
        "2001:1::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:db8::1",
        "2620:4f:8000::1",
        "3fff::1",
        "5f00::1",
        "4000::1",
    ],
)
def test_an_address_with_a_special_purpose_is_not_public(text: str):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("inner", ["c000:c0", "c000:8", "c058:6301", "7f00:1", "a9fe:a9fe", "a00:1"])
@pytest.mark.parametrize("form", ["2002:{}::", "64:ff9b::{}", "::ffff:{}", "::ffff:0:{}"])
def test_an_address_that_is_not_public_is_found_inside_another_one(form: str, inner: str):
    assert not is_public(ip_address(form.format(inner)))


@pytest.mark.parametrize("text", ["1.1.1.1", "192.0.1.1", "2606:4700::1111", "2001:200::1", "::ffff:1.1.1.1"])
def test_other_addresses_are_public(text: str):
    assert is_public(ip_address(text))

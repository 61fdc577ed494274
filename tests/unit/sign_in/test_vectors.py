"""Published test vectors; ``vectors/README.md`` says where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import base58
import pytest

from novadex.errors import NotAuthenticatedError, ValidationError
from novadex.sign_in.message import SignInMessage
from novadex.sign_in.parsing import parse_message
from novadex.sign_in.signatures import check_signature, hash_of_personal_message


def load(name: str) -> Any:
    return json.loads((Path(__file__).with_name("vectors") / f"{name}.json").read_text(encoding="utf-8"))


PARSED = load("eip_4361_parsing_positive")
UNPARSED = load("eip_4361_parsing_negative")
VERIFIED = load("eip_4361_verification_positive")
UNVERIFIED = load("eip_4361_verification_negative")


def message_of(fields: dict[str, Any]) -> SignInMessage:
    return SignInMessage(
        chain="evm",
        domain=fields["domain"],
        address=fields["address"],
        uri=fields["uri"],
        chain_id=str(fields["chainId"]),
        nonce=fields["nonce"],
        issued_at=fields["issuedAt"],
        expiration_time=fields.get("expirationTime"),
        not_before=fields.get("notBefore"),
        statement=fields.get("statement"),
        resources=tuple(fields["resources"]) if "resources" in fields else None,
    )


@pytest.mark.parametrize("name", [name for name in PARSED if "userinfo" not in name])
def test_messages_of_eip_4361_are_read(name: str):
    vector = PARSED[name]
    assert parse_message(vector["message"]) == message_of(vector["fields"])
    assert message_of(vector["fields"]).render() == vector["message"]


@pytest.mark.parametrize("name", [name for name in PARSED if "userinfo" in name])
def test_userinfo_in_the_domain_is_refused_although_eip_4361_knows_it(name: str):
    with pytest.raises(ValidationError, match="domain"):
        parse_message(PARSED[name]["message"])


@pytest.mark.parametrize("name", UNPARSED)
def test_messages_that_are_not_of_eip_4361_are_refused(name: str):
    with pytest.raises(ValidationError):
        parse_message(UNPARSED[name])


@pytest.mark.parametrize("name", VERIFIED)
def test_signatures_of_eip_4361_are_good(name: str):
    message = message_of(VERIFIED[name])
    text = message.render()
    assert parse_message(text) == message
    check_signature("evm", message.address, text, VERIFIED[name]["signature"])


@pytest.mark.parametrize("name", UNVERIFIED)
def test_signatures_that_are_not_of_the_wallet_are_refused(name: str):
    message = message_of(UNVERIFIED[name])
    with pytest.raises((NotAuthenticatedError, ValidationError)):
        check_signature("evm", message.address, message.render(), UNVERIFIED[name]["signature"])


@pytest.mark.parametrize("vector", load("personal_sign"), ids=lambda vector: vector["message"])
def test_personal_sign(vector: dict[str, str]):
    assert hash_of_personal_message(vector["message"]).hex() == vector["hash"]
    check_signature("evm", vector["address"], vector["message"], vector["signature"])


@pytest.mark.parametrize("vector", load("solana"), ids=lambda vector: vector["address"])
def test_signatures_of_solana_are_good(vector: dict[str, str]):
    check_signature("solana", vector["address"], vector["message"], vector["signature"])
    with pytest.raises(ValidationError, match="Chain ID"):
        parse_message(vector["message"])


@pytest.mark.parametrize("vector", load("ed25519"), ids=lambda vector: vector["name"])
def test_ed25519(vector: dict[str, str]):
    address, signature = (
        base58.b58encode(bytes.fromhex(vector[name])).decode() for name in ("public_key", "signature")
    )
    check_signature("solana", address, bytes.fromhex(vector["message"]).decode(), signature)

"""Every way to fail: a message or signature that must be refused, by name.

A case changes a good message or a good signature. Changed messages are signed by the wallet itself, so that
it is the check that refuses them, not the signature.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import base58

from novadex.sign_in.message import Chain, SignInMessage, text_of
from novadex.sign_in.signatures import CURVE_ORDER
from tests.unit.sign_in.wallets import Account, EthereumWallet, SolanaWallet, wallet

DOMAIN = "novadex.example"
NOW = datetime(2024, 8, 8, 12, 0, tzinfo=UTC)
NONCE = "0123456789abcdef0123456789abcdef"
FIELD_PRIME = 2**256 - 2**32 - 977
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def good_message(chain: Chain, now: datetime = NOW, nonce: str = NONCE, **fields: Any) -> SignInMessage:
    """A message that is accepted."""
    message = SignInMessage(
        chain=chain,
        domain=DOMAIN,
        address=wallet(chain).address,
        uri=f"https://{DOMAIN}/login",
        chain_id="1" if chain == "evm" else "mainnet",
        nonce=nonce,
        issued_at=text_of(now),
        expiration_time=text_of(now + timedelta(minutes=5)),
        not_before=text_of(now),
        statement="Sign in to NovaDex",
        request_id="request-7",
        resources=(f"https://{DOMAIN}/terms",),
    )
    return replace(message, **fields)


@dataclass(frozen=True)
class Attempt:
    """What is sent."""

    message: str
    signature: str


Change = Callable[[SignInMessage], Attempt]
MESSAGE_CASES: dict[str, tuple[Chain, Change]] = {}
SIGNATURE_CASES: dict[str, tuple[Chain, Change]] = {}


def _signed(chain: Chain, text: str) -> Attempt:
    return Attempt(text, wallet(chain).sign(text))


def _fields(name: str, chain: Chain = "evm", **fields: Any) -> None:
    """A message with other fields."""
    assert name not in MESSAGE_CASES, name
    MESSAGE_CASES[name] = (chain, lambda good: _signed(chain, replace(good, **fields).render()))


def _moved(name: str, field: str, by: timedelta | None) -> None:
    """A message with a time that far from now."""

    def change(good: SignInMessage) -> Attempt:
        moment = None if by is None else text_of(good.issued + by)
        return _signed("evm", replace(good, **{field: moment}).render())

    MESSAGE_CASES[name] = ("evm", change)


def _text(name: str, change: Callable[[str], str], chain: Chain = "evm") -> None:
    """A message with another text."""
    assert name not in MESSAGE_CASES, name

    def attempt(good: SignInMessage) -> Attempt:
        text = good.render()
        changed = change(text)
        assert changed != text, f"{name} changes nothing"
        return _signed(chain, changed)

    MESSAGE_CASES[name] = (chain, attempt)


def _swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


def _without(prefix: str) -> Callable[[str], str]:
    return lambda text: "\n".join(line for line in text.split("\n") if not line.startswith(prefix))


def _exchanged(first: str, second: str) -> Callable[[str], str]:
    """Two lines in each other's place."""

    def change(text: str) -> str:
        lines = text.split("\n")
        a, b = (next(i for i, line in enumerate(lines) if line.startswith(name)) for name in (first, second))
        lines[a], lines[b] = lines[b], lines[a]
        return "\n".join(lines)

    return change


# For whom ----------------------------------------------------------------------------------------------------

_fields("wrong domain", domain="evil.example")
_fields("subdomain", domain=f"app.{DOMAIN}")
_fields("parent domain", domain="example")
_fields("our domain as a subdomain of another", domain=f"{DOMAIN}.evil.example")
_fields("our domain as the end of another", domain=f"my{DOMAIN}")
_fields("homograph in Cyrillic", domain="nov\u0430dex.example")
_fields("homograph in punycode", domain="xn--novdex-4nf.example")
_fields("upper case domain", domain=DOMAIN.upper())
_fields("domain with a last dot", domain=f"{DOMAIN}.")
_fields("domain with a port", domain=f"{DOMAIN}:443")
_fields("userinfo in the domain", domain=f"{DOMAIN}@evil.example")
_fields("userinfo before our domain", domain=f"evil@{DOMAIN}")
_fields("domain with a path", domain=f"{DOMAIN}/evil")
_fields("domain with a space", domain=f"{DOMAIN} evil.example")
_fields("empty domain", domain="")
_fields("another scheme before the domain", scheme="http")
_fields("a scheme in a Solana message", "solana", scheme="https")
_fields("wrong domain on Solana", "solana", domain="evil.example")
_fields("URI of another site", uri="https://evil.example/login")
_fields("wrong URI scheme", uri=f"http://{DOMAIN}/login")
_fields("URI that is a script", uri="javascript:alert(1)")
_fields("URI with userinfo", uri=f"https://{DOMAIN}@evil.example/login")
_fields("URI with a user at our host", uri=f"https://evil@{DOMAIN}/login")
_fields("URI with a port", uri=f"https://{DOMAIN}:8443/login")
_fields("URI of a subdomain", uri=f"https://login.{DOMAIN}/")
_fields("URI without a scheme", uri=f"//{DOMAIN}/login")
_fields("relative URI", uri="/login")
_fields("URI with a backslash", uri=f"https://evil.example\\@{DOMAIN}/")
_fields("URI with a bad escape", uri=f"https://{DOMAIN}/%zz")
_fields("URI in upper case", uri=f"https://{DOMAIN.upper()}/login")
_fields("empty URI", uri="")
_fields("very long URI", uri=f"https://{DOMAIN}/{'a' * 1_000}")

# On which chain ----------------------------------------------------------------------------------------------

_fields("wrong chain", chain_id="5")
_fields("chain with a leading zero", chain_id="01")
_fields("chain in hexadecimal", chain_id="0x1")
_fields("negative chain", chain_id="-1")
_fields("chain with a sign", chain_id="+1")
_fields("chain with a fraction", chain_id="1.0")
_fields("chain in other digits", chain_id="\u0661")
_fields("empty chain", chain_id="")
_fields("chain zero", chain_id="0")
_fields("wrong network of Solana", "solana", chain_id="devnet")
_fields("wrong network of Solana, long name", "solana", chain_id="solana:testnet")
_fields("chain of Ethereum in a Solana message", "solana", chain_id="1")
_fields("network of Solana in an Ethereum message", chain_id="mainnet")
_text("wrong version", _swap("Version: 1", "Version: 2"))
_text("version with a fraction", _swap("Version: 1", "Version: 1.0"))
_text("version zero", _swap("Version: 1", "Version: 0"))
_text("another kind of account", _swap("your Ethereum account", "your Bitcoin account"))
_text("account in lower case", _swap("your Ethereum account", "your ethereum account"))
_text("address of Ethereum as Solana's", _swap("your Ethereum account", "your Solana account"))
_text("address of Solana as Ethereum's", _swap("your Solana account", "your Ethereum account"), "solana")

# Whose ---------------------------------------------------------------------------------------------------------

_fields("address in lower case", address=wallet("evm").address.lower())
_fields("address in upper case", address="0x" + wallet("evm").address[2:].upper())
_fields("address with a wrong checksum", address="0x" + wallet("evm").address[2:].swapcase())
_fields("address without 0x", address=wallet("evm").address[2:])
_fields("address too short", address=wallet("evm").address[:-1])
_fields("address too long", address=wallet("evm").address + "0")
_fields("empty address", address="")
_fields("address of another", address=wallet("evm", "bob").address)
_fields("address of another on Solana", "solana", address=wallet("solana", "bob").address)
_fields("address in hexadecimal on Solana", "solana", address=base58.b58decode(wallet("solana").address).hex())
_fields("address of 31 bytes on Solana", "solana", address=base58.b58encode(b"\7" * 31).decode())
_fields("address with a space after it", address=wallet("evm").address + " ")

# When ----------------------------------------------------------------------------------------------------------

_moved("future issued-at", "issued_at", timedelta(minutes=5, seconds=1))
_moved("stale issued-at", "issued_at", -timedelta(minutes=5, seconds=1))
_moved("expired", "expiration_time", -timedelta(seconds=1))
_moved("expires this moment", "expiration_time", timedelta(0))
_moved("expires too late", "expiration_time", timedelta(minutes=15, seconds=1))
_moved("never expires", "expiration_time", None)
_moved("not yet valid", "not_before", timedelta(seconds=1))
_fields("issued-at without a zone", issued_at="2024-08-08T12:00:00")
_fields("issued-at with a space", issued_at="2024-08-08 12:00:00Z")
_fields("issued-at in lower case", issued_at="2024-08-08t12:00:00z")
_fields("issued-at as a number", issued_at="1723118400")
_fields("issued-at that no calendar has", issued_at="2024-02-30T12:00:00Z")
_fields("issued-at as a date", issued_at="2024-08-08")
_fields("issued-at as a mail writes it", issued_at="Thu, 08 Aug 2024 12:00:00 GMT")
_fields("issued-at in an impossible zone", issued_at="2024-08-08T12:00:00+99:99")
_fields("expiry that is no time", expiration_time="never")
_fields("not-before that is no time", not_before="now")
_fields("expired on Solana", "solana", expiration_time="2024-08-08T11:59:59Z")
_fields("never expires on Solana", "solana", expiration_time=None)

# The nonce -----------------------------------------------------------------------------------------------------

_fields("nonce too short", nonce="0123456")
_fields("nonce too long", nonce="0" * 65)
_fields("nonce with a sign", nonce="0123456789abcde-")
_fields("empty nonce", nonce="")
_text("two nonces", _swap(f"Nonce: {NONCE}", f"Nonce: {NONCE}\nNonce: {NONCE[::-1]}"))
_text("two nonces on one line", _swap(f"Nonce: {NONCE}", f"Nonce: {NONCE} {NONCE[::-1]}"))

# The form ------------------------------------------------------------------------------------------------------

for _name in ("URI: ", "Version: ", "Chain ID: ", "Nonce: ", "Issued At: ", "Expiration Time: ", "0x"):
    _text(f"missing {_name.strip(': ')}", _without(_name))
_text("missing first line", lambda text: text.partition("\n")[2])
_text("only the first line", lambda text: text.partition("\n")[0])
_text("empty message", lambda _: "")
for _first, _second in (
    ("URI", "Version"),
    ("Version", "Chain ID"),
    ("Chain ID", "Nonce"),
    ("Nonce", "Issued At"),
    ("Issued At", "Expiration"),
    ("Expiration", "Not Before"),
    ("Not Before", "Request ID"),
    ("Request ID", "Resources"),
):
    _text(f"reordered: {_second} before {_first}", _exchanged(_first, _second))
for _field in ("URI", "Version", "Chain ID", "Issued At", "Expiration Time", "Not Before", "Request ID", "Resources"):
    _text(
        f"twice: {_field}",
        lambda text, field=_field: "\n".join(
            part for line in text.split("\n") for part in ([line, line] if line.startswith(field) else [line])
        ),
    )
_text("line end at the end", lambda text: text + "\n")
_text("line end at the beginning", lambda text: "\n" + text)
_text("line after the end", lambda text: text + "\nhello")
_text("unknown field", _swap("\nNonce", "\nColour: blue\nNonce"))
_text("extra empty line before the fields", _swap("\nURI", "\n\nURI"))
_text("extra empty line in the fields", _swap("\nNonce", "\n\nNonce"))
_text("no empty line before the fields", _swap("\n\nURI", "\nURI"))
_text("no empty line before the statement", _swap("\n\nSign", "\nSign"))
_text("CRLF", lambda text: text.replace("\n", "\r\n"))
_text("one CR", _swap("\nURI", "\r\nURI"))
_text("tab", _swap("URI: ", "URI:\t"))
_text("two spaces", _swap("URI: ", "URI:  "))
_text("no space", _swap("URI: ", "URI:"))
_text("space at the end of a line", _swap("Version: 1", "Version: 1 "))
_text("space at the beginning of a line", _swap("\nVersion", "\n Version"))
_text("field in lower case", _swap("Chain ID", "Chain Id"))
_text("wide colon", _swap("URI:", "URI\uff1a"))
for _sign, _what in (
    ("\u00a0", "no-break space"),
    ("\u2003", "em space"),
    ("\u3000", "ideographic space"),
    ("\u200b", "zero-width space"),
    ("\ufeff", "byte order mark"),
    ("\u2028", "line separator"),
    ("\u0085", "next line"),
    ("\u202e", "right-to-left override"),
    ("\x00", "zero byte"),
    ("\x0b", "vertical tab"),
    ("\x0c", "form feed"),
    ("\x7f", "delete"),
):
    _text(f"unicode: {_what}", _swap("Sign in", f"Sign{_sign}in"))
_text("unicode: no-break space after a name", _swap("Nonce: ", "Nonce:\u00a0"))
_text("unicode: byte order mark first", lambda text: "\ufeff" + text)
_fields("statement of two lines", statement="Sign in\nto NovaDex")
_fields("statement that adds a field", statement="Hello\n\nURI: https://evil.example")
_fields("empty statement", statement="")
_fields("statement with a quote", statement='Sign "in"')
_fields("statement with a backslash", statement="Sign \\ in")
_fields("statement with an escape sequence", statement="\x1b[2J")
_fields("very long statement", statement="a" * 1_001)
_fields("request id with a space", request_id="a b")
_fields("very long request id", request_id="a" * 129)
_fields("resource that is no URI", resources=("hello",))
_fields("too many resources", resources=(f"https://{DOMAIN}/",) * 11)
_fields("resources on one line", resources=(f"https://{DOMAIN}/ - https://{DOMAIN}/",))
_fields("oversized", resources=(f"https://{DOMAIN}/" + "a" * 900,) * 8)
_text("very oversized", lambda text: text + "a" * 1_000_000)
_text("statement missing in Solana's way in an Ethereum message", _swap("Sign in to NovaDex\n\n", ""))
_text("statement missing in Ethereum's way in a Solana message", _swap("Sign in to NovaDex\n", ""), "solana")

# The signature ---------------------------------------------------------------------------------------------------


def _ethereum(name: str, change: Callable[[str, bytes], str]) -> None:
    """Another signature for the good message: from the text and r, s, v of the good one."""

    def attempt(good: SignInMessage) -> Attempt:
        text = good.render()
        signature = wallet("evm").sign(text)
        changed = change(text, bytes.fromhex(signature[2:]))
        assert changed != signature, f"{name} changes nothing"
        return Attempt(text, changed)

    assert name not in SIGNATURE_CASES, name
    SIGNATURE_CASES[name] = ("evm", attempt)


def _solana(name: str, change: Callable[[str, bytes], str]) -> None:
    def attempt(good: SignInMessage) -> Attempt:
        text = good.render()
        holder = wallet("solana")
        assert isinstance(holder, SolanaWallet)
        return Attempt(text, change(text, holder.sign_raw(text)))

    assert name not in SIGNATURE_CASES, name
    SIGNATURE_CASES[name] = ("solana", attempt)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _rsv(r: int, s: int, v: int) -> str:
    return _hex(r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v]))


def _s_of(signature: bytes) -> int:
    return int.from_bytes(signature[32:64], "big")


def _flipped(v: int) -> int:
    return 27 + 28 - v


def _without_prefix(text: str, _: bytes) -> str:
    from novadex.users.addresses import keccak_256

    return _hex(Account.unsafe_sign_hash(keccak_256(text.encode()), EthereumWallet(wallet("evm").key).key).signature)


def _compact(_: str, signature: bytes) -> str:
    """EIP-2098: the recovery bit in the highest bit of s."""
    s = _s_of(signature) | ((signature[64] - 27) << 255)
    return _hex(signature[:32] + s.to_bytes(32, "big"))


def _der(_: str, signature: bytes) -> str:
    r, s = (part.lstrip(b"\0") for part in (signature[:32], signature[32:64]))
    body = b"\x02" + bytes([len(r)]) + r + b"\x02" + bytes([len(s)]) + s
    return _hex(b"\x30" + bytes([len(body)]) + body)


_ethereum("signature by another key", lambda text, _: wallet("evm", "bob").sign(text))
_ethereum("signed different text", lambda text, _: wallet("evm").sign(text + " "))
_ethereum("signed another nonce", lambda text, _: wallet("evm").sign(text.replace(NONCE, NONCE[::-1], 1) + "x"))
_ethereum("signed without the prefix of EIP-191", _without_prefix)
_ethereum("signature of Solana", lambda text, _: wallet("solana").sign(text))
_ethereum("truncated", lambda _, signature: _hex(signature[:-1]))
_ethereum("half", lambda _, signature: _hex(signature[:32]))
_ethereum("one byte more", lambda _, signature: _hex(signature + b"\0"))
_ethereum("compact (EIP-2098)", _compact)
_ethereum("of a contract (EIP-6492)", lambda _, signature: _hex(signature + b"\x64\x92" * 16))
_ethereum("DER", _der)
_ethereum("malleated: the higher s", lambda _, x: _rsv(int.from_bytes(x[:32], "big"), CURVE_ORDER - _s_of(x), x[64]))
_ethereum(
    "malleated: the higher s and the other v",
    lambda _, x: _rsv(int.from_bytes(x[:32], "big"), CURVE_ORDER - _s_of(x), _flipped(x[64])),
)
_ethereum("the other v", lambda _, signature: _hex(signature[:64] + bytes([_flipped(signature[64])])))
for _v in (2, 3, 26, 29, 30, 35, 37, 38, 255):
    _ethereum(f"v is {_v}", lambda _, signature, v=_v: _hex(signature[:64] + bytes([v])))
_ethereum("zero r", lambda _, signature: _rsv(0, _s_of(signature), signature[64]))
_ethereum("zero s", lambda _, signature: _hex(signature[:32] + bytes(32) + signature[64:]))
_ethereum("zero r and s", lambda _, signature: _rsv(0, 0, signature[64]))
_ethereum("r is the order of the curve", lambda _, signature: _rsv(CURVE_ORDER, _s_of(signature), signature[64]))
_ethereum("r is above the order of the curve", lambda _, signature: _rsv(FIELD_PRIME - 1, _s_of(signature), 27))
_ethereum("s is the order of the curve", lambda _, x: _hex(x[:32] + CURVE_ORDER.to_bytes(32, "big") + x[64:]))
_ethereum("all bits one", lambda *_: _hex(b"\xff" * 65))
_ethereum("r that is of no point", lambda _, signature: _rsv(5, _s_of(signature), 27))
_ethereum("no 0x", lambda _, signature: signature.hex())
_ethereum("0X", lambda _, signature: "0X" + signature.hex())
_ethereum("not hexadecimal", lambda _, signature: _hex(signature)[:-1] + "g")
_ethereum("other digits", lambda _, signature: _hex(signature)[:-1] + "\u0661")
_ethereum("a space after it", lambda _, signature: _hex(signature) + " ")
_ethereum("a line end after it", lambda _, signature: _hex(signature) + "\n")
_ethereum("empty", lambda *_: "")
_ethereum("only 0x", lambda *_: "0x")
_ethereum("very long", lambda *_: "0x" + "00" * 1_000_000)

_solana("signature by another key on Solana", lambda text, _: wallet("solana", "bob").sign(text))
_solana("signed different text on Solana", lambda text, _: wallet("solana").sign(text + " "))
_solana("signature of Ethereum", lambda text, _: wallet("evm").sign(text))
_solana("truncated on Solana", lambda _, signature: base58.b58encode(signature[:-1]).decode())
_solana("one byte more on Solana", lambda _, signature: base58.b58encode(signature + b"\1").decode())
_solana("zero", lambda *_: base58.b58encode(bytes(64)).decode())
_solana("zero s on Solana", lambda _, signature: base58.b58encode(signature[:32] + bytes(32)).decode())
_solana("zero R", lambda _, signature: base58.b58encode(bytes(32) + signature[32:]).decode())
_solana(
    "malleated: s plus the order of the group",
    lambda _, x: base58.b58encode(
        x[:32] + (int.from_bytes(x[32:], "little") + ED25519_ORDER).to_bytes(32, "little")
    ).decode(),
)
_solana("hexadecimal", lambda _, signature: signature.hex())
_solana("base64 without its end", lambda _, signature: base64.b64encode(signature).decode().rstrip("="))
_solana("base64 of URLs", lambda _, signature: base64.urlsafe_b64encode(b"\xff" * 3 + signature[3:]).decode())
_solana("base64 with other last bits", lambda _, x: _other_last_bits(base64.b64encode(x).decode()))
_solana("base64 with a line end", lambda _, signature: base64.encodebytes(signature).decode())
_solana("base58 with a zero byte before it", lambda _, signature: "1" + base58.b58encode(signature).decode())
_solana("base58 with a space", lambda _, signature: base58.b58encode(signature).decode() + " ")
_solana("base58 with a letter it has not", lambda _, signature: base58.b58encode(signature).decode()[:-1] + "0")
_solana("empty on Solana", lambda *_: "")


def _other_last_bits(text: str) -> str:
    """The same bytes, where the bits that do not count are not zero."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = text.rstrip("=")[-1]
    return text.rstrip("=")[:-1] + alphabet[alphabet.index(last) | 1] + "=="


CASES = MESSAGE_CASES | SIGNATURE_CASES
"""The key of small order in Solana's curve has a case of its own in ``test_signatures``."""

"""Reads the text of a message, strictly: whatever is not exactly of the form is refused.

Nothing is trimmed, folded or guessed, and a message that was read renders to the same text again, so that
what is checked is what was signed and what the wallet showed.
"""

from __future__ import annotations

import re

from novadex.errors import NovaDexError, ValidationError
from novadex.sign_in.grammar import REQUEST_ID, STATEMENT, is_domain, is_time, is_uri
from novadex.sign_in.message import ACCOUNT_OF, CHAINS, VERSION, Chain, SignInMessage
from novadex.users.addresses import normalise

MESSAGE_CHARACTERS_MAX = 4_096
STATEMENT_CHARACTERS_MAX = 1_000
URI_CHARACTERS_MAX = 1_000
REQUEST_ID_CHARACTERS_MAX = 128
RESOURCES_MAX = 10

HINT = "Sign the text exactly as the server made it."
NONCE = re.compile(r"[A-Za-z0-9]{8,64}")
CHAIN_ID: dict[Chain, re.Pattern[str]] = {
    "evm": re.compile(r"[1-9][0-9]{0,19}"),
    "solana": re.compile(r"(?:solana:)?(?:mainnet|testnet|devnet)|localnet"),
}
_PRINTABLE = re.compile(r"[\x20-\x7e\n]*")
_FIRST_LINE = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*)://)?(?P<domain>\S+)"
    r" wants you to sign in with your (?P<account>\w+) account:"
)


class _Lines:
    """The lines that have not been read yet."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._lines[self._at] if self._at < len(self._lines) else None

    def take(self, what: str) -> str:
        line = self.next
        if line is None:
            raise _refusal(what, "it ends too early")
        self._at += 1
        return line

    def take_field(self, name: str) -> str:
        """The value of ``Name: value``."""
        line = self.take(name)
        if not line.startswith(f"{name}: "):
            raise _refusal(name, f"its line has to stand here and to begin with '{name}: '")
        return line[len(name) + 2 :]

    def take_optional_field(self, name: str) -> str | None:
        line = self.next
        return self.take_field(name) if line is not None and line.startswith(f"{name}:") else None

    def take_blank(self, what: str) -> None:
        if self.take(what) != "":
            raise _refusal(what, "an empty line has to stand before it")


def parse_message(text: str) -> SignInMessage:
    """The fields of a message. Raises ``ValidationError`` that says which part is not of the form."""
    if len(text) > MESSAGE_CHARACTERS_MAX:
        raise _refusal("the message", f"it has more than {MESSAGE_CHARACTERS_MAX} characters")
    if not _PRINTABLE.fullmatch(text):
        raise _refusal(
            "the message", "it holds characters that are not printable ASCII, or line ends that are not LF"
        )
    lines = _Lines(text)
    scheme, domain, chain = _first_line(lines.take("the first line"))
    address = lines.take("the address")
    _check_address(chain, address)
    lines.take_blank("the statement")
    statement = _statement(lines, chain)
    uri = lines.take_field("URI")
    _check(is_uri(uri) and len(uri) <= URI_CHARACTERS_MAX, "URI", "it is not an absolute URI")
    _check(lines.take_field("Version") == VERSION, "Version", f"it is not {VERSION}")
    chain_id = lines.take_field("Chain ID")
    _check(CHAIN_ID[chain].fullmatch(chain_id) is not None, "Chain ID", f"it is not one of {ACCOUNT_OF[chain]}")
    nonce = lines.take_field("Nonce")
    _check(NONCE.fullmatch(nonce) is not None, "Nonce", "it is not 8 to 64 letters and digits")
    issued_at = lines.take_field("Issued At")
    _check(is_time(issued_at), "Issued At", "it is not an RFC 3339 time")
    expiration_time = _optional_time(lines, "Expiration Time")
    not_before = _optional_time(lines, "Not Before")
    request_id = lines.take_optional_field("Request ID")
    if request_id is not None:
        _check(REQUEST_ID.fullmatch(request_id) is not None, "Request ID", "it holds characters that it may not")
        _check(len(request_id) <= REQUEST_ID_CHARACTERS_MAX, "Request ID", "it is too long")
    resources = _resources(lines)
    if lines.next is not None:
        raise _refusal("the end", "lines follow that are not of the form, or stand in another order")
    message = SignInMessage(
        chain=chain,
        domain=domain,
        address=address,
        uri=uri,
        chain_id=chain_id,
        nonce=nonce,
        issued_at=issued_at,
        expiration_time=expiration_time,
        not_before=not_before,
        statement=statement,
        request_id=request_id,
        resources=resources,
        scheme=scheme,
    )
    _check(message.render() == text, "the message", "it reads in more than one way")
    return message


def _first_line(line: str) -> tuple[str | None, str, Chain]:
    found = _FIRST_LINE.fullmatch(line)
    chains: list[Chain] = [chain for chain in CHAINS if found and ACCOUNT_OF[chain] == found["account"]]
    if found is None or not chains:
        raise _refusal(
            "the first line", "it is not 'DOMAIN wants you to sign in with your Ethereum (or Solana) account:'"
        )
    _check(is_domain(found["domain"]), "the domain", "it is not a host name with or without a port")
    _check(found["scheme"] is None or chains[0] == "evm", "the domain", "it has a scheme before it")
    return found["scheme"], found["domain"], chains[0]


def _check_address(chain: Chain, address: str) -> None:
    """Exactly the normal form: EIP-4361 wants the checksum of EIP-55."""
    try:
        normal = normalise(chain, address)
    except NovaDexError:
        normal = None
    _check(normal == address, "the address", "it is not an address of the chain, or without its checksum")


def _statement(lines: _Lines, chain: Chain) -> str | None:
    line = lines.next
    if chain == "solana" and line is not None and line.startswith("URI: "):
        return None
    if line == "":
        lines.take_blank("the URI")
        return None
    statement = lines.take("the statement")
    _check(STATEMENT.fullmatch(statement) is not None, "the statement", "it holds characters that it may not")
    _check(len(statement) <= STATEMENT_CHARACTERS_MAX, "the statement", "it is too long")
    lines.take_blank("the URI")
    return statement


def _optional_time(lines: _Lines, name: str) -> str | None:
    text = lines.take_optional_field(name)
    _check(text is None or is_time(text), name, "it is not an RFC 3339 time")
    return text


def _resources(lines: _Lines) -> tuple[str, ...] | None:
    if lines.next != "Resources:":
        return None
    lines.take("Resources")
    resources: list[str] = []
    while lines.next is not None:
        line = lines.take("Resources")
        _check(line.startswith("- "), "Resources", "each stands on a line that begins with '- '")
        resource = line[2:]
        _check(is_uri(resource) and len(resource) <= URI_CHARACTERS_MAX, "Resources", "one is not an absolute URI")
        resources.append(resource)
        _check(len(resources) <= RESOURCES_MAX, "Resources", f"there are more than {RESOURCES_MAX}")
    return tuple(resources)


def _check(condition: bool, what: str, problem: str) -> None:
    if not condition:
        raise _refusal(what, problem)


def _refusal(what: str, problem: str) -> ValidationError:
    return ValidationError(f"The sign-in message is refused at {what}: {problem}.", field="message", hint=HINT)

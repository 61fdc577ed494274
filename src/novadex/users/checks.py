"""What users may be called and tell: every text has a length, and holds nothing that cannot be shown."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from novadex.errors import ValidationError

USERNAME = re.compile(r"[a-z0-9][a-z0-9_.-]{1,63}")
_ID = re.compile(r"(0x)?[0-9a-f_]+")
_ID_DIGITS = 32
_EVM_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
EMAIL_LENGTH_MAX = 254
_LABEL = r"[-\w\u0080-\U0010ffff]+"
_EMAIL = re.compile(rf"[^@\s]{{1,64}}@{_LABEL}(\.{_LABEL})*")
PREFERENCES_BYTES_MAX = 8_192
PREFERENCES_DEPTH_MAX = 8
INTEGER_END = 1 << 53
"""From here on, other programs that read JSON round whole numbers."""
FLOAT_MIN = 1e-15
"""The database writes numbers out in full."""
PERSONAL_FIELDS_MAX = 20
PERSONAL_LENGTH_MAX = 500
_PERSONAL_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def check_username(username: object) -> str:
    """In small letters, 2 to 64 characters.

    >>> check_username("Trader123")
    'trader123'
    """
    lowered = username.lower() if isinstance(username, str) and username.isascii() else ""
    if not USERNAME.fullmatch(lowered):
        raise ValidationError(
            f"username is not possible: {_shown(username)}.",
            field="username",
            hint="It has 2 to 64 letters a to z, digits, _ . and -, and begins with a letter or digit.",
        )
    if _EVM_ADDRESS.fullmatch(lowered) or _is_read_as_id(lowered):
        # Wherever a user is named by whatever the text can be, it would name somebody else.
        raise ValidationError(
            f"username is not possible: {_shown(username)} is written like an id or a wallet address.",
            field="username",
            hint="Choose one that nobody takes for an id or an address.",
        )
    return lowered


def _is_read_as_id(name: str) -> bool:
    """What ``UUID`` reads: 32 digits with dashes anywhere, and the forms of a number in Python."""
    digits = name.replace("-", "")
    return len(digits) == _ID_DIGITS and _ID.fullmatch(digits) is not None


def check_email(email: object) -> str:
    """One address, at most 254 characters (RFC 5321, 4.5.3.1); whether it reaches anybody, only a letter tells."""
    text = email.strip() if isinstance(email, str) else ""
    if len(text) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(text) or not text.isprintable():
        # The value is personal data, and errors are logged: only its form is told.
        raise ValidationError(
            f"email is no email address ({len(text)} characters).",
            field="email",
            hint="Write it like name@example.com.",
        )
    return text


def check_preferences(preferences: object) -> dict[str, Any]:
    """A JSON object of at most 8 KiB and 8 levels."""
    if not isinstance(preferences, Mapping):
        raise ValidationError(
            f"preferences must be a mapping, got {type(preferences).__name__}.", field="preferences"
        )
    plain = _plain(preferences, "preferences", PREFERENCES_DEPTH_MAX)
    size = len(msgspec.json.encode(plain))
    if size > PREFERENCES_BYTES_MAX:
        raise ValidationError(
            f"preferences have {size} bytes as JSON; {PREFERENCES_BYTES_MAX} are possible.", field="preferences"
        )
    return plain


def check_personal(personal: object) -> dict[str, str]:
    """Up to 20 named texts of up to 500 characters, such as ``{"full_name": "Ada Lovelace"}``."""
    if not isinstance(personal, Mapping):
        raise ValidationError(f"personal must be a mapping, got {type(personal).__name__}.", field="personal")
    if len(personal) > PERSONAL_FIELDS_MAX:
        raise ValidationError(
            f"personal has {len(personal)} fields; {PERSONAL_FIELDS_MAX} are possible.", field="personal"
        )
    for name, text in personal.items():
        if not isinstance(name, str) or not _PERSONAL_NAME.fullmatch(name):
            raise ValidationError(
                "personal has a field whose name is not possible.",
                field="personal",
                hint="Names have small letters, digits and _, such as full_name.",
            )
        if not isinstance(text, str) or len(text) > PERSONAL_LENGTH_MAX or not shows(text):
            raise ValidationError(
                f"personal.{name} must be text of up to {PERSONAL_LENGTH_MAX} characters that can be shown.",
                field="personal",
            )
    return dict(personal)


def shows(text: str) -> bool:
    """Whether a text has no control characters but line ends and tabs, and no halves of characters."""
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Cn") or c in "\n\t" for c in text)


def _plain(value: object, field: str, depth: int) -> Any:  # noqa: PLR0912 - one case for each type of JSON
    """The value in the types that it is read back in."""
    if value is None or isinstance(value, bool):
        return value
    if depth == 0 and isinstance(value, Mapping | list | tuple):
        raise ValidationError(f"{field} is nested deeper than {PREFERENCES_DEPTH_MAX} levels.", field=field)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or not shows(name):
                raise ValidationError(f"{field} has a name that is no text.", field=field)
        return {str(name): _plain(inner, field, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, field, depth - 1) for inner in value]
    if isinstance(value, str):
        if not shows(value):
            raise ValidationError(f"{field} has a text with characters that cannot be shown.", field=field)
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationError(f"{field} has a number that JSON does not know.", field=field)
        if value and not FLOAT_MIN <= abs(value) < INTEGER_END:
            raise ValidationError(
                f"{field} has a number that is not between {FLOAT_MIN:g} and 2^53: write it as text.", field=field
            )
        return float(value)
    if isinstance(value, int):
        if abs(value) >= INTEGER_END:
            raise ValidationError(f"{field} has a number above 2^53: write it as text.", field=field)
        return int(value)
    raise ValidationError(f"{field} has a {type(value).__name__}, which JSON does not know.", field=field)


def _shown(value: object) -> str:
    return repr(value)[:80] if isinstance(value, str) else type(value).__name__

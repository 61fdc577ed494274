"""Why what somebody acts by was ended, for the record."""

from __future__ import annotations

from novadex.errors import ValidationError

REASON_LENGTH_MAX = 200


def check_reason(reason: str) -> str:
    """A reason as it is stored."""
    if not isinstance(reason, str) or not 1 <= len(reason) <= REASON_LENGTH_MAX or not reason.isprintable():
        raise ValidationError(
            f"reason must be 1 to {REASON_LENGTH_MAX} characters that can be printed.", field="reason"
        )
    return reason

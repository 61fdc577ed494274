"""One form for email addresses that reach the same mailbox, before they are looked up."""

from __future__ import annotations

import unicodedata


def normalise_email(email: str) -> str:
    """Without spaces around it, in Unicode's NFKC form, without the difference of capitals.

    Nothing else is changed: ``a.b@`` and ``ab@``, ``user+tag@`` and ``user@`` are different addresses, and an
    internationalised domain and its ``xn--`` form too.

    >>> normalise_email("  Ada.Lovelace@EXAMPLE.com")
    'ada.lovelace@example.com'
    """
    folded = unicodedata.normalize("NFKC", email).casefold()
    return unicodedata.normalize("NFKC", folded).strip()

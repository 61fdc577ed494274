"""Trades as lines of COPY's text format, in the order of the columns of ``copy_trades``."""

from __future__ import annotations

NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"})


def escaped(text: str) -> str:
    r"""Text of a caller as a COPY field.

    >>> escaped("a\tb")
    'a\\tb'
    """
    return text.translate(_ESCAPES) if not text.isalnum() else text


def copy_line(
    *,
    id: str,
    user_id: str,
    market_id: int,
    base_decimals: int,
    quote_decimals: int,
    type: str,
    side: str,
    liquidity: str,
    base_amount: str,
    quote_amount: str,
    price: str,
    fee_amount: str,
    fee_asset_id: int | None,
    executed_at: str,
    sequence: int | None,
    match_id: str | None,
    order_id: str | None,
    source: str | None,
    source_trade_id: str | None,
) -> str:
    """One trade as a line; ``source_trade_id`` is escaped here, all else is plain by construction."""
    return (
        f"{id}\t{user_id}\t{market_id}\t{base_decimals}\t{quote_decimals}\t{type}\t{side}\t{liquidity}\t{base_amount}"
        f"\t{quote_amount}\t{price}\t{fee_amount}\t{NULL if fee_asset_id is None else fee_asset_id}\t{executed_at}"
        f"\t{NULL if sequence is None else sequence}\t{match_id or NULL}\t{order_id or NULL}\t{source or NULL}"
        f"\t{NULL if source_trade_id is None else escaped(source_trade_id)}\n"
    )

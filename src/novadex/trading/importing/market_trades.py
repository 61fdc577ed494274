"""Market trades of a source as lines of COPY: what its public feeds say, seen from the taker."""

from __future__ import annotations

import re
import time
from decimal import ROUND_HALF_EVEN, Context, InvalidOperation
from hashlib import blake2b
from typing import TYPE_CHECKING

from novadex.errors import ValidationError
from novadex.money import DIGITS_MAX, EXACT, PRICE_DECIMALS_MAX, checked_text, parse_amount, smallest_unit
from novadex.trading.lines import copy_line
from novadex.trading.prepare import AHEAD_MS_MAX, SEQUENCE_BOUND, SOURCE_ID_LENGTH_MAX, check_amounts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from novadex.trading.importing.chunks import Month
    from novadex.trading.records import Market

PERPETUAL_SUFFIX = "-PERP"
ROUNDING = Context(prec=2 * DIGITS_MAX, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The first digit of a UUID's last 64 bits, with the bits of the variant set."""
WHOLE = re.compile(r"0|[1-9][0-9]{0,18}")
UNIX_TIME = re.compile(r"[0-9]{13}(?:[0-9]{3})?")
SECONDS_DIGITS, MS_DIGITS = 10, 13
MOMENTS_REMEMBERED = 4_096


class MarketTrades:
    """Makes the lines of one source in one market; they all belong to the source's system account.

    ``fields`` gives the file's own names for ours, for errors.
    """

    def __init__(
        self,
        market: Market,
        source: str,
        user_id: UUID,
        fields: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.market = market
        self.source = source
        self.user_id = str(user_id)
        self.type = "perpetual" if market.symbol.endswith(PERPETUAL_SUFFIX) else "spot"
        self._name_hash = blake2b(f"{source}\0{market.symbol}\0".encode(), digest_size=16)
        self._fields = fields
        self._now = now

    def id_of(self, milliseconds: str, source_trade_id: str) -> str:
        """The 32 digits of ``ids.id_of_source``, at a third of its cost."""
        name = self._name_hash.copy()
        name.update(source_trade_id.encode())
        digest = name.hexdigest()
        return f"{int(milliseconds):012x}7{digest[13:16]}{VARIANT[digest[16]]}{digest[17:]}"

    def second(self, digits: str, months: set[Month]) -> str:
        """A second since 1970 as the beginning of a moment in SQL; notes its month.

        Raises ``ValidationError`` for one that is ahead of this machine's clock.
        """
        second = int(digits)
        if second > self._now() + AHEAD_MS_MAX / 1000:
            raise ValidationError(
                f"the time {digits} s since 1970 is more than {AHEAD_MS_MAX // 60_000} minutes ahead of this"
                " machine's clock.",
                field=self._fields["executed_at"],
            )
        moment = time.gmtime(second)
        months.add((moment.tm_year, moment.tm_mon))
        return time.strftime("%Y-%m-%d %H:%M:%S.", moment)

    def quote_of(self, base: str, price: str) -> str:
        """``base * price``, exact where the quote asset has the decimals for it, else the nearest of its units."""
        base_amount, _ = parse_amount(base, self._fields["base_amount"])
        price_amount, _ = parse_amount(price, "price", decimals_max=PRICE_DECIMALS_MAX)
        product = EXACT.multiply(base_amount, price_amount)
        rounded = product.quantize(smallest_unit(self.market.quote_decimals), context=ROUNDING)
        return checked_text(rounded, self._fields["quote_amount"], self.market.quote_decimals)

    def line(
        self,
        *,
        source_trade_id: str,
        side: str,
        base: str,
        quote: str,
        price: str,
        moment: str,
        sequence: int,
        months: set[Month],
    ) -> str:
        """A trade from texts that may be anything; ``ValidationError`` names the wrong one.

        ``moment`` is milliseconds or microseconds since 1970: 13 or 16 digits, which is 2001 to 2286 in both, so
        that one cannot be taken for the other.
        """
        base_amount, base_text = parse_amount(base, self._fields["base_amount"])
        quote_amount, quote_text = parse_amount(quote, self._fields["quote_amount"])
        price_amount, price_text = parse_amount(price, "price", decimals_max=PRICE_DECIMALS_MAX)
        try:
            check_amounts(self.market, base_amount, base_text, quote_amount, quote_text, price_amount, price_text)
        except ValidationError as error:
            field = self._fields.get(error.field, error.field)
            raise ValidationError(error.message, field=field, hint=error.hint) from None
        check_source_trade_id(source_trade_id)
        if UNIX_TIME.fullmatch(moment) is None:
            field = self._fields["executed_at"]
            raise ValidationError(
                f"{field} must be milliseconds (13 digits) or microseconds (16 digits) since 1970, got"
                f" {moment[:80]!r}.",
                field=field,
            )
        second = self.second(moment[:SECONDS_DIGITS], months)
        return copy_line(
            id=self.id_of(moment[:MS_DIGITS], source_trade_id),
            user_id=self.user_id,
            market_id=self.market.id,
            base_decimals=self.market.base_decimals,
            quote_decimals=self.market.quote_decimals,
            type=self.type,
            side=side,
            liquidity="taker",
            base_amount=base_text,
            quote_amount=quote_text,
            price=price_text,
            fee_amount="0",
            fee_asset_id=None,
            executed_at=f"{second}{moment[SECONDS_DIGITS:]}+00",
            sequence=sequence,
            match_id=None,
            order_id=None,
            source=self.source,
            source_trade_id=source_trade_id,
        )


class Sequences:
    """The order of trades within one moment: the source's number, else the order in which the file has them."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def of(self, source_trade_id: str, moment: str) -> int:
        """
        >>> sequences = Sequences()
        >>> [sequences.of(id, "1723161255342") for id in ("907", "b1", "b2")]
        [907, 0, 1]
        """
        number = whole_number(source_trade_id)
        if number is not None:
            return number
        ordinal = self._next.pop(moment, 0)
        self._next[moment] = ordinal + 1
        if len(self._next) > MOMENTS_REMEMBERED:
            del self._next[next(iter(self._next))]
        return ordinal


def whole_number(text: str) -> int | None:
    """The number, where it is one of 64 bits."""
    if WHOLE.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number < SEQUENCE_BOUND else None


def check_source_trade_id(id: str) -> None:
    if not 1 <= len(id) <= SOURCE_ID_LENGTH_MAX or "\0" in id:
        raise ValidationError(
            f"id must be a text of 1 to {SOURCE_ID_LENGTH_MAX} characters without NUL, got {id[:80]!r}.", field="id"
        )
    try:
        id.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"id has characters that are not valid Unicode: {id[:80]!r}.", field="id") from None

"""One line of CSV as its fields. A record is one line: a stray quote spoils its own line and no other."""

from __future__ import annotations

import csv

from novadex.errors import ValidationError


def split_line(line: str) -> list[str]:
    """
    >>> split_line('1,"a,b"')
    ['1', 'a,b']
    """
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValidationError(f"the line is no CSV: {error}.", field="line") from None

"""Import of trades from files: an exchange's public dumps, ccxt's trade lists, NovaDex's own CSV.

A thread reads and checks the file chunk by chunk while the event loop writes the chunk before it::

    source_file  ->  text_lines | json_elements  ->  binance | ccxt | novadex_csv  ->  chunks  ->  loading
    (bytes)          (bounded records)               (checked COPY lines)                         (PostgreSQL)

Every trade's id follows from the trade itself, so that a chunk may be written any number of times.
"""

from novadex.trading.importing.records import (
    FORMATS,
    ON_ERROR,
    FormatName,
    ImportFailedError,
    ImportReport,
    OnError,
    Progress,
)
from novadex.trading.importing.service import import_trades

__all__ = [
    "FORMATS",
    "ON_ERROR",
    "FormatName",
    "ImportFailedError",
    "ImportReport",
    "OnError",
    "Progress",
    "import_trades",
]

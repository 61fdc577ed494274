"""Which format a file has, by its content and never by its name."""

from __future__ import annotations

import pytest

from novadex.trading.importing.detection import Layout, layout_of
from novadex.trading.importing.records import FormatName, ImportFailedError

LINE = b"3735683259,61837.63,0.02,1236.7526,1723161255342,True,True\n"
NOVADEX = ("id", "user_id", "side", "base_amount", "quote_amount", "price")


@pytest.mark.parametrize(
    ("head", "layout"),
    [
        (LINE, Layout("binance", "no header")),
        (LINE.replace(b"\n", b"\r\n"), Layout("binance", "no header")),
        (b"\xef\xbb\xbf" + LINE, Layout("binance", "no header")),
        (b"1,2,3,6,1723161255342,false", Layout("binance", "no header")),
        (b"id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n" + LINE, Layout("binance", "header")),
        (b"ID, Price, Qty, Quote_Qty, Time, Is_Buyer_Maker\n", Layout("binance", "header")),
        (b'"id","price","qty","quote_qty","time","is_buyer_maker"\r\n', Layout("binance", "header")),
        (b' \n[{"id": 1}]', Layout("ccxt", "array")),
        (b'{"id": 1}\n', Layout("ccxt", "lines")),
        (",".join(NOVADEX).encode(), Layout("novadex", "header", NOVADEX)),
        (b"\xef\xbb\xbf" + ",".join(NOVADEX).encode() + b"\r\n", Layout("novadex", "header", NOVADEX)),
    ],
)
def test_the_content_says_the_format(head: bytes, layout: Layout):
    assert layout_of("file", head, "auto") == layout
    assert layout_of("file", head, layout.format) == layout


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n\x00\x00", "id,price".encode("utf-16"), b"\x00" * 100, bytes(range(256))]
)
def test_what_is_no_text_is_refused(head: bytes):
    for wanted in ("auto", "binance"):
        with pytest.raises(ImportFailedError, match="no UTF-8 text"):
            layout_of("file", head, wanted)


@pytest.mark.parametrize(
    "head",
    [b"hello\n", b"\n\n", b"1,2,3\n", b"a,b,c,d,e,f,g\n", b"1,2,3,4,5,6,True,True\n", b"timestamp,price\n", b'"'],
)
def test_an_unknown_format_asks_for_its_name(head: bytes):
    with pytest.raises(ImportFailedError, match="none of the known formats") as caught:
        layout_of("file", head, "auto")
    assert "--format" in str(caught.value)


@pytest.mark.parametrize("wanted", ["binance", "ccxt"])
def test_a_format_that_is_named_is_taken(wanted: FormatName):
    assert layout_of("file", b"hello\n", wanted).format == wanted

"""The rules of captures: what is applied, what is left out, and what is a gap."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest

from novadex.book.capture import LINE_BYTES_MAX, BadMessageError, DepthSnapshot, DepthUpdate, Ticker, lines, parse
from novadex.book.replay import Comparison, Replay
from tests.captures import Exchange


def replayed(captured: list[str]) -> Replay:
    """As the import does it, without a server."""
    replay = Replay(18)
    comparison = Comparison(replay.counts)

    def update(message: DepthUpdate) -> None:
        if replay.apply(message) is not None:
            assert replay.levels is not None
            best = [side.rows(1)[0] if len(side) else None for side in (replay.levels.bids, replay.levels.asks)]
            comparison.book(replay.sequence, replay.snapshot_id, (best[0], best[1]))

    for number, line in enumerate(captured, 1):
        message = parse(number, line.encode()).message
        if isinstance(message, Ticker):
            comparison.ticker(message)
        elif isinstance(message, DepthUpdate):
            update(message)
        elif isinstance(message, DepthSnapshot):
            for waiting in replay.begin(message):
                update(waiting)
    comparison.finish()
    return replay


@pytest.mark.parametrize("perpetual", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_whole_capture_leads_to_the_exchanges_book(perpetual: bool, seed: int):
    exchange = Exchange(seed, perpetual=perpetual)
    replay = replayed(exchange.lines())
    counts = replay.counts
    assert (counts.updates, counts.skipped, counts.gaps) == (295, 5, 0)
    assert counts.checkpoints == counts.checkpoints_equal == 295
    assert replay.levels is not None
    for side, theirs in ((replay.levels.bids, exchange.sides["bids"]), (replay.levels.asks, exchange.sides["asks"])):
        assert dict(side.rows()) == {
            f"{price.normalize():f}": f"{quantity.normalize():f}" for price, quantity in theirs.items()
        }


@pytest.mark.parametrize("perpetual", [False, True])
def test_a_missing_difference_is_a_gap_and_nothing_is_applied_onto_it(perpetual: bool):
    captured = Exchange(1, perpetual=perpetual).lines()
    depth = [n for n, line in enumerate(captured) if "depthUpdate" in line]
    del captured[depth[100]]
    replay = replayed(captured)
    assert (replay.counts.gaps, replay.counts.updates) == (1, 95)
    assert replay.counts.checkpoints == replay.counts.checkpoints_equal == 95
    assert not replay.in_step


def test_another_snapshot_ends_a_gap():
    first, second = Exchange(1), Exchange(1)
    captured = first.lines()
    depth = [n for n, line in enumerate(captured) if "depthUpdate" in line]
    state = Exchange(1, updates=120)
    state.lines()
    snapshot = json.dumps(state._snapshot(state.update_id))
    captured.insert(depth[130], snapshot)
    del captured[depth[100]]
    replay = replayed(captured)
    assert second.lines()  # the same seed, the same exchange
    assert (replay.counts.gaps, replay.counts.updates) == (1, 95 + 180)
    assert replay.counts.checkpoints_equal == replay.counts.checkpoints == 95 + 180
    assert replay.levels is not None
    assert len(replay.levels.bids) == len(first.sides["bids"])


def test_a_wrong_level_is_found_by_the_comparison_and_a_crossed_book_counted():
    captured = Exchange(2).lines()
    at = next(n for n, line in enumerate(captured) if "depthUpdate" in line and n > 200)
    head, _, text = captured[at].partition(" ")
    message = json.loads(text)
    message["data"]["b"].append(["5000.00000000", "1.00000000"])
    captured[at] = f"{head} {json.dumps(message)}"
    counts = replayed(captured).counts
    assert counts.crossed > 100
    assert counts.checkpoints - counts.checkpoints_equal == counts.crossed
    assert "5000" in counts.unequal[0]


def test_the_first_spot_difference_must_span_the_snapshot():
    def first(begins: int, ends: int) -> Replay:
        replay = Replay(8)
        replay.begin(DepthSnapshot(sequence=10, bids=[], asks=[]))
        replay.apply(DepthUpdate(first=begins, last=ends, bids=[], asks=[]))
        return replay

    assert [first(*ids).counts.gaps for ids in ((11, 11), (5, 11), (11, 20), (12, 20))] == [0, 0, 0, 1]
    assert first(5, 10).counts.skipped == 1


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b'1 {"lastUpdateId": "x", "bids": [], "asks": []}',
        b'{"lastUpdateId": 1, "bids": [["1"]], "asks": []}',
        b'{"e": "depthUpdate", "U": 1, "u": 2, "b": [[1, 2]], "a": []}',
        b'{"stream": "x", "data": {"e": "bookTicker", "u": 1}}',
        b"\xff\xfe",
        b'{"data": {"e": "depthUpdate"',
        b"9" * 40 + b' {"result": null}',
        b"9" * 5_000 + b' {"result": null}',
        b'9223372036854775808 {"result": null}',
        b'{"lastUpdateId": -5, "bids": [], "asks": []}',
        b'{"lastUpdateId": 9223372036854775808, "bids": [], "asks": []}',
        b'{"lastUpdateId": 1, "bids": [["0.000", "1"]], "asks": []}',
        b'{"e": "depthUpdate", "U": 1, "u": 9223372036854775808, "b": [], "a": []}',
        b'{"e": "depthUpdate", "U": -1, "u": 2, "b": [], "a": []}',
        b'{"e": "depthUpdate", "U": 1, "u": 2, "b": [], "a": [["0", "0"]]}',
        b'{"u": -1, "b": "1", "B": "1", "a": "2", "A": "1"}',
        b"{" + b" " * LINE_BYTES_MAX + b"}",
    ],
)
def test_a_line_that_cannot_be_understood_says_so(line: bytes):
    with pytest.raises(BadMessageError):
        parse(1, line)


@pytest.mark.parametrize("line", [b'{"stream": "x", "data": {"e": "trade"}}', b'{"result": null, "id": 1}', b"{}"])
def test_other_messages_are_passed_over(line: bytes):
    assert parse(1, line).message is None


def test_lines_keep_their_numbers():
    assert list(lines([b"a\n\n", b"b", b"c\nd"])) == [(1, b"a"), (3, b"bc"), (4, b"d")]


def test_the_largest_numbers_are_taken():
    found = parse(1, b'9223372036854775807 {"lastUpdateId": 9223372036854775807, "bids": [], "asks": []}')
    assert isinstance(found.message, DepthSnapshot)
    assert found.received_ns == found.message.sequence == 2**63 - 1


@pytest.mark.parametrize("filling", [b"x", b" "])
def test_a_line_that_is_too_long_is_left_out_whatever_its_length_and_what_follows_is_read(filling: bytes):
    def pieces() -> Iterator[bytes]:
        yield b"a\nb"
        for _ in range(1_000):
            yield filling * 65_536
        yield filling + b"\n\nc"

    tracemalloc.start()
    found = [(number, line if len(line) < 10 else None) for number, line in lines(pieces())]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(1, b"a"), (2, None), (4, b"c")]
    assert most < 4 * LINE_BYTES_MAX

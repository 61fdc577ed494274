"""Logs stay bounded, and their end can be read."""

import os

from novadex.local import logs


def test_a_log_that_grew_too_big_is_emptied_and_kept_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "SIZE_BYTES_MAX", 10)
    log = tmp_path / "main.log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for text in (b"first, long enough", b"second, long enough", b"third, long enough", b"last"):
        os.write(writer, text)
        logs.turn_over(log)
    os.close(writer)
    assert log.read_bytes() == b"last", "the server writes on into the same file"
    assert (tmp_path / "main.log.1").read_bytes() == b"third, long enough"
    assert (tmp_path / "main.log.2").read_bytes() == b"second, long enough"
    assert len(list(tmp_path.iterdir())) == 1 + logs.KEPT


def test_a_small_or_missing_log_is_left_alone(tmp_path):
    log = tmp_path / "main.log"
    logs.turn_over(log)
    log.write_text("little")
    logs.turn_over(log)
    assert list(tmp_path.iterdir()) == [log]


def test_the_tail_holds_the_last_lines_and_nothing_from_before(tmp_path):
    log = tmp_path / "main.log"
    log.write_text("of the last run\n")
    start = log.stat().st_size
    assert logs.tail(log, since=start) == []
    with log.open("a") as file:
        file.writelines(f"line {number}\n\n" for number in range(2000))
    assert logs.tail(log, since=start, lines=3) == ["line 1997", "line 1998", "line 1999"]
    assert logs.tail(log, since=10**9) == [], "after a turn-over, all that is left is newer"
    assert logs.tail(tmp_path / "none.log") == []

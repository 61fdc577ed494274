"""A keeper and a program that behaves badly: it dies, hangs, fails to start, loses its port."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from queue import Empty

import pytest

from novadex.errors import UnavailableError
from novadex.instance import Instance
from novadex.local import keeper as keeping
from novadex.local.announcer import Announcer
from novadex.local.desk import Desk, Failed, Usable
from novadex.local.keeper import Keeper
from novadex.local.ports import is_free
from novadex.local.programs import ProgramService, ProgramSpec
from novadex.local.service import Place
from tests.integration.local.running import lives, wait_for

PROGRAM = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Live(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

orders = os.path.join(os.path.dirname(__file__), "orders")
if os.path.exists(orders):
    left = int(open(orders).read())
    if left > 0:
        open(orders, "w").write(str(left - 1))
        sys.exit("told to fail")
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Live).serve_forever()
"""


class Listener:
    """A display that remembers."""

    def __init__(self, said):
        self.said = said

    def event(self, text):
        self.said.append(text)

    def changed(self, services):
        pass

    def up(self, services):
        pass


class Kept(Keeper):
    """A keeper whose thread the test begins."""

    begin: Callable[[], None]
    said: list[str]


@pytest.fixture
def kept(tmp_path):
    """The keeper of a program, not begun."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "logs").mkdir()
    instance = Instance("0123456789abcdef" + os.urandom(4).hex(), str(tmp_path), 18)
    said: list[str] = []
    announcer = Announcer(Listener(said))
    desk = Desk(tmp_path, instance, announcer)
    place = Place(instance.instance_id, tmp_path, tmp_path, None, {})
    spec = ProgramSpec("worker", (sys.executable, str(tmp_path / "program.py")), "PORT")
    service = ProgramService(spec, place, _free_port())
    service.needs = ()
    keeper = Kept(service, place, desk, {os.geteuid()})
    thread = threading.Thread(target=keeper.run)
    keeper.begin, keeper.said = thread.start, said
    yield keeper
    desk.stopping.set()
    with desk.start_lock:
        pass
    desk.hurry.set()
    keeper.halt()
    if thread.ident:
        thread.join(20)
    assert not thread.is_alive()
    announcer.close()
    assert keeper.process is None or not lives(keeper.process.pid)


def _free_port() -> int:
    with _listener() as port:
        return port


@contextmanager
def _listener():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _fail_next(keeper, count: int) -> None:
    (keeper.place.home / "orders").write_text(str(count))


def _first_message(keeper):
    try:
        return keeper.desk.inbox.get(timeout=30)
    except Empty:
        pytest.fail("the keeper said nothing")


def _await_restart(keeper, pid: int) -> int:
    def restarted():
        service = keeper.desk.instance.services["worker"]
        return service.status == "healthy" and service.process and service.process.pid != pid and service.process

    return wait_for(restarted, "restart").pid


def test_a_program_that_does_not_start_fails_with_the_last_lines_of_its_log(kept):
    _fail_next(kept, 100)
    kept.begin()
    message = _first_message(kept)
    assert isinstance(message, Failed)
    assert isinstance(message.error, UnavailableError)
    assert "ended with exit code 1" in str(message.error)
    assert "told to fail" in str(message.error)
    wait_for(lambda: len(kept.said) >= keeping.ATTEMPTS_MAX - 1, "words")
    assert sum("Trying again" in text for text in kept.said) == keeping.ATTEMPTS_MAX - 1


def test_a_program_that_starts_at_the_second_attempt_is_usable(kept):
    _fail_next(kept, 1)
    kept.begin()
    assert _first_message(kept) == Usable("worker")


def test_a_program_that_has_served_is_never_given_up(kept, monkeypatch):
    monkeypatch.setattr(keeping, "BACK_OFF_S", (0.0, 0.01, 0.02))
    kept.begin()
    assert _first_message(kept) == Usable("worker")
    pid = kept.process.pid
    _fail_next(kept, 3 * keeping.ATTEMPTS_MAX)
    os.kill(pid, signal.SIGKILL)
    _await_restart(kept, pid)
    said = "\n".join(kept.said)
    assert "was killed by SIGKILL" in said
    assert "starting it again in 0.02 s" in said, "it waits longer each time, up to a bound"
    assert "told to fail" in said, "after some failures the log is shown"
    assert kept.desk.inbox.empty(), "the supervisor goes on"


def test_a_program_that_hangs_is_ended_and_started_again(kept, monkeypatch):
    monkeypatch.setattr(keeping, "STUCK_S_MAX", 0.5)
    monkeypatch.setattr(keeping, "CHECK_S", 0.1)
    kept.begin()
    assert _first_message(kept) == Usable("worker")
    pid = kept.process.pid
    os.kill(pid, signal.SIGSTOP)
    _await_restart(kept, pid)
    assert not lives(pid)


def test_a_program_whose_port_was_lost_gets_another(kept):
    with _listener() as port:
        kept.service.port = port
        kept.begin()
        assert _first_message(kept) == Usable("worker")
        assert kept.service.port != port
        assert kept.desk.instance.services["worker"].port == kept.service.port
        assert not is_free(kept.service.port)


def test_the_answer_of_another_program_on_the_port_is_not_taken_for_ours(kept):
    kept.begin()
    assert _first_message(kept) == Usable("worker")
    assert kept.service.ready(kept.process.pid)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not kept.service.ready(other.pid)
        other.communicate(b"\n")


def test_a_program_is_started_again_when_the_address_of_a_server_changed(kept):
    kept.begin()
    assert _first_message(kept) == Usable("worker")
    pid = kept.process.pid
    kept.desk.restart_programs()
    _await_restart(kept, pid)


def test_a_stop_during_the_back_off_ends_the_keeper(kept, monkeypatch):
    monkeypatch.setattr(keeping, "BACK_OFF_S", (0.0, 600.0))
    kept.begin()
    assert _first_message(kept) == Usable("worker")
    _fail_next(kept, 100)
    os.kill(kept.process.pid, signal.SIGKILL)
    wait_for(lambda: any("in 600 s" in text for text in kept.said), "a long pause")

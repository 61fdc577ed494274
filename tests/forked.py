"""``novadex`` in processes that are forked from one which has imported what all commands need.

A new Python spends half a second of a core on imports before a command begins. Forked commands are processes of their
own all the same, with arguments, environment, folder and streams of their own: ``command_line()`` is what to run in
the place of ``python -m novadex.cli``. Tests that kill, stop or watch the process itself start a new Python.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from functools import cache
from pathlib import Path

import novadex.cli

LENGTH = struct.Struct("!I")
START_S_MAX = 30.0
PROGRAMS = re.compile(r"novadex\.(api|worker|.*__main__)\b")
"""Importing them is what no command does."""


@cache
def command_line() -> list[str]:
    """The beginning of a command; its arguments follow. What it forks from is started with the first one."""
    folder = Path(tempfile.mkdtemp(prefix=f"novadex-forked-{os.getpid()}-"))
    path = folder / "socket"
    server = subprocess.Popen([sys.executable, "-m", "tests.forked", str(path)], stdin=subprocess.PIPE)

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()  # it ends with its standard input, and so with this process
        server.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    deadline = time.monotonic() + START_S_MAX
    while not path.exists():
        assert server.poll() is None, "it ended before it listened"
        assert time.monotonic() < deadline, "it did not listen in time"
        time.sleep(0.01)
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("forked_client.py")), str(path)]


def serve(path: str) -> None:
    """Fork for everybody who connects, until standard input ends."""
    for module in pkgutil.walk_packages(novadex.__path__, "novadex."):
        if not PROGRAMS.match(module.name):
            importlib.import_module(module.name)
    novadex.cli.parser()
    gc.collect()
    gc.freeze()  # collections in the forks leave what all share alone, and need not copy it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{path}.new")
    listener.listen(64)
    Path(f"{path}.new").rename(path)
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(connection)
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Run a command for who is connected, and tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    with connection.makefile("rb") as rest:
        wanted = json.loads(rest.read(LENGTH.unpack(head)[0]))
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Those of the process that was forked know what kind of file they had.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        code = _run(**wanted)
        # As the interpreter ends, but for taking apart hundreds of modules, which takes longer than most commands.
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    readable, _, _ = select.select([connection, ended], [], [])
    if ended not in readable:  # whoever waited is gone
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended in readable:
        connection.sendall(bytes([code if code >= 0 else 128 - code]))


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> int:
    from novadex.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["novadex", *arguments]
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])

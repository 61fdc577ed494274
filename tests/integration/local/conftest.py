"""Local instances: ``make_local()`` makes one in a folder of its own, ``shared`` is one for many tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.local.running import Local
from tests.servers import server_folder


@pytest.fixture(scope="session")
def make_local() -> Iterator[Callable[[], Local]]:
    """Makes a local instance that has not been started; at the end nothing of it is left."""
    with ExitStack() as stack:

        def make() -> Local:
            folder = server_folder("novadex-local-", in_memory=True)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            local = Local(folder / "data")
            stack.callback(local.remove)
            return local

        yield make


@pytest.fixture(scope="session")
def shared_local(make_local: Callable[[], Local]) -> Local:
    """One instance for the tests of this folder; some of them stop it."""
    made = make_local()
    made.up()
    return made


@pytest.fixture
def shared(shared_local: Local) -> Local:
    """The shared instance, up."""
    if not shared_local.running():
        shared_local.up()
    return shared_local


@pytest.fixture
def local(make_local: Callable[[], Local]) -> Iterator[Local]:
    """This test's own instance, not started."""
    made = make_local()
    yield made
    made.remove()

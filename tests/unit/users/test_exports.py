"""The services are at the top of the package, and importing it imports none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import novadex


@pytest.mark.parametrize("name", novadex.__all__)
def test_every_name_of_the_package_is_there(name: str):
    assert getattr(novadex, name).__name__ == name


def test_the_package_itself_imports_no_driver():
    code = "import sys, novadex; print(sorted({'psycopg', 'redis', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="Nothing"):
        _ = novadex.Nothing

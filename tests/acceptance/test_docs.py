"""What the documents say is carried out, word for word: the README and the quickstart on a new instance, the how-tos
on one that was up before.

Blocks marked ``sh`` and ``python`` are run in order; a ``text`` block after one is what it prints. ``console``
blocks stay in the foreground or run this suite, and are shown only. Commands of the how-tos are forked.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import command_line
from tests.servers import server_folder

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NOVADEX = Path(sys.executable).with_name("novadex")


def blocks(document):
    return [(match["kind"], match["text"]) for match in BLOCK.finditer((ROOT / document).read_text(encoding="utf-8"))]


def carried_out(kind, text, environment, novadex):
    for name, value in re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE) if kind == "sh" else ():
        environment[name] = value.replace("$HOME", environment["HOME"])
    if kind == "python":
        command = [sys.executable, "-c", text]
    else:
        text = text.replace(".venv/bin/novadex", novadex).replace("make setup\n", "")
        port = environment.get("API_PORT")
        command = ["bash", "-euo", "pipefail", "-c", text.replace(":3000", f":{port}") if port else text]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def used_instance():
    """The folder of an instance that was up and is down."""
    folder = server_folder("novadex-docs-", in_memory=True)
    environment = os.environ | {"NOVADEX_DATA_DIR": str(folder / "instance")}
    try:
        for command in (["up", "--detach"], ["down"]):
            subprocess.run([NOVADEX, *command], env=environment, check=True, capture_output=True, timeout=120)
        yield folder / "instance"
    finally:
        subprocess.run([NOVADEX, "down"], env=environment, check=False, capture_output=True, timeout=120)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/quickstart.md",
        "docs/how-to/sign-in.md",
        "docs/how-to/sessions.md",
        "docs/how-to/users.md",
        "docs/how-to/audit.md",
        "docs/how-to/orders.md",
        "docs/how-to/book.md",
        "docs/how-to/notifications.md",
        "docs/how-to/portfolio.md",
        "docs/how-to/liquidity.md",
        "docs/how-to/simulate.md",
        "docs/how-to/reconcile.md",
    ],
)
def test_the_words_of_the_document_lead_where_they_say(document, request):
    folder = server_folder("novadex-docs-", in_memory=True)
    environment = os.environ | {"NOVADEX_DATA_DIR": str(folder / "instance"), "HOME": str(folder)}
    novadex = str(NOVADEX)
    if "how-to" in document:
        novadex = shlex.join(command_line())
        # With owners, as the servers' user is another one where this runs as root.
        subprocess.run(["/bin/cp", "-a", request.getfixturevalue("used_instance"), folder], check=True)
    try:
        ran = None
        for kind, text in blocks(document):
            if kind == "text":
                assert ran is not None, "a text block follows what prints it"
                assert ran.stdout.rstrip() == text.rstrip()
            elif kind in {"sh", "python"}:
                ran = carried_out(kind, text, environment, novadex)
                assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
                if "up --detach" in text:
                    environment["API_PORT"] = api_port(environment)
        assert ran is not None
    finally:
        subprocess.run([NOVADEX, "down"], env=environment, check=True, capture_output=True, timeout=120)
        shutil.rmtree(folder)


def api_port(environment):
    status = subprocess.run(
        [NOVADEX, "status", "--json"], env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return re.findall(r'"url": "http://127\.0\.0\.1:(\d+)"', status.stdout)[0]


@pytest.mark.parametrize("document", sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")))
def test_a_page_uses_no_variable_that_it_does_not_set(document):
    """Who follows the page alone would write somewhere else."""
    commands = "".join(text for kind, text in blocks(document) if kind in {"sh", "console"})
    used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", commands))
    assert used <= {"HOME", "PWD", "USER", *re.findall(r"\b(\w+)=", commands)}


def test_every_link_of_the_documents_leads_somewhere():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"

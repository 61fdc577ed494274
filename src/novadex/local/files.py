"""Folders and files of the instance, made with the right owner and permissions and never through a link.

Folders that the server user owns are written to as root: new files are opened exclusively and put in place
by a rename, so that a link planted there leads nowhere.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from novadex.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and its group, by number."""

    uid: int
    gid: int


def make_folder(path: Path, mode: int, owner: Owner | None = None) -> None:
    """Make the folder where it is missing; one that is there must belong to the right user, and stays as it is.

    Raises ``ConfigurationError`` where something else stands there.
    """
    uid = owner.uid if owner else os.geteuid()
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            what = f"belongs to user {found.st_uid}" if stat.S_ISDIR(found.st_mode) else "is no folder"
            raise ConfigurationError(
                f"{path} should be a folder of user {uid}, but it {what}.",
                hint="Move it away, or choose another folder with --data-dir.",
            ) from None
        return
    path.chmod(mode)  # mkdir leaves out what the umask names
    if owner and owner.uid != os.geteuid():
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def write_private(path: Path, text: str, owner: Owner | None = None) -> None:
    """Replace the file in one step, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if owner and owner.uid != os.geteuid():
            os.fchown(file.fileno(), owner.uid, owner.gid)
        file.write(text)
    temporary.replace(path)

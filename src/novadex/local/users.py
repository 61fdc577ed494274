"""Whom the servers run as. PostgreSQL refuses root, so root starts them as an unprivileged user."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from novadex.errors import ConfigurationError
from novadex.local.files import Owner


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The unprivileged user of the servers, with all its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @property
    def owner(self) -> Owner:
        return Owner(self.uid, self.gid)


def server_user(wanted: str | None, recorded: str | None) -> ServerUser | None:
    """As root, the user that the servers run as; None as a normal user, whose servers are its own.

    ``wanted`` is NOVADEX_SERVER_USER, ``recorded`` the user that the instance's files belong to already.
    """
    if os.geteuid() != 0:
        return None
    if wanted and recorded and wanted != recorded:
        raise ConfigurationError(
            f"NOVADEX_SERVER_USER is {wanted}, but the servers' files of this instance belong to {recorded}.",
            hint=f"Unset NOVADEX_SERVER_USER or set it to {recorded}, or start with another --data-dir.",
        )
    name = wanted or recorded or ("novadex" if _find("novadex") else "nobody")
    entry = _find(name)
    if entry is None:
        raise ConfigurationError(
            f"There is no user {name} on this machine, and the servers cannot run as root.",
            hint="Create one (useradd --system novadex), or name an existing one in NOVADEX_SERVER_USER.",
        )
    if entry.pw_uid == 0:
        raise ConfigurationError(
            f"NOVADEX_SERVER_USER is {name}, which is root: PostgreSQL refuses to run as root.",
            hint="Name an unprivileged user, or unset it.",
        )
    return ServerUser(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def reachable(folder: Path, user: ServerUser) -> bool:
    """Whether the user can enter the folder and nobody but root can put another in its place."""
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        try:
            found = place.stat()
        except FileNotFoundError:
            continue  # we will make it
        if not _may_enter(found, user):
            return False
        open_to_others = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or open_to_others:
            return False
    return True


def _may_enter(found: os.stat_result, user: ServerUser) -> bool:
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.gid or found.st_gid in user.groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)

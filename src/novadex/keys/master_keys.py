"""The master keys of this process: from the setting, else from the file."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novadex import metrics
from novadex.errors import ConfigurationError, KeyUnknownError
from novadex.keys.encryption import MasterKey
from novadex.keys.master_key_file import FILE_NAME, read_key_file
from novadex.settings import Settings, master_keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from novadex.storage.rows import Row

EXAMPLE_OF_DOCUMENTATION = bytes(range(32))


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All versions that are here, and where they come from."""

    versions: dict[int, MasterKey]
    source: str
    """The name of the setting, or the path of the file."""
    from_file: Path | None

    @property
    def newest(self) -> int:
        return max(self.versions)

    def known(self, version: int) -> MasterKey:
        """Raises ``KeyUnknownError`` where the version is not among them."""
        found = self.versions.get(version)
        if found is None:
            raise KeyUnknownError(
                f"Master key {version} is not known here: {self.source} has"
                f" {', '.join(map(str, sorted(self.versions)))}.",
                hint="Copy it from where the keys were rotated, or from the copy of the keys."
                if self.from_file
                else f"Put {version}:BASE64 into NOVADEX_MASTER_KEYS, and start the program again.",
                version=version,
            )
        return found


def master_key_path(settings: Settings, data_dir: Path | None) -> Path | None:
    """Where the file is or would be; None where the keys come from the setting, or where there is no place."""
    if settings.master_keys is not None:
        return None
    if settings.master_key_file is not None:
        return settings.master_key_file.expanduser().absolute()
    return data_dir / FILE_NAME if data_dir is not None else None


def load_master_keys(settings: Settings, data_dir: Path | None) -> MasterKeys:
    """Read them. It reads a file: call it off the event loop.

    Raises ``ConfigurationError`` where there are none, or where they are wrong.
    """
    path = master_key_path(settings, data_dir)
    if settings.master_keys is not None:
        source, found = "NOVADEX_MASTER_KEYS", master_keys_of(settings.master_keys)
    elif path is not None:
        source, found = str(path), read_key_file(path)
    else:
        raise ConfigurationError(
            "There are no master keys, which encrypt personal data.",
            hint="Set NOVADEX_MASTER_KEYS or NOVADEX_MASTER_KEY_FILE.",
        )
    if EXAMPLE_OF_DOCUMENTATION in found.values():
        raise ConfigurationError(
            f"The master key in {source} is the example of the documentation, which everybody knows.",
            hint="Make one of your own: openssl rand -base64 32",
        )
    metrics.master_key_loads.inc()
    return MasterKeys({version: MasterKey(version, key) for version, key in found.items()}, source, path)


def compare_with_database(masters: MasterKeys, rows: Iterable[Row]) -> None:
    """Raise ``ConfigurationError`` where a key here is another than the one of that number in ``master_keys``."""
    for row in rows:
        key = masters.versions.get(row.version)
        if key is not None and not hmac.compare_digest(key.check_value, row.check_value):
            raise ConfigurationError(
                f"Master key {row.version} in {masters.source} is another key than master key {row.version} of"
                " this database.",
                hint="Restore the file or setting that belongs to this database: nothing opens with another.",
            )

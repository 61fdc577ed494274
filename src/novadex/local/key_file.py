"""The master keys of a local instance: made once, in the data folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from novadex.instance import Instance, write_instance
from novadex.keys.master_key_file import make_key_file
from novadex.keys.master_keys import master_key_path
from novadex.settings import Settings


def keep_master_keys(data_dir: Path, instance: Instance, settings: Settings, say: Callable[[str], None]) -> None:
    """Make the file of the master keys where this instance never had one. A file that was lost is not replaced:
    what is encrypted does not open with other keys, and everything else works without.

    Raises ``ConfigurationError`` where the file is open to others, or not what it should be.
    """
    path = master_key_path(settings, data_dir)
    if path is None:
        return
    if instance.master_keys_made and not path.exists():
        say(
            f"The master keys are lost: {path} is missing. Restore it from its copy; until then nobody can read or"
            " write personal data."
        )
        return
    if make_key_file(path):
        say(f"Made the master keys of personal data in {path}: keep a copy elsewhere.")
    if not instance.master_keys_made:
        instance.master_keys_made = True
        write_instance(data_dir, instance)

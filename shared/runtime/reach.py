"""What a run or a request may name on this machine and on the hub: the folders of its files, and whether downloads."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.runtime.settings import Settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reach:
    """The folders below which models, judges and prompts may be, links followed; None stands for any place."""

    folders: tuple[Path, ...] | None = None
    hub: bool = True

    @classmethod
    def of(cls, settings: Settings, *, keyed: bool) -> Self:
        """What the settings allow. What they leave open is open to a user's own services, which have no key.

        Who has keys is asked by others: they name nothing that the operator has not allowed.
        """
        folders, hub = settings.allowed_paths, settings.allow_hub
        return cls(() if folders is None and keyed else folders, not keyed if hub is None else hub)

    def check(self, named: str, *, hub: bool = False) -> None:
        """ValueError, with the setting that would allow it, for a path out of reach.

        Where `hub` says that it may be a hub id, what looks like one and is no path here is one.
        """
        if hub and _HUB_ID.fullmatch(named) and not _exists(named):
            self.check_hub(named)
        elif self.folders is not None and not any(_below(named, folder) for folder in self.folders):
            places = ", ".join(map(str, self.folders)) or "any folder, as none is allowed"
            raise ValueError(f"{named} is not below {places}: the service's INPO_ALLOWED_PATHS allows more")

    def check_hub(self, name: str) -> None:
        """ValueError where nothing may be had from the hub."""
        if not self.hub:
            raise ValueError(f"{name} would be had from the hub, which the service's INPO_ALLOW_HUB=true allows")


def _exists(named: str) -> bool:
    try:
        return Path(named).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # a name that no file system takes, a home that is not known
        return False


def _below(named: str, folder: Path) -> bool:
    try:
        return Path(named).expanduser().resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False

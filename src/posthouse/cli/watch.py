"""Which files of a program have changed: looks at the times of all below a folder, twice a second.

No dependency, and the same on every system and in containers, where notifications are often lost.
What others made (hidden folders, environments, caches) is not looked at.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Final

from posthouse.runtime.settings import FILE_NAME

if TYPE_CHECKING:
    from posthouse.clock import Seconds

INTERVAL: Final[Seconds] = 0.5
MOST: Final = 10_000
"""So many files are looked at, at most: a program in a home directory must not make us read all of it."""

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


class Watch:
    """Compares what is below a folder with what was there before."""

    def __init__(self, folder: Path, also: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._also = tuple(also)
        self._seen = self._snapshot()

    def look(self) -> list[str]:
        """Return the files that were changed, made or removed since the last look; drop what was compiled of them.

        Python takes what it has compiled for good while time (in whole seconds) and size of the source
        are the same, which a quick change of a word by another leaves as they are.
        """
        before, self._seen = self._seen, self._snapshot()
        changed = {path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path)}
        for path in changed:
            if path.endswith(".py"):
                Path(cache_from_source(path)).unlink(missing_ok=True)
        return sorted(os.path.relpath(path, self._folder) for path in changed)

    async def changed(self) -> list[str]:
        """Wait for a change, and return the files."""
        while True:
            await asyncio.sleep(INTERVAL)
            if files := await asyncio.to_thread(self.look):
                return files

    def _snapshot(self) -> dict[str, tuple[int, int, int]]:
        seen: dict[str, tuple[int, int, int]] = {}
        for path in self._files():
            try:
                found = os.stat(path)
            except OSError:
                continue  # gone between the listing and now: it is missing from the snapshot, as it should be
            seen[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
            if len(seen) >= MOST:
                break
        return seen

    def _files(self) -> Iterator[str]:
        yield from map(str, self._also)
        for folder, folders, files in os.walk(self._folder):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".")
                and name not in _SKIPPED
                and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            )
            for name in files:
                if name.endswith(".py") or name == FILE_NAME:
                    yield os.path.join(folder, name)

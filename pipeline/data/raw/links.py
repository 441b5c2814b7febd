"""Members of an archive: names kept inside it, links followed within it."""

from __future__ import annotations

import posixpath
from bisect import bisect_left

from pipeline.core.errors import UserError
from pipeline.data.raw.blobs import DANGLING, SPECIAL, Blob, Tree, visible_tree

LEADS_OUT = "link that leads out of the archive"


MAX_HOPS = 40
"""Links that lead to one another, as Linux counts them."""


MAX_LINKED = 1_000_000
"""Files that links to folders may add: some links to a large folder must not multiply it without end."""


class Members:
    """Collects the members of the archive called ``archive``, then resolves the links among them."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.blobs: dict[str, Blob] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()
        self.skipped: dict[str, str] = {}

    def add(self, name: str, blob: Blob) -> None:
        """Add a file.

        Raises:
            UserError: a name that leads out of the archive or occurs twice; so for all that is added.
        """
        self.blobs[self._new(name)] = blob

    def add_folder(self, name: str) -> None:
        """Add a folder; it may occur again."""
        self.folders.add(self._inside(name))

    def add_link(self, name: str, target: str, hard: bool = False) -> None:
        """Add a link to ``target``: a name in the archive, or for a symbolic link one relative to the link's folder."""
        path = self._new(name)
        self.links[path] = target if hard else posixpath.join(posixpath.dirname(path), target)

    def skip(self, name: str) -> None:
        """Add what is neither file, folder nor link."""
        self.skipped[self._new(name)] = SPECIAL

    def tree(self) -> Tree:
        """Return the files, those that links lead to under the links' names too."""
        found = dict(self.blobs)
        names = sorted(self.blobs)
        linked = 0
        for name in self.links:
            target = self._target(name)
            if target in self.blobs:
                found[name] = self.blobs[target]
            elif target.startswith(("/", "..")):
                self.skipped[name] = LEADS_OUT
            elif inside := names[bisect_left(names, f"{target}/") : bisect_left(names, f"{target}0")]:
                linked += len(inside)  # "0" follows "/" in ASCII: these are the names below the target
                if linked > MAX_LINKED:
                    raise UserError(
                        f"{self.archive}: its links to folders add over {MAX_LINKED} files; unpack it"
                    )
                found.update({name + path[len(target) :]: self.blobs[path] for path in inside})
            else:
                self.skipped[name] = DANGLING
        return visible_tree(found, self.skipped, self.folders)

    def _target(self, name: str) -> str:
        """Return the path that the link ``name`` leads to in the end."""
        target = name
        for _ in range(MAX_HOPS):
            if target not in self.links:
                break
            target = posixpath.normpath(self.links[target].replace("\\", "/"))
        return target

    def _new(self, name: str) -> str:
        path = self._inside(name)
        if path in self.blobs or path in self.links or path in self.skipped:
            raise UserError(f"{self.archive}: member {name!r} occurs twice; the archive is ambiguous")
        return path

    def _inside(self, name: str) -> str:
        path = name.replace("\\", "/")
        if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
            raise UserError(
                f"{self.archive}: member {name!r} leads out of the archive; do not trust this file"
            )
        return posixpath.normpath(path)

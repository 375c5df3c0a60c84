"""The service "modules": gives hosts the user's own modules. What may be given away: `modules`.

Methods, and what their requests and replies hold:

- ``find``: a module's name; a line of JSON (kind, files, install, reason), then the source text.
- ``data``: JSON, a package's name and the path of a file in it; the file's content.
- ``list``: JSON, a package's name and ""; JSON, the names of the files in its folder.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

from pool_client.services.installed import installed_folders, requirements
from pool_client.services.modules import MISSING, Finder, Found, script_folder
from pool_client.side_thread import SideThread
from pool_protocol import Buffer


class ModuleService:
    """Answers requests in a thread of its own: a file may lie on a slow disk.

    Args:
        code_paths: Further folders from which modules may be given away.
    """

    def __init__(self, code_paths: Sequence[str] = ()) -> None:
        self._code_paths = list(code_paths)
        self._thread = SideThread("pool-modules")
        roots = [*self._code_paths, script_folder(sys.modules.get("__main__"))]
        with suppress(OSError):  # it was removed
            roots.append(os.getcwd())
        self._finder = Finder([root for root in roots if root], self._search, installed_folders())

    def answer(self, method: str, blob: Buffer) -> Awaitable[bytes]:
        """Handle a request, on a running loop."""
        return asyncio.wrap_future(self._thread.submit(self._answer, method, bytes(blob)))

    def close(self) -> None:
        """No more requests will come."""
        self._thread.close()

    def _answer(self, method: str, blob: bytes) -> bytes:
        if method == "find":
            return _pack(self._finder.find(name := blob.decode()), name)
        if method == "data":
            return self._finder.data(*json.loads(blob))
        if method == "list":
            return json.dumps(self._finder.names(json.loads(blob)[0])).encode()
        raise LookupError(f"the service of modules has no method {method!r}")

    def _search(self, top: str) -> list[str]:
        """Where the client itself looks, beginning with where it has found the module."""
        folders = [*self._code_paths, *(path or os.curdir for path in sys.path)]
        spec = _spec(top)
        origin = getattr(spec, "origin", None)
        if isinstance(origin, str) and os.path.isfile(origin):
            is_package = spec.submodule_search_locations is not None
            folder = os.path.dirname(os.path.abspath(origin))
            folders.insert(0, os.path.dirname(folder) if is_package else folder)
        return folders


def _spec(top: str) -> Any:
    """How a module was found that is loaded here; None for one that is not."""
    try:
        # Not getattr: to look at a module that is to be loaded lazily would load it.
        return object.__getattribute__(sys.modules[top], "__spec__")
    except (KeyError, AttributeError):
        return None


def _pack(found: Found, name: str) -> bytes:
    install: list[str] = []
    reason = found.reason
    if found.kind == MISSING and found.installed:
        install = requirements(name)
        if not install:
            reason = f"the client's is installed as {found.files[0]}, and that is not sent"
    head = {"kind": found.kind, "files": found.files, "install": install, "reason": reason}
    return json.dumps(head).encode() + b"\n" + found.source

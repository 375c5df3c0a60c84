"""The user's own modules, for workers on hosts that do not have them.

Only modules below the *roots* are given away: the script's folder, the working directory and the
folders in ``code_paths``. Whatever is installed is not, wherever it lies: a host may run another
system, and a copy of half a package would be worse than an error that names the whole. No link
leads out of the roots.

Looks at files, and at nothing else.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

MODULE, PACKAGE, NAMESPACE, MISSING = "module", "package", "namespace", "missing"

#: A compiled module of any Python, on any system.
_COMPILED = tuple({*EXTENSION_SUFFIXES, ".so", ".pyd", ".dylib"})
_INSTALLED_NAMES = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a module.

    ``files`` is the path of its source, or the folders of a namespace package; ``source`` is the
    text as it is in the file; ``reason`` says why nothing is given away, and ``installed`` that it
    is because it is an installed package.
    """

    kind: str
    files: tuple[str, ...] = ()
    source: bytes = field(default=b"", repr=False)
    reason: str = ""
    installed: bool = False


class Finder:
    """Finds modules below some folders.

    Args:
        roots: The folders.
        search: Gives the folders in which the client looks for the module of a name without dots,
            in this order; they need not be below the roots.
        installed: Folders whose modules are not the user's own, wherever the roots are.
    """

    def __init__(
        self,
        roots: Iterable[str],
        search: Callable[[str], Sequence[str]],
        installed: Iterable[str] = (),
    ) -> None:
        self._roots = [os.path.realpath(root) for root in roots]
        self._search = search
        self._installed = [os.path.realpath(folder) for folder in installed]

    def __repr__(self) -> str:
        return f"<Finder below {', '.join(self._roots)}>"

    def find(self, name: str) -> Found:
        """Look for a module.

        Args:
            name: Its full name, with dots.

        Returns:
            What there is of it; ``missing`` with a reason if it is not there or not given away.
        """
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return Found(MISSING, reason=f"{name!r} is no module's name")
        if parts[0] in sys.stdlib_module_names:
            return Found(MISSING, reason="it belongs to Python itself")
        places = [*dict.fromkeys([*self._search(parts[0]), *self._roots])]
        for part in parts[:-1]:
            found = self._look(places, part)
            if found.kind == MISSING:
                return found
            places = [file.removesuffix("__init__.py") for file in found.files]
        return self._read(self._look(places, parts[-1]))

    def _look(self, places: Iterable[str], part: str) -> Found:
        """As the import system looks: the first folder that has it, and namespaces last."""
        portions = []
        refused = None
        for place in places:
            path = os.path.join(place, part)
            package = os.path.join(path, "__init__.py")
            if os.path.isfile(package):
                return self._permitted(PACKAGE, package)
            if os.path.isfile(path + ".py"):
                return self._permitted(MODULE, path + ".py")
            compiled = _compiled(place, part)
            if compiled is not None:
                found = self._permitted(MODULE, compiled)
                if found.kind == MISSING:
                    return found
                reason = f"the client's is compiled ({compiled}), and only source text is sent"
                return Found(MISSING, reason=reason)
            if os.path.isdir(path) and not os.path.exists(os.path.join(path, "pyvenv.cfg")):
                portion = self._permitted(NAMESPACE, path)
                refused = refused or portion
                if portion.kind == NAMESPACE:
                    portions.append(path)
        if portions:
            return Found(NAMESPACE, tuple(portions))
        return refused or Found(MISSING, reason="the client finds none either")

    def _permitted(self, kind: str, path: str) -> Found:
        real = os.path.realpath(path)
        if self.is_installed(real):
            return Found(MISSING, (path,), reason="the client has it installed", installed=True)
        if any(_is_below(real, root) for root in self._roots):
            return Found(kind, (path,))
        folder = os.path.dirname(real.removesuffix(os.sep + "__init__.py"))
        reason = (
            f"the client's lies in {folder}, outside of the script's folder and the working "
            f"directory: give Pool code_paths=[{folder!r}]"
        )
        return Found(MISSING, (path,), reason=reason)

    def is_installed(self, path: str) -> bool:
        """Does a path without links in it belong to what is installed?"""
        if not _INSTALLED_NAMES.isdisjoint(path.split(os.sep)):
            return True
        return any(_is_below(path, folder) for folder in self._installed)

    def _read(self, found: Found) -> Found:
        if found.kind not in (PACKAGE, MODULE):
            return found
        try:
            source = Path(found.files[0]).read_bytes()
        except OSError as error:
            return Found(MISSING, reason=f"the client's cannot be read: {error}")
        return Found(found.kind, found.files, source)

    # -- what lies beside a package's modules

    def data(self, name: str, path: str) -> bytes:
        """The content of a file of a package.

        Args:
            name: The package's full name.
            path: The file's path below the package's folder, with slashes.

        Raises:
            OSError: There is no such file, or it is not given away.
        """
        file = os.path.realpath(os.path.join(self._folder(name), *path.split("/")))
        if not _is_below(file, os.path.realpath(self._folder(name))):
            raise PermissionError(f"{path} is not in the package's folder")
        if self.is_installed(file) or any(part.startswith(".") for part in path.split("/")):
            raise PermissionError(f"{path} is not given away")
        return Path(file).read_bytes()

    def names(self, name: str) -> list[str]:
        """The names of the files in a package's folder. Raises OSError."""
        with os.scandir(self._folder(name)) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        return sorted(name for name in names if not name.startswith("."))

    def _folder(self, name: str) -> str:
        found = self.find(name)
        if found.kind != PACKAGE:
            raise FileNotFoundError(f"the client sends no package {name}")
        return os.path.dirname(found.files[0])


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _compiled(place: str, part: str) -> str | None:
    """The compiled module of a name in a folder, also that of another Python."""
    try:
        names = os.listdir(place)
    except OSError:
        return None
    for name in names:
        if name.startswith(part + ".") and name.endswith(_COMPILED):
            return os.path.join(place, name)
    return None


def script_folder(main: ModuleType | None) -> str | None:
    """The folder from which the main module's own imports come, if it has one.

    Args:
        main: ``sys.modules["__main__"]``. With ``python -m a.b`` it lies so many folders below.
    """
    file = getattr(main, "__file__", None)
    if not file:
        return None
    folder = Path(os.path.abspath(file)).parent
    spec = getattr(main, "__spec__", None)
    for _ in range(spec.name.count(".") if spec is not None else 0):
        folder = folder.parent
    return str(folder)

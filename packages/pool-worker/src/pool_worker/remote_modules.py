"""Modules that this host does not have and the pool's client does: the user's own.

A finder at the end of ``sys.meta_path`` asks the client for what nothing else has found. So what
is installed on the host wins, as it does in a process that is started there by hand; a copy of the
user's module that somebody left on the host hides the client's. Where such a copy lacks something
that the client's has, the error says so; where it merely is old, nobody can tell: do not install
on a host what is still being changed.

What the client sends is source text, which becomes a module with ``__file__`` "client:" and its
path there. Whatever the client does not send, installed packages above all, ends in an error that
says what to install and where.
"""

import json
import sys
import time
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from io import BytesIO
from types import CodeType, FrameType, ModuleType
from typing import IO, Any, NamedTuple, Protocol

from pool_worker.services import ServiceError, Services
from pool_worker.settings import Settings

SERVICE = "modules"
MISSING = "missing"
#: In front of a path that is the client's.
MARK = "client:"
#: Seconds for which the client's answer that there is no such module is believed. An import that is
#: only tried, perhaps in every task, then costs next to nothing.
_BELIEVED = 1.0


class Asks(Protocol):
    """`Services`, or in a test something like it."""

    def call(self, service: str, method: str, blob: bytes = b"") -> bytes:
        """Ask the client."""


class Answer(NamedTuple):
    """What the client says of a module.

    ``kind`` is module, package, namespace, or missing; ``files`` is the path of its source, or the
    folders of a namespace; ``install`` names what would have to be installed, and ``reason`` says
    why it was not sent.
    """

    kind: str
    files: list[str]
    install: list[str]
    reason: str
    source: bytes


class ClientFinder:
    """Finds modules at the client.

    Args:
        asks: The way to the client.
        host: How messages name this host.
    """

    def __init__(self, asks: Asks, host: str) -> None:
        self._asks = asks
        self._host = host
        self._missing: dict[str, tuple[float, Answer]] = {}

    def __repr__(self) -> str:
        return f"<ClientFinder on host {self._host}>"

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Part of the import system: the module called ``name``, or None.

        Raises:
            ModuleNotFoundError: In an import: there is no such module, and the text says what to
                do about it. `importlib.util.find_spec` gets None instead.
        """
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return None
        hiding = _hiding(name)
        if hiding is None:
            answer = self._ask(name)
            if answer.kind != MISSING:
                return _spec(name, answer, self._asks)
        elif MISSING in (self._ask(top).kind, (answer := self._ask(name)).kind):
            return None  # a package of the host's, which lacks something: not our affair
        later = self._found_later(name, path, target)
        if later is None and _is_import(sys._getframe(1)):
            raise ModuleNotFoundError(self._explain(name, answer, hiding), name=name)
        return later

    def _found_later(self, name: str, path: object, target: ModuleType | None) -> ModuleSpec | None:
        """What finders have found that others have put behind this one."""
        finders = sys.meta_path
        place = finders.index(self) if self in finders else len(finders)
        for finder in finders[place + 1 :]:
            spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]  # passed on as is
            if spec is not None:
                return spec
        return None

    def _ask(self, name: str) -> Answer:
        now = time.monotonic()
        top = name.partition(".")[0]
        for known in (top, name):
            since, answer = self._missing.get(known, (0.0, None))
            if answer is not None and now < since + _BELIEVED:
                return answer
        try:
            answer = _unpack(self._asks.call(SERVICE, "find", name.encode()))
        except ServiceError as error:
            answer = Answer(MISSING, [], [], f"and the client could not be asked: {error}", b"")
        if answer.kind == MISSING:
            self._missing[name] = (time.monotonic(), answer)
        return answer

    def _explain(self, name: str, answer: Answer, hiding: str | None) -> str:
        text = f"No module named {name!r} on host {self._host}"
        if hiding is not None:
            return (
                f"{text}: what it has there is {hiding}, which hides the client's; "
                "remove that one, or give yours another name"
            )
        if answer.install:
            wanted = " ".join(answer.install)
            command = f"{sys.executable} -m pip install {wanted}"
            return f"{text}; {answer.reason}: run '{command}' on host {self._host}"
        return f"{text}; {answer.reason}"


class ClientLoader:
    """Makes a module from what the client has sent, and fetches a package's data."""

    def __init__(self, name: str, file: str, source: bytes, asks: Asks) -> None:
        self._name = name
        self._file = file
        self._source = source
        self._asks = asks

    def __repr__(self) -> str:
        return f"<ClientLoader of {self._name} from {self._file}>"

    def create_module(self, spec: ModuleSpec) -> None:
        """Part of the import system: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Part of the import system: fill the module."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, fullname: str) -> CodeType:
        """The module's code."""
        code: CodeType = compile(self._source, self._file, "exec", dont_inherit=True)
        return code

    def get_source(self, fullname: str) -> str:
        """The module's text: for tracebacks, ``inspect`` and debuggers."""
        return decode_source(self._source)

    def get_filename(self, fullname: str) -> str:
        """What its ``__file__`` is."""
        return self._file

    def is_package(self, fullname: str) -> bool:
        """Is it a package?"""
        return self._file.endswith("__init__.py")

    def get_data(self, path: str) -> bytes:
        """The content of a file in the package's folder. Raises OSError."""
        folder = self._folder()
        if not path.startswith(folder):
            raise FileNotFoundError(f"{path} is not in {folder}, the folder of {self._name}")
        return self._fetch("data", path[len(folder) :])

    def get_resource_reader(self, fullname: str) -> "PackageData | None":
        """For ``importlib.resources``: the files beside a package's ``__init__``."""
        return PackageData(self) if self.is_package(fullname) else None

    def names(self) -> list[str]:
        """The names of the files beside the package's ``__init__``. Raises OSError."""
        names: list[str] = json.loads(self._fetch("list", ""))
        return names

    def _folder(self) -> str:
        return self._file.removesuffix("__init__.py") if self.is_package(self._name) else self._file

    def _fetch(self, method: str, path: str) -> bytes:
        wanted = json.dumps([self._name, path.replace("\\", "/")]).encode()
        try:
            return self._asks.call(SERVICE, method, wanted)
        except ServiceError as error:
            raise FileNotFoundError(f"{self._folder()}{path}: {error}") from error


class PackageData:
    """A reader as ``importlib.resources`` wants it, of the files beside an ``__init__``."""

    def __init__(self, loader: ClientLoader) -> None:
        self._loader = loader

    def open_resource(self, resource: str) -> IO[bytes]:
        """A file's content. Raises FileNotFoundError."""
        folder = self._loader.get_filename("").removesuffix("__init__.py")
        return BytesIO(self._loader.get_data(folder + resource))

    def resource_path(self, resource: str) -> str:
        """Raises FileNotFoundError: no file of this host has it."""
        raise FileNotFoundError(resource)

    def is_resource(self, name: str) -> bool:
        """Is there such a file?"""
        return name in self._loader.names()

    def contents(self) -> list[str]:
        """The files' names."""
        return self._loader.names()


def install(settings: Settings, number: int) -> ClientFinder:
    """Let this worker import the user's modules from the client.

    Args:
        settings: How to reach the client.
        number: The worker's number.

    Returns:
        What was put at the end of ``sys.meta_path``.
    """
    finder = ClientFinder(Services(settings, number), settings.host)
    sys.meta_path.append(finder)
    return finder


def _unpack(reply: bytes) -> Answer:
    head, _, source = reply.partition(b"\n")
    values: dict[str, Any] = json.loads(head)
    return Answer(values["kind"], values["files"], values["install"], values["reason"], source)


def _spec(name: str, answer: Answer, asks: Asks) -> ModuleSpec:
    files = [MARK + file for file in answer.files]
    if answer.kind == "namespace":
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = files
        return spec
    loader = ClientLoader(name, files[0], answer.source, asks)
    is_package = answer.kind == "package"
    spec = ModuleSpec(name, loader, origin=files[0], is_package=is_package)  # type: ignore[arg-type]  # a loader by its methods
    spec.has_location = True
    if is_package:
        spec.submodule_search_locations = [files[0].removesuffix("__init__.py")[:-1]]
    return spec


def _hiding(name: str) -> str | None:
    """Where a package of this host lies that should have had the module and has it not.

    A package of one place is not completed from another, unless it is a namespace.
    """
    parent = sys.modules.get(name.rpartition(".")[0])
    file = getattr(parent, "__file__", None)
    if file is None or file.startswith(MARK):
        return None
    return str(file)


def _is_import(caller: FrameType) -> bool:
    """Does this search for a module end in a ModuleNotFoundError when it finds nothing?

    `importlib.util.find_spec` gives None, and those who call it rely on that.
    """
    back = caller.f_back
    names = (caller.f_code.co_name, back.f_code.co_name if back is not None else "")
    return names == ("_find_spec", "_find_and_load_unlocked")

"""Read Python sources into what can be measured, without importing them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

IO_MODULES = frozenset(
    (
        *("anyio", "asyncio", "multiprocessing", "queue", "select", "selectors", "socket"),
        *("socketserver", "ssl", "subprocess", "threading", "trio", "uvloop"),
    )
)

MARK = re.compile(r"#\s*type:\s*ignore|\b(?:TODO|FIXME|XXX)\b")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function or method.

    Attributes:
        name: Its full name, with those of its module and of what encloses it.
        lines: How many lines it has, its docstring included.
        parameters: How many parameters it takes, ``self`` included, ``*`` and ``**`` not.
        unannotated: What lacks an annotation: parameters, or ``return``.
    """

    name: str
    lines: int
    parameters: int
    unannotated: tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """A module.

    Attributes:
        name: Its full name; a package's ``__init__`` has the package's.
        lines: How many lines it has.
        functions: Its functions and methods, inner ones included.
        imports: The modules of its own package that are loaded with it.
        io: The modules for I/O that are loaded with it.
        marks: The lines that ignore a type or say that something is left to do.
    """

    name: str
    lines: int
    functions: tuple[Function, ...]
    imports: frozenset[str]
    io: frozenset[str]
    marks: tuple[int, ...]


def read_package(folder: Path) -> list[Module]:
    """Read every module of a package.

    Args:
        folder: The package's folder; its name is the name it is imported by.

    Returns:
        The modules, in the order of their files' names; those in a ``tests`` folder are left out.

    Raises:
        SyntaxError: If a source is not valid Python.
    """
    paths = {
        _module_name(path, folder): path
        for path in sorted(folder.rglob("*.py"))
        if "tests" not in path.relative_to(folder).parts
    }
    return [_read_module(name, path, set(paths)) for name, path in paths.items()]


def find_cycles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Find groups of modules that import each other.

    Args:
        graph: What each module imports; names that are no keys are ignored.

    Returns:
        Each group, sorted: modules of which each can be reached from each.
    """
    reached = {name: _reach(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reach(start: str, graph: Mapping[str, frozenset[str]]) -> set[str]:
    """Return what can be reached from a node over at least one edge."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] & graph.keys() - found:
            found.add(name)
            waiting.append(name)
    return found


def _module_name(path: Path, folder: Path) -> str:
    """Return the name by which a file is imported."""
    parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_module(name: str, path: Path, siblings: set[str]) -> Module:
    """Read one module."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    loaded = set(_loaded(tree.body, package, siblings))
    return Module(
        name=name,
        lines=len(text.splitlines()),
        functions=tuple(_functions(tree, name)),
        imports=frozenset(loaded & siblings - {name}),
        io=frozenset({module.partition(".")[0] for module in loaded} & IO_MODULES),
        marks=tuple(_marks(text)),
    )


def _loaded(body: list[ast.stmt], package: str, siblings: set[str]) -> Iterator[str]:
    """Yield the modules that are imported when these statements run."""
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                stem = ".".join([*above, *([module] if module else [])])
                for alias in names:
                    # `from package import module` needs the module, not what its package does.
                    inner_module = f"{stem}.{alias.name}"
                    yield inner_module if inner_module in siblings else stem
            case ast.If(test=test, body=inner, orelse=orelse):
                typing_only = "TYPE_CHECKING" in ast.unparse(test)
                yield from _loaded(orelse if typing_only else inner + orelse, package, siblings)
            case ast.Try(body=inner, handlers=handlers, orelse=orelse, finalbody=final):
                caught = [line for handler in handlers for line in handler.body]
                yield from _loaded(inner + caught + orelse + final, package, siblings)
            case ast.With(body=inner) | ast.ClassDef(body=inner):
                yield from _loaded(inner, package, siblings)
            case _:
                pass


def _functions(node: ast.AST, prefix: str) -> Iterator[Function]:
    """Yield the functions in a node, each named after what encloses it."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, FunctionNode | ast.ClassDef):
            name = f"{prefix}.{child.name}"
        if isinstance(child, FunctionNode):
            yield _function(child, name, in_class=isinstance(node, ast.ClassDef))
        yield from _functions(child, name)


def _function(node: FunctionNode, name: str, *, in_class: bool) -> Function:
    """Measure one function."""
    counted = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    everything = [*counted, *filter(None, (node.args.vararg, node.args.kwarg))]
    static = any(ast.unparse(mark).endswith("staticmethod") for mark in node.decorator_list)
    receiver = everything[:1] if in_class and not static else []
    missing = [item.arg for item in everything if item.annotation is None and item not in receiver]
    if node.returns is None:
        missing.append("return")
    last = node.end_lineno or node.lineno
    return Function(name, last - node.lineno + 1, len(counted), tuple(missing))


def _marks(text: str) -> Iterator[int]:
    """Yield the numbers of the lines whose comment is a mark."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and MARK.search(token.string):
            yield token.start[0]

"""Hold the sources to their measures: sizes, parameters, cycles, I/O, annotations, test files.

``python3 -m tools.measures`` prints the figures of each package and a line for each aim that is
missed; it exits with 1 if there is one.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tools.sources import Function, Module, find_cycles, read_package

ROOT = Path(__file__).resolve().parent.parent

MODULE_LINES = 400
MEDIAN_LINES = (70, 160)
FUNCTION_LINES = 60
PARAMETERS = 8
PURE_SHARE = 0.5
MARKS_PER_1000_LINES = 2.0

SMALL_MODULE = 10
"""Modules up to this many lines hold no logic: no median counts them, no test file is owed."""

MANY_PARAMETERS = {"pool_client.pool.Pool.__init__"}
"""The one constructor that its predecessors' users already know with all its parameters."""

PURE = re.compile(r"pool_protocol(\..*)?|pool_client\.(scheduling|mapping)(\..*)?")
"""The modules that must do no I/O, each of them."""


@dataclass(frozen=True)
class Package:
    """A package's modules and the tests that belong to them.

    Attributes:
        name: The name it is imported by.
        modules: Its modules.
        test_lines: How many lines its tests have.
        test_files: The names of its test files.
    """

    name: str
    modules: tuple[Module, ...]
    test_lines: int
    test_files: frozenset[str]

    @property
    def lines(self) -> int:
        """How many lines its modules have."""
        return sum(module.lines for module in self.modules)

    @property
    def functions(self) -> list[Function]:
        """Every function and method of its modules."""
        return [function for module in self.modules for function in module.functions]


def load(source: Path, tests: Path) -> Package:
    """Read a package and the size of its tests.

    Args:
        source: The package's folder; its name is the name it is imported by.
        tests: The folder of its tests.

    Returns:
        What the measures are taken of.
    """
    files = sorted(tests.rglob("*.py"))
    return Package(
        name=source.name,
        modules=tuple(read_package(source)),
        test_lines=sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files),
        test_files=frozenset(path.name for path in files),
    )


def sized(modules: Iterable[Module]) -> list[Module]:
    """Return the modules that are large enough to hold logic.

    Args:
        modules: Any modules.

    Returns:
        Those above ten lines.
    """
    return [module for module in modules if module.lines > SMALL_MODULE]


def expected_tests(module: Module) -> set[str]:
    """Name the files, one of which tests a module.

    Args:
        module: Any module.

    Returns:
        File names; none for a package's own ``__init__``, whose parts are tested.
    """
    parts = [part.strip("_") for part in module.name.split(".")[1:]]
    if not parts:
        return set()
    return {f"test_{parts[-1]}.py", f"test_{'_'.join(parts)}.py"}


def check_sizes(package: Package) -> list[str]:
    """Compare the sizes of modules and functions with the aims.

    Args:
        package: Whose.

    Returns:
        A line for each aim that is missed.
    """
    missed = [
        f"{module.name} has {module.lines} lines, more than {MODULE_LINES}"
        for module in package.modules
        if module.lines > MODULE_LINES
    ]
    for function in package.functions:
        if function.lines > FUNCTION_LINES:
            missed.append(f"{function.name} has {function.lines} lines, more than {FUNCTION_LINES}")
        if function.parameters > PARAMETERS and function.name not in MANY_PARAMETERS:
            missed.append(
                f"{function.name} has {function.parameters} parameters, more than {PARAMETERS}"
            )
        if function.unannotated:
            missed.append(f"{function.name} does not annotate {', '.join(function.unannotated)}")
    return missed


def check_imports(package: Package) -> list[str]:
    """Look for circles of imports, and for I/O where none may be.

    Args:
        package: Whose modules.

    Returns:
        A line for each aim that is missed.
    """
    graph = {module.name: module.imports for module in package.modules}
    missed = [f"circle of imports: {', '.join(circle)}" for circle in find_cycles(graph)]
    missed += [
        f"{module.name} does I/O: it imports {', '.join(sorted(module.io))}"
        for module in package.modules
        if module.io and PURE.fullmatch(module.name)
    ]
    return missed


def check_test_files(package: Package) -> list[str]:
    """Look for modules without a test file.

    Args:
        package: Whose.

    Returns:
        A line for each module that has none.
    """
    missed = []
    for module in sized(package.modules):
        wanted = expected_tests(module)
        if wanted and not wanted & package.test_files:
            missed.append(f"{module.name} has no {' or '.join(sorted(wanted))}")
    return missed


def check_test_lines(package: Package) -> list[str]:
    """Compare the length of the tests with that of what they test.

    Args:
        package: Whose.

    Returns:
        A line if the tests are shorter.
    """
    if package.test_lines >= package.lines:
        return []
    return [f"{package.name} has {package.test_lines} lines of tests for {package.lines} of source"]


def check_all(packages: Sequence[Package]) -> list[str]:
    """Compare what is measured over all packages together with the aims.

    Args:
        packages: All of them.

    Returns:
        A line for each aim that is missed.
    """
    modules = [module for package in packages for module in package.modules]
    missed = []
    middle = median([module.lines for module in sized(modules)] or [MEDIAN_LINES[0]])
    if not MEDIAN_LINES[0] <= middle <= MEDIAN_LINES[1]:
        aim = f"{MEDIAN_LINES[0]} to {MEDIAN_LINES[1]}"
        missed.append(f"the median module has {middle:.0f} lines; the aim is {aim}")
    pure = sum(not module.io for module in modules) / max(len(modules), 1)
    if pure < PURE_SHARE:
        missed.append(f"{pure:.0%} of the modules do no I/O, less than {PURE_SHARE:.0%}")
    marks = [(module.name, mark) for module in modules for mark in module.marks]
    lines = sum(module.lines for module in modules)
    if 1000 * len(marks) > MARKS_PER_1000_LINES * lines:
        rate = 1000 * len(marks) / lines
        missed.append(
            f"{rate:.1f} marks (ignored types, things to do) in 1,000 lines, more than "
            f"{MARKS_PER_1000_LINES:.0f}: " + ", ".join(f"{name}:{line}" for name, line in marks)
        )
    return missed


def describe(package: Package) -> str:
    """Give a package's figures.

    Args:
        package: Whose.

    Returns:
        One line.
    """
    modules = sized(package.modules) or package.modules
    largest = max(modules, key=lambda module: module.lines)
    longest = max((function.lines for function in package.functions), default=0)
    pure = sum(not module.io for module in package.modules) / len(package.modules)
    middle = median(module.lines for module in modules)
    return (
        f"{package.name}: {len(modules)} modules, {package.lines} lines, median {middle:.0f}, "
        f"largest {largest.lines} ({largest.name}), longest function {longest}, "
        f"without I/O {pure:.0%}, tests/source {package.test_lines / max(package.lines, 1):.2f}"
    )


def main(root: Path = ROOT) -> int:
    """Measure the repository.

    Args:
        root: Its folder.

    Returns:
        0 if every aim is met, else 1.
    """
    packages = [
        load(source.parent, source.parents[2] / "tests")
        for source in sorted(root.glob("packages/*/src/*/__init__.py"))
    ]
    missed = check_all(packages)
    for package in packages:
        missed += check_test_lines(package)
    # The tools are no part of what users install, but nearly the same is asked of them.
    for package in (*packages, load(root / "tools", root / "tools" / "tests")):
        print(describe(package))
        missed += [*check_sizes(package), *check_imports(package), *check_test_files(package)]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    print(f"{len(missed)} aims missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

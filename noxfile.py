"""The checks and jobs of this repository: sessions of nox, and a script for a bare Python.

``python3 noxfile.py check`` needs nothing but Python 3.11 or newer; it makes its own environment.
"""

import contextlib
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools import bootstrap, pythons  # noqa: E402  (found through the line above)
from tools import cluster as containers  # noqa: E402
from tools.reports import PACKAGES, REPORTS  # noqa: E402

if __name__ == "__main__":
    sys.exit(bootstrap.main(sys.argv[1:]))

import nox  # noqa: E402  (the script above runs without it)

os.environ.update(bootstrap.environment(os.environ))
# Hypothesis then runs its examples in a fixed order and without a deadline for each.
os.environ["CI"] = "true"
# Else each of the thousands of programs that tests start compiles all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["check"]

PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
FOUND = pythons.find(os.environ["PATH"])
IMPORTS = [package.replace("-", "_") for package in PACKAGES]
EXTRAS = {"pool-worker": "dill,uvloop", "pool-client": "dill,eventkit,uvloop"}
NO_TESTS = 5
"""pytest's exit code when nothing was selected."""


def install_tools(session: nox.Session, group: str) -> None:
    """Install a dependency group of the root pyproject.toml."""
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, group))


def install_packages(session: nox.Session, *more: str, test: bool = True) -> None:
    """Install the four packages from the tree, with their extras.

    Args:
        session: Where to.
        more: Other requirements.
        test: Whether to install what their tests need too.
    """
    arguments = ["--quiet"]
    for package in PACKAGES:
        extras = f"[{EXTRAS[package]}]" if package in EXTRAS else ""
        arguments += ["--editable", f"{ROOT / 'packages' / package}{extras}"]
    if test:
        for package in PACKAGES:
            project = nox.project.load_toml(ROOT / "packages" / package / "pyproject.toml")
            arguments += nox.project.dependency_groups(project, "test")
    session.install(*arguments, *more)


def report(name: str) -> str:
    """Return pytest's option that writes the report ``name``, which the check counts."""
    return f"--junitxml={REPORTS / name}.xml"


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Every check, with a summary; arguments name sessions to run in place of all."""
    session.run(sys.executable, "-m", "tools.check", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install_tools(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def measures(session: nox.Session) -> None:
    """Sizes, parameters, cycles, I/O, annotations, test files: tools/measures.py."""
    session.run(sys.executable, "-m", "tools.measures")


@nox.session
def layers(session: nox.Session) -> None:
    """The directions of imports: the contracts in pyproject.toml."""
    install_tools(session, "layers")
    install_packages(session, test=False)
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, over each package, then over the tools; and py.typed in each package."""
    install_tools(session, "types")
    install_packages(session, test=False)
    for name, package in zip(IMPORTS, PACKAGES, strict=True):
        if not (ROOT / "packages" / package / "src" / name / "py.typed").is_file():
            session.error(f"{name} has no py.typed")
    session.run("mypy", *(f"--package={name}" for name in IMPORTS))
    session.run("mypy", "--exclude=/tests/", "noxfile.py", "tools")
    paths = ("integration", "packages/pool-client/tests", ".")
    session.run("mypy", "integration", env={"MYPYPATH": os.pathsep.join(paths)})


@nox.session
def tools(session: nox.Session) -> None:
    """The tests of tools/."""
    install_tools(session, "tests")
    session.run("pytest", report("tools"), *(session.posargs or ["tools"]))


@nox.session
def jobs(session: nox.Session) -> None:
    """The tests of examples/ and benchmarks/: each job runs to its end, on small input."""
    install_tools(session, "tests")
    install_packages(session, *nox.project.dependency_groups(PROJECT, "bench"), test=False)
    session.run("pytest", report("jobs"), *(session.posargs or ["examples", "benchmarks"]))


@nox.session(venv_backend="none")
def cluster(session: nox.Session) -> None:
    """The cluster of containers: builds what it needs and starts it; ``cluster down`` ends it."""
    session.run(sys.executable, "-m", "tools.cluster", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """Whole clusters: of containers where Docker answers, on loopback in any case."""
    install_tools(session, "integration")
    install_packages(session, test=False)
    # The tests wait most of the time, each for a cluster of its own.
    run = ["pytest", report("integration"), "--numprocesses=6", "--dist=worksteal"]
    with contextlib.ExitStack() as stack:
        if reason := containers.why_not():
            session.warn(f"on loopback only. {reason}")
        else:
            stack.enter_context(containers.images())
        stack.enter_context(session.chdir("integration"))
        session.run(*run, *session.posargs)


@nox.session(venv_backend="none")
def wheels(session: nox.Session) -> None:
    """Each wheel, installed alone into a clean environment of each Python, and imported."""
    folder = Path(session.create_tmp())
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    # The wheel is built from the source distribution, so that this one is checked as well.
    for package in PACKAGES:
        session.run("uv", "build", "--quiet", "--out-dir", str(folder), f"packages/{package}")
    built = {name: next(folder.glob(f"{name}-*.whl")) for name in IMPORTS}
    # Siblings come from this folder by their paths; no registry is asked for their names.
    constraints = folder / "constraints.txt"
    constraints.write_text(
        "".join(
            f"{package} @ {built[name].resolve().as_uri()}\n"
            for package, name in zip(PACKAGES, IMPORTS, strict=True)
        ),
        encoding="utf-8",
    )
    for python in FOUND:
        for package, name in zip(PACKAGES, IMPORTS, strict=True):
            place = folder / f"{python.minor}-{package}"
            session.run("uv", "venv", "--quiet", "--python", str(python.path), str(place))
            interpreter = bootstrap.program(place.resolve())
            install = ["uv", "pip", "install", "--quiet", "--python", str(interpreter)]
            session.run(*install, "--constraints", str(constraints), str(built[name]))
            session.run("uv", "pip", "check", "--quiet", "--python", str(interpreter))
            with session.chdir(folder):
                session.run(str(interpreter), "-I", str(ROOT / "tools" / "installed.py"), package)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the protocol and of the client's pure modules: 100 %."""
    install_tools(session, "tests")
    install_packages(session)
    session.run("coverage", "erase")
    protocol, client = (ROOT / "packages" / name for name in ("pool-protocol", "pool-client"))
    measure(session, protocol, [protocol / "tests"], "pool_protocol/*")
    modules = pure_modules()
    tests: list[Path] = []
    for module in modules:
        name = module.rpartition(".")[2]
        folder = client / "tests"
        found = sorted([*folder.glob(f"test_{name}*.py"), *folder.glob(f"{name}/**/test_*.py")])
        if not found:
            session.error(f"{module} has no tests/test_{name}*.py or tests/{name}/test_*.py")
        tests += found
    patterns = [f"{module.replace('.', '/')}{end}" for module in modules for end in (".py", "/*")]
    measure(session, client, list(dict.fromkeys(tests)), *patterns)


def pure_modules() -> list[str]:
    """Return the client's modules without I/O, as the contract of ``layers`` names them."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (pure,) = (contract for contract in contracts if contract["id"] == "pure-client")
    return list(pure["source_modules"])


def measure(session: nox.Session, package: Path, tests: list[Path], *patterns: str) -> None:
    """Run tests under coverage, and fail below 100 % of what the patterns name."""
    data = ROOT / f".coverage.{package.name}"
    run = ["coverage", "run", f"--data-file={data}", "-m", "pytest", "--quiet"]
    session.run(*run, report(f"coverage-{package.name}"), f"--rootdir={package}", *map(str, tests))
    include = ",".join(f"*/src/{pattern}" for pattern in patterns)
    session.run("coverage", "report", f"--data-file={data}", f"--include={include}")


@nox.session(venv_backend="none")
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def packages(session: nox.Session, package: str) -> None:
    """The tests of one package through tox, on every Python found; arguments go to pytest."""
    failed = []
    for python in FOUND:
        session.log(f"{package} on Python {python.full}")
        try:
            session.run(
                *[sys.executable, "-m", "tox", "run", "--quiet", "-e", python.tox_name],
                *["-c", f"packages/{package}/tox.ini", "--"],
                *[report(f"{package}-{python.minor}"), *session.posargs],
            )
        except nox.command.CommandFailed:
            failed.append(python.full)
    if failed:
        session.error(f"{package} failed on Python {', '.join(failed)}")


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run pytest once for each package, or for those that paths in the arguments lie in.

    Args:
        session: Where the packages are installed.
        arguments: What goes to pytest; paths begin with ``packages/``.
    """
    paths = [argument for argument in arguments if argument.startswith("packages/")]
    others = [argument for argument in arguments if argument not in paths]
    for package in PACKAGES:
        own = [path for path in paths if path.startswith(f"packages/{package}/")]
        if own or not paths:
            chosen = own or [f"packages/{package}/tests"]
            session.run("pytest", *chosen, *others, success_codes=[0, NO_TESTS])


@nox.session(python=[python.minor for python in FOUND])
def tests(session: nox.Session) -> None:
    """For work in progress, without tox: ``-s tests-3.12 -- -k map``."""
    install_packages(session)
    run_tests(session, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """The tests that take minutes, which no other session runs."""
    install_packages(session)
    run_tests(session, "-m", "soak", "--timeout=1800", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: examples/demo.py; arguments go to it."""
    install_packages(session, test=False)
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure this pool against others, in the same run; arguments go to the benchmarks."""
    install_packages(session, *nox.project.dependency_groups(PROJECT, "bench"), test=False)
    session.run("python", "-m", "benchmarks", *session.posargs)

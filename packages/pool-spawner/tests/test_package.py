"""What the package says about itself."""

from importlib.metadata import entry_points, version
from importlib.resources import files

import pool_spawner
from pool_spawner.__main__ import main


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert pool_spawner.__version__ == version("pool-spawner")


def test_the_script_runs_main() -> None:
    (script,) = entry_points(group="console_scripts", name="pool-spawner")
    assert script.load() is main


def test_it_ships_its_types() -> None:
    assert files("pool_spawner").joinpath("py.typed").is_file()

"""The registry of launchers, and schemes of third parties."""

import sys

import pytest

from pool_client import launchers
from pool_client.launchers import HostSpec, launcher
from pool_client.launchers.local import LocalLauncher


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed distribution that brings a scheme."""
    (tmp_path / "clouds.py").write_text(
        "class CloudLauncher:\n"
        "    def launch(self, spec, settings):\n"
        "        return f'{spec.workers} workers in the {spec.host} cloud'\n"
    )
    info = tmp_path / "clouds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{launchers.GROUP}]\ncloud = clouds:CloudLauncher\nbroken = nothing:here\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("clouds", None)


def test_the_scheme_of_this_machine():
    assert isinstance(launcher("local"), LocalLauncher)
    assert launcher("local") is not launcher("local")


def test_a_scheme_of_a_third_party(third_party):
    spec = HostSpec("cloud", "grey", 3)
    assert launcher("cloud").launch(spec, {}) == "3 workers in the grey cloud"


def test_only_the_scheme_that_is_asked_for_is_loaded(third_party):
    launcher("cloud")
    with pytest.raises(ImportError):
        launcher("broken")


def test_an_unknown_scheme_names_the_known_ones(third_party):
    with pytest.raises(ValueError, match=r"'clod'; known are: broken, cloud, local"):
        launcher("clod")

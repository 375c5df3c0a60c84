"""The registry of launchers, and schemes of third parties."""

import asyncio
import sys

import pytest
import support

from pool_client import launchers
from pool_client.launchers import HostSpec, launcher
from pool_client.launchers.local import LocalLauncher


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed distribution that brings a scheme."""
    (tmp_path / "clouds.py").write_text(
        "class CloudLauncher:\n"
        "    async def launch(self, spec, order):\n"
        "        return f'{spec.workers} workers in the {spec.host} cloud'\n"
        "def raising():\n"
        "    raise ValueError('no licence')\n"
    )
    info = tmp_path / "clouds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{launchers.GROUP}]\ncloud = clouds:CloudLauncher\nbroken = nothing:here\n"
        "raising = clouds:raising\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("clouds", None)


def test_the_scheme_of_this_machine():
    assert isinstance(launcher("local"), LocalLauncher)
    assert launcher("local") is not launcher("local")


def test_a_scheme_of_a_third_party(third_party):
    spec = HostSpec("cloud", "grey", 3)
    assert asyncio.run(launcher("cloud").launch(spec, None)) == "3 workers in the grey cloud"


def test_only_the_scheme_that_is_asked_for_is_loaded(third_party):
    launcher("cloud")


@pytest.mark.parametrize("scheme", ["broken", "raising"])
def test_a_scheme_that_cannot_be_had_names_what_is_broken(third_party, scheme):
    with pytest.raises(
        ImportError, match=rf"the launcher of {scheme}://, \w+:\w+, cannot be had: \w"
    ):
        launcher(scheme)


def test_an_unknown_scheme_names_the_known_ones(third_party):
    known = "broken, cloud, .*local, raising, spawner, ssh"  # and what other tests have made known
    with pytest.raises(ValueError, match=f"'clod'; known are: {known}"):
        launcher("clod")


def test_a_local_pool_loads_only_what_it_uses():
    """What other hosts need costs a local pool nothing: not even their modules."""
    support.run_script("""
        import sys
        from pool_client import Pool
        with Pool(1) as pool:
            assert pool.run(abs, -1) == 1
        extra = {"pool_client.launchers.ssh", "pool_client.launchers.spawner", "pool_client.output"}
        extra |= {"pool_client.links.tls", "pool_client.services.service_links"}
        extra.add("importlib.metadata")
        assert not extra & set(sys.modules), extra & set(sys.modules)
    """)

"""What is installed here, and what to install elsewhere."""

import json
import os
import sysconfig
from importlib import metadata

import pytest

from pool_client.services import installed
from pool_client.services.installed import installed_folders, requirements


def test_folders() -> None:
    """The standard library's and those of packages, each once."""
    folders = installed_folders()
    assert os.path.dirname(os.path.dirname(json.__file__)) in folders
    assert os.path.dirname(os.path.dirname(pytest.__file__)) in folders
    assert len(folders) == len(set(folders))


def test_folders_without_a_whole_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some environments replace the module ``site`` by less."""
    monkeypatch.delattr(installed.site, "getsitepackages")
    assert sysconfig.get_path("purelib") in installed_folders()


def test_requirement() -> None:
    """The name of the distribution, which may be another than the module's, and its version."""
    assert requirements("pytest") == [f"pytest=={metadata.version('pytest')}"]
    assert requirements("_pytest.config") == requirements("pytest")
    wanted = f"pytest-timeout=={metadata.version('pytest-timeout')}"
    assert requirements("pytest_timeout") == [wanted]


def test_no_requirement() -> None:
    """What no distribution has."""
    assert requirements("no_such_module") == []


def test_shared_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every distribution that has a part of it, once."""
    names = {"shared": ["pytest", "cloudpickle", "pytest"]}
    monkeypatch.setattr(installed, "_distributions", lambda: names)
    assert [one.partition("==")[0] for one in requirements("shared.x")] == ["pytest", "cloudpickle"]

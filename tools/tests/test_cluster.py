"""The cluster's wheels, images, and start."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tools import cluster

START = "compose up --detach"
READY = "compose exec -T client python ready.py"


class Commands:
    """Stands for the programs that are called: records them, and fails those that are told."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.failing: list[str] = []
        self.images: dict[str, str] = {}
        self.environ: dict[str, str] = {}
        self.replaced = False

    def succeeds(self, command: Sequence[str], seconds: float = 0) -> bool:
        self.ran.append(list(command))
        line = " ".join(command)
        if line.startswith("docker image inspect"):
            return command[-1] in self.images
        return not any(words in line for words in self.failing)

    def run(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self.ran.append(list(command))
        self.environ.update(environ or {})
        if environ and not self.replaced:
            self.images |= dict.fromkeys(["one", "two"], environ["POOL_CONTENT"])
        if any(words in " ".join(command) for words in self.failing):
            raise SystemExit("failed")

    def image(self, name: str, template: str) -> str:
        return f"id of {name}" if "Id" in template else self.images.get(name, "")

    def lines(self) -> list[str]:
        return [" ".join(command) for command in self.ran]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands()
    monkeypatch.setattr(cluster, "_succeeds", made.succeeds)
    monkeypatch.setattr(cluster, "_run", made.run)
    monkeypatch.setattr(cluster, "_image", made.image)
    monkeypatch.setattr(cluster, "image_names", lambda _: ["one", "two"])
    for name in cluster.BASES:
        monkeypatch.delenv(name, raising=False)
    return made


def test_a_fingerprint_changes_with_names_contents_and_modes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "a"
    file.write_text("text")
    seen = [cluster.fingerprint([folder])]
    file.write_text("other")
    seen.append(cluster.fingerprint([folder]))
    file.chmod(0o755)
    seen.append(cluster.fingerprint([folder]))
    file = file.rename(folder / "b")
    seen.append(cluster.fingerprint([folder]))
    seen.append(cluster.fingerprint([folder], "more"))
    assert len(set(seen)) == len(seen)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "b.pyc").touch()
    assert cluster.fingerprint([folder]) == seen[3]


def test_wheels_are_built_once_for_the_same_sources(tmp_path: Path, commands: Commands) -> None:
    folder = tmp_path / "wheels"
    cluster.build_wheels(folder)
    built = [line for line in commands.lines() if line.startswith("uv build")]
    assert [line.rpartition("/")[2] for line in built] == list(cluster.PACKAGES)
    fetched = [line for line in commands.lines() if "pip download" in line]
    assert len(fetched) == len(cluster.PYTHONS)
    commands.ran.clear()
    cluster.build_wheels(folder)
    assert not commands.ran


def test_wheels_that_failed_are_built_again(tmp_path: Path, commands: Commands) -> None:
    folder = tmp_path / "wheels"
    commands.failing = ["download"]
    with pytest.raises(SystemExit):
        cluster.build_wheels(folder)
    commands.failing = []
    commands.ran.clear()
    cluster.build_wheels(folder)
    assert commands.ran


def test_foreign_wheels_are_for_the_containers_python(tmp_path: Path) -> None:
    command = cluster.download_command(tmp_path, "3.13")
    assert {"--python-version=3.13", "--only-binary=:all:", "cryptography"} < set(command)
    assert any(word.startswith("--platform=manylinux") for word in command)


def test_the_plugin_is_preferred(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.compose_command() == ["docker", "compose"]
    commands.failing = ["docker compose"]
    monkeypatch.setattr(cluster.shutil, "which", lambda _: "found")
    assert cluster.compose_command() == ["docker-compose"]
    monkeypatch.setattr(cluster.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="apt-get install docker-compose"):
        cluster.compose_command()


def test_what_stands_in_the_way_is_said(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "docker_answers", lambda: False)
    assert "apt-get install docker.io" in cluster.why_not()
    monkeypatch.setattr(cluster, "docker_answers", lambda: True)
    assert cluster.why_not() == ""
    commands.failing = ["docker compose"]
    monkeypatch.setattr(cluster.shutil, "which", lambda _: None)
    assert "apt-get install docker-compose" in cluster.why_not()


def test_named_bases_are_taken(commands: Commands) -> None:
    named = {name: f"my-{name}" for name in cluster.BASES}
    assert cluster.base_images(named) == named
    assert not commands.ran


def test_bases_that_are_here_are_taken(commands: Commands) -> None:
    commands.images = {"pool-base:trixie": "", "python:3.11-slim": ""}
    assert list(cluster.base_images({}).values()) == ["pool-base:trixie", "python:3.11-slim"]
    assert not any("pull" in line for line in commands.lines())


def test_bases_are_pulled_where_that_works(commands: Commands) -> None:
    assert list(cluster.base_images({}).values()) == ["python:3.13-slim", "python:3.11-slim"]
    assert not any("base-image.sh" in line for line in commands.lines())


def test_else_bases_are_built(commands: Commands) -> None:
    commands.failing = ["pull"]
    built = list(cluster.base_images({}).values())
    assert built == ["pool-base:trixie", "pool-base:bookworm"]
    assert sum("base-image.sh" in line for line in commands.lines()) == len(built)


def builds(commands: Commands) -> int:
    """Count how often the images were built, and forget it."""
    count = sum(line.startswith("compose build") for line in commands.lines())
    commands.ran.clear()
    return count


@pytest.fixture
def compose(commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """Have a Compose, wheels and images to build on, and a lock that nobody else has."""
    monkeypatch.setattr(cluster, "compose_command", lambda: ["compose"])
    monkeypatch.setattr(cluster, "wheels_are_ours", lambda *_: True)
    monkeypatch.setattr(cluster, "LOCK", tmp_path / "lock")
    commands.images = dict.fromkeys(["pool-base:trixie", "pool-base:bookworm"], "")
    return commands


def test_images_are_built_once_for_the_same_content(compose: Commands) -> None:
    cluster.build_images(["compose"])
    assert builds(compose) == 1
    cluster.build_images(["compose"])
    assert builds(compose) == 0
    compose.images["two"] = "other content"
    cluster.build_images(["compose"])
    assert builds(compose) == 1


def test_images_are_held(compose: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others with the same images use them too; others with their own wait, or say why not."""
    monkeypatch.setattr(cluster, "_LOCK_SECONDS", 0.2)
    with cluster.images():
        assert builds(compose) == 1
        with cluster.images():
            assert builds(compose) == 0
        compose.images["one"] = "of another clone"
        with pytest.raises(SystemExit, match="locked"), cluster.images():
            pass
        assert builds(compose) == 0
    with cluster.images():
        assert builds(compose) == 1


def test_images_that_others_replace_are_built_again_but_not_for_ever(compose: Commands) -> None:
    compose.replaced = True
    with pytest.raises(SystemExit, match="again and again"), cluster.images():
        pass
    assert builds(compose) > 1


def test_images_need_wheels_and_bases(compose: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.build_images(["compose"]) == cluster.content_here()
    monkeypatch.setattr(cluster, "wheels_are_ours", lambda *_: False)
    assert not cluster.content_here()
    monkeypatch.setattr(cluster, "wheels_are_ours", lambda *_: True)
    del compose.images["pool-base:trixie"]
    assert not cluster.content_here()


def test_sources_that_change_meanwhile_change_nothing(
    compose: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has the images of when it began; the next one builds others."""
    fresh = iter([False, True])
    monkeypatch.setattr(cluster, "wheels_are_ours", lambda *_: next(fresh))
    with cluster.images():
        assert builds(compose) == 1


@pytest.mark.parametrize("failing", [[], ["compose build"]])
def test_what_was_replaced_is_removed(compose: Commands, failing: list[str]) -> None:
    compose.failing = failing
    if failing:
        with pytest.raises(SystemExit):
            cluster.build_images(["docker", "compose"])
    else:
        cluster.build_images(["docker", "compose"])
    assert compose.lines()[-1].startswith("docker image prune --force --filter")


def test_only_the_old_compose_gets_its_options(compose: Commands) -> None:
    compose.replaced = True
    cluster.build_images(["docker", "compose"])
    cluster.build_images(["docker-compose"])
    first, second = (line for line in compose.lines() if "compose build" in line.replace("-", " "))
    assert first == "docker compose build"
    assert "--force-rm" in second


def test_image_names_are_those_of_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "services:\n  a:\n    image: one\n  b:\n    image: two\n  c:\n    image: one\n"
    done = subprocess.CompletedProcess([], 0, stdout=text)
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: done)
    assert cluster.image_names(["compose"]) == ["one", "two"]


def test_a_command_that_fails_ends_the_program_with_its_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="exit code 3"):
        cluster._run(["sh", "-c", "echo what went wrong; exit 3"])
    assert "what went wrong" in capsys.readouterr().err


def test_what_does_not_exist_does_not_succeed() -> None:
    assert not cluster._succeeds(["no-such-program"])
    assert cluster._succeeds(["true"])
    assert not cluster._succeeds(["false"])
    assert not cluster._succeeds(["sleep", "60"], 0.01)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (["wheels"], ["wheels"]),
        (["images"], ["images", "free"]),
        (["up"], ["images", START, READY, "free"]),
        ([], ["images", START, READY, "free"]),
        (["down"], ["compose down --volumes"]),
        (["sideways"], []),
    ],
)
def test_actions(monkeypatch: pytest.MonkeyPatch, action: list[str], expected: list[str]) -> None:
    done: list[str] = []

    def call(command: list[str], **_: object) -> int:
        done.append(" ".join(command))
        return 0

    @contextlib.contextmanager
    def images() -> Iterator[None]:
        done.append("images")
        yield
        done.append("free")

    monkeypatch.setattr(cluster, "build_wheels", lambda: done.append("wheels"))
    monkeypatch.setattr(cluster, "images", images)
    monkeypatch.setattr(cluster, "compose_command", lambda: ["compose"])
    monkeypatch.setattr(cluster.subprocess, "call", call)
    assert cluster.main(action) == (0 if expected else 2)
    assert done == expected

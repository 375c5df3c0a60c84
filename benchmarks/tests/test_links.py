"""What the measures of far hosts consist of, on small counts."""

import time
from pathlib import Path

import pytest

from benchmarks.measures import links
from benchmarks.plan import Plan


def test_far_workers_do_the_same_as_near_ones() -> None:
    with links.far(0.001) as pool:
        links.singles(pool, 300)
        links.mapped(pool, 3000)


def test_they_are_far() -> None:
    with links.far(0.05, qsize=1) as pool:
        begin = time.perf_counter()
        links.singles(pool, 1)
        assert time.perf_counter() - begin > 0.1, "there and back"


def test_wrong_results_are_noticed() -> None:
    class Wrong:
        def map(self, *_: object) -> list[int]:
            return [1]

    with pytest.raises(ValueError, match="wrong"):
        links.mapped(Wrong(), 5)  # type: ignore[arg-type]  # a pool that is none


def test_without_sshd_there_is_nothing_to_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hosts import sshd

    monkeypatch.setattr(sshd, "find", lambda: None)
    assert not links.large(Plan(quick=True)).targets
    assert "apt-get install openssh-server" in capsys.readouterr().out


def test_a_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    target = tmp_path / "there"
    links.cat(tmp_path / "file", ["sh", "-c", f"cat > {target}"])
    assert target.stat().st_size == 1000

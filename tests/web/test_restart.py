"""The last state of a cluster outlives the server: it is shown at once, with its age, and made again behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sonar.names import cluster_name
from sonar.times import iso_text, present
from sonar.web.snapshot_files import SnapshotFiles

from tests.waiting import until
from tests.web.conftest import Server, passwords_file, running
from tests.web.scenery import host_of, write_cluster

SAGA, OTHER = cluster_name("saga.example.org"), cluster_name("other.example.org")
NOW = 1_774_008_000
LATER = NOW + 250  # old enough to be made again when somebody looks, not so old that it is made when nobody does
KIND = "sonar.web.pages.overview.snapshot"


def pages(server: Server) -> dict[str, bytes]:
    """What each role sees of the cluster."""
    found = {}
    for name in ("ada", "root", "grete"):
        answer = server.get(f"/c/{SAGA}", login=name)
        assert answer.status == 200
        found[name] = answer.data
    return found


def test_the_state_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cluster(tmp_path, SAGA, 3, now=NOW)
    passwords_file(tmp_path / "passwords")
    cache, node = tmp_path / "cache", host_of(SAGA, 0).encode()
    options: list[str | Path] = ["--cluster-config", tmp_path, "--password-file", tmp_path / "passwords"]
    options += ["--reports", tmp_path / "reports", "--cache", cache]
    monkeypatch.setenv("SONAR_NOW", iso_text(NOW))
    with running(tmp_path, options, tls=False) as server:
        before = pages(server)
    assert node in before["ada"]
    assert cache.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in cache.iterdir())

    # From now on nothing but the file knows of the nodes.
    for path in (tmp_path / "data" / SAGA, tmp_path / f"{SAGA}-config.json"):
        path.rename(tmp_path / path.name.removesuffix(".json"))
    (tmp_path / "data" / SAGA).mkdir()
    with running(tmp_path, options, tls=False) as server:
        assert pages(server) == before
        assert server.get(f"/c/{SAGA}", login="fox").status == 404
        assert b"3 nodes" in server.get("/").data

    monkeypatch.setenv("SONAR_NOW", iso_text(LATER))
    with running(tmp_path, options, tls=False) as server:
        first = server.get(f"/c/{SAGA}").data
        assert node in first
        assert f'Computed <time datetime="{iso_text(NOW)}"'.encode() in first
        assert b"4 min ago, and being computed again" in first
        computed = f'Computed <time datetime="{iso_text(LATER)}"'.encode()
        until(lambda: computed in server.get(f"/c/{SAGA}").data)
        assert node not in server.get(f"/c/{SAGA}").data

    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    with running(tmp_path, options, tls=False) as server:
        assert b"just now" in server.get(f"/c/{SAGA}").data


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def _of_another_cluster(path: Path) -> None:
    SnapshotFiles(path.parent).write(KIND, OTHER, {"made": present()}, 1.0)
    (path.parent / f"{OTHER}.{KIND}").replace(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [_cut, _flip, _of_another_cluster, _directory, lambda path: os.truncate(path, 0), Path.unlink]
)
def test_what_is_not_as_it_was_written_does_not_count(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    files = SnapshotFiles(tmp_path)
    files.write(KIND, SAGA, {"made": present(), "nodes": [["ä", None, 1.5]]}, 2.5)
    value, age, took = files.read(KIND, SAGA) or ({}, -1, 0)
    assert (value["nodes"], took) == ([["ä", None, 1.5]], 2.5)
    assert 0 <= age < 60

    damage(tmp_path / f"{SAGA}.{KIND}")

    assert files.read(KIND, SAGA) is None


def test_nor_what_other_code_wrote_or_is_of_another_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SnapshotFiles(tmp_path)
    files.write(KIND, SAGA, {"made": NOW}, 1.0)
    for now, counts in ((NOW - 1, False), (NOW, True), (NOW + 86400, True), (NOW + 86401, False)):
        monkeypatch.setenv("SONAR_NOW", iso_text(now))
        assert (files.read(KIND, SAGA) is not None) is counts

    monkeypatch.setenv("SONAR_NOW", iso_text(NOW))
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "made_for_a_test.py"
    source.write_text("one = 1\n")
    files.write("made_for_a_test.one", SAGA, {"made": NOW}, 1.0)
    assert files.read("made_for_a_test.one", SAGA) is not None
    source.write_text("one = 2\n")
    assert files.read("made_for_a_test.one", SAGA) is None

"""The very commands that deployed nodes run, against a server that has its troubles."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.conftest import CLUSTER, PASSWORD, Infiltrate, Starter
from tests.ingest.test_kprox import message
from tests.waiting import reserved_port, until

LINE = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim,cmd=lmp,job=998,cpu%=99.8\n"
FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"


@pytest.fixture
def netrc(tmp_path: Path) -> Path:
    path = tmp_path / "netrc"
    path.write_text(f"default login {CLUSTER} password {PASSWORD}\n")
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk" / "data"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def url(server: Infiltrate, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def test_script_of_a_node_retries_until_there_is_room(start: Starter, disk: Path, netrc: Path) -> None:
    server = start("--disk-reserve", "8M", "--retry-after", "1", scratch=disk.parent)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(9 << 20))
    until(lambda: server.request("GET", "/ready", user=None).status != 200)
    command = ["curl", "--silent", "--show-error", "--data-binary", "@-", "-H", "Content-Type: text/csv"]
    command += ["--netrc-file", str(netrc), "--retry", "60", "--retry-connrefused"]

    with subprocess.Popen(
        [*command, url(server, f"/sonar-freecsv?cluster={CLUSTER}")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as node:
        assert node.stdin is not None
        node.stdin.write(LINE * 3)
        node.stdin.close()
        until(lambda: server.refusals_logged(503) or node.poll() is not None)
        ballast.unlink()
        node.wait(60)
        assert node.stdout is not None
        assert node.stderr is not None
        # The body of the first answer, with the reason: that is all that cron mails.
        assert node.stdout.read() in {b"the disk is down to its reserve" * n for n in range(1, 61)}

    assert node.returncode == 0
    server.stop()
    assert server.stored() == {FILE: LINE * 3}


def test_refused_connections_are_tried_again(start: Starter, netrc: Path) -> None:
    command = ["curl", "-sS", "--data-binary", "@-", "--retry", "11", "--retry-connrefused", "--netrc-file", str(netrc)]

    with (
        reserved_port() as port,
        subprocess.Popen(
            [*command, "--verbose", f"http://127.0.0.1:{port}/sonar-freecsv?cluster={CLUSTER}"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as node,
    ):  # fmt: skip
        assert node.stdin is not None
        assert node.stderr is not None
        node.stdin.write(LINE)
        node.stdin.close()
        assert any(b"Connection refused" in line for line in node.stderr)
        server = start("--listen", f"127.0.0.1:{port}")
        node.stderr.read()
        assert node.wait(60) == 0
    server.stop()
    assert server.stored() == {FILE: LINE}


def test_newer_sampler_sends_envelopes_and_frames(start: Starter, netrc: Path) -> None:
    server = start("--kprox", "/kprox")
    body = b'{"meta":{},"data":{"type":"sysinfo","attributes":{"time":"2026-03-02T12:00:00Z","node":"a","topo_svg":"'
    body += b"x" * (3 << 20) + b'"}}}\n'
    common = ["curl", "--silent", "--show-error", "--data-binary", "@-"]
    netrc_file = ["--netrc-file", str(netrc)]
    for arguments, sent, answer in [
        (
            [*netrc_file, "-H", "Content-Type: application/json", url(server, "/api/v0/insert/sysinfo")],
            body,
            b'{"cluster":"mlx.example.org","node":"a","topic":"sysinfo","time":"2026-03-02T12:00:00Z"}',
        ),
        (["-H", "Content-Type: application/octet-stream", url(server, "/kprox")], message() + message("job"), b""),
    ]:
        done = subprocess.run([*common, *arguments], input=sent, capture_output=True, timeout=60, check=True)
        assert (done.stdout, done.stderr) == (answer, b"")
    server.stop()
    day = f"{CLUSTER}/2026/03/02"
    assert set(server.stored()) == {f"{day}/0+sysinfo-a.json", f"{day}/0+sample-n1.json", f"{day}/0+job-slurm.json"}
    assert server.stored()[f"{day}/0+sysinfo-a.json"] == body

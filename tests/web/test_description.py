"""What the description of a cluster says counts: who may ask, whose processes are left out, where pages begin."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sonar.cli.sonalyze import main
from sonar.times import iso_text

from tests.web.conftest import NOW, Server, passwords_file, running

OPEN, STAFF = "open.example.org", "staff.example.org"
DESCRIPTION = """
[Cluster]
Title=Open
SampleInterval=1min
ExcludeUsers=backup
ExcludeCommands=updatedb
DefaultNodes=c-[1-2]
"""


def write_samples(root: Path, now: int) -> None:
    """A node where people work, one where only what is left out ran, and one that the overview does not begin with."""
    for host, user, command in (
        ("c-1", "grete", "python"), ("c-1", "backup", "rsync"), ("c-2", "backup", "rsync"), ("g-1", "ada", "updatedb"),
        ("g-1", "ada", "julia"),
    ):  # fmt: skip
        for at in range(now - 3600, now, 300):
            text = iso_text(at)
            path = root / text[:10].replace("-", "/") / f"{host}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            fields = f"host={host},user={user},cmd={command},job={len(command)},pid=7,cpu%=100"
            with path.open("a") as file:
                file.write(f"v=0.9.0,time={text},{fields},cputime_sec={at - now + 7200}\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("described")
    for cluster in (OPEN, STAFF):
        write_samples(root / "data" / cluster, NOW)
    (root / "cluster-config").mkdir()
    (root / "cluster-config" / f"{OPEN}.conf").write_text(DESCRIPTION)
    (root / "cluster-config" / f"{STAFF}.conf").write_text("[Cluster]\nAudience=staff\nAliases=staff\n")
    options: list[str | Path] = ["--cluster-config", root / "cluster-config"]
    with running(root, [*options, "--password-file", passwords_file(root / "passwords")], tls=False) as server:
        yield server


def test_a_cluster_for_staff_is_none_to_users(place: Server) -> None:
    addresses = (f"/c/{STAFF}", f"/c/{STAFF}/jobs", "/jobs?cluster=staff", "/api/v2/cluster/staff/processes")
    for address in addresses:
        statuses = [place.get(address, login=name).status for name in ("grete", "ada", "root")]
        assert statuses == [404, 200, 200], address
    for address in ("/", "/cluster?fmt=csv,cluster", "/api/v2/cluster"):
        listed = [STAFF in place.get(address, login=name).data.decode() for name in ("grete", "ada")]
        assert listed == [False, True], address
        assert OPEN in place.get(address, login="grete").data.decode()

    path = place.config / "cluster-config" / f"{STAFF}.conf"
    before = path.read_text()
    path.write_text("[Cluster]\nAudience=nobody\n")  # who may is not known
    assert place.get(f"/jobs?cluster={STAFF}", login="grete").status == 404
    told = place.get(f"/jobs?cluster={STAFF}", login="ada")
    path.write_text(before)
    assert told.status == 400
    assert b"Audience: 'nobody' is none of users, staff" in told.data
    assert str(place.config).encode() not in told.data


def test_what_is_left_out_is_in_no_answer_but_a_sign_of_life(place: Server) -> None:
    def rows(verb: str, cluster: str = OPEN, **more: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(place.ask(verb, cluster=cluster, **more).data)
        return found

    everything = {(row["user"], row["cmd"]) for row in rows("parse", STAFF, user="-", fmt="json,user,cmd")}
    assert everything == {("grete", "python"), ("backup", "rsync"), ("ada", "updatedb"), ("ada", "julia")}
    left = {("grete", "python"), ("ada", "julia")}
    for verb in ("jobs", "parse"):
        assert {(row["user"], row["cmd"]) for row in rows(verb, user="-", fmt="json,user,cmd")} == left
    assert rows("jobs", user="backup", fmt="json,user") == []
    loads = [
        float(record["cpu"])
        for cluster in (OPEN, STAFF)
        for host in rows("load", cluster, host="c-1", last="true", daily="true", fmt="json,cpu")
        for record in host["records"]
    ]
    assert loads[0] == pytest.approx(loads[1] / 2, rel=0.1)
    assert {row["host"] for row in rows("metadata", fmt="json,host")} == {"c-1", "c-2", "g-1"}
    down = rows("uptime", interval="5", fmt="json,host,state", **{"only-up": "true"})
    assert {row["host"] for row in down} == {"c-1", "c-2", "g-1"}


def test_the_overview_begins_with_its_nodes(place: Server) -> None:
    begun, chosen = (place.get(f"/c/{OPEN}{query}").data.decode() for query in ("", "?select="))
    for node, is_there in (("c-1", True), ("c-2", True), ("g-1", False)):
        assert (f"/node/{node}" in begun) is is_there
        assert f"/node/{node}" in chosen
    assert 'value="c-1 or c-2"' in begun


def test_the_command_beside_the_data_says_the_same(place: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for verb, fmt in (("jobs", "csv,job,user,seen,expected,coverage"), ("load", "csv,cpu"), ("parse", "csv,all")):
        words = [verb, "--jobanalyzer-dir", str(place.config), "--cluster", OPEN, "--user=-", f"--fmt={fmt}"]
        assert main(words) == 0
        here = capfd.readouterr().out
        assert place.ask(verb, cluster=OPEN, user="-", fmt=fmt).data.decode() == here
        assert len(here) > 20
    answer = place.ask("jobs", cluster=OPEN, user="grete", fmt="csv,seen,expected").data.decode()
    assert answer == "12,56\n"  # 55 minutes at one sample a minute

"""The tables of the planted month: each has what was planted, and what is nearly that it has not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sonar.report import TABLES, table
from sonar.times import DAY

from tests.report import month as planted
from tests.report.conftest import Cluster
from tests.report.test_violations import naicreport


def rows(cluster: Cluster, name: str, day: int, days: int = 7, **given: str) -> list[dict[str, Any]]:
    """Return the rows of a table made at the beginning of a day of the month, by its name."""
    survey = cluster.site(planted.at(day)).survey(days * DAY)
    return list(table(name).make(survey, table(name).given(given)).rows)


def by(name: str, found: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {row[name]: row for row in found}


def test_top_commands_and_software_have_the_commands_of_the_week(cluster: Cluster) -> None:
    top = rows(cluster, "top-commands", 10)
    software = by("command", rows(cluster, "software", 10))

    assert [row["command"] for row in top] == ["work", "defunct-finder", "python <defunct>"]
    assert sum(row["cpu-share"] for row in top) == pytest.approx(100, abs=0.2)
    assert set(software) == {"work", "defunct-finder", "python"}  # which process has ended says nothing of software
    assert software["python"]["users"] == 1
    assert software["work"]["users"] == len(
        {job.user for job in cluster.events.jobs if planted.at(3) < job.end and job.start < planted.at(10)}
        - {"zed", "xia"}
    )


def test_top_accounts_are_those_of_the_batch_system(cluster: Cluster) -> None:
    found = by("account", rows(cluster, "top-accounts", 17))

    reserved = [job for job in cluster.events.jobs if job.reserved and job.start >= planted.at(10)]
    assert set(found) == {f"proj-{job.user}" for job in reserved} | {"none"}
    assert found["proj-wanda"]["core-hours"] == pytest.approx(6, rel=0.05)


def test_top_users_by_gpu_held_a_card(cluster: Cluster) -> None:
    found = rows(cluster, "top-users", 10, by="gpu")

    with_cards = {job.user for job in cluster.events.jobs if job.cards and planted.at(3) <= job.start < planted.at(10)}
    assert {row["user"] for row in found} == with_cards
    assert {row["user"] for row in found[:3]} == {"ada", "ben", "cleo"}


def test_unused_capacity_is_what_nodes_have_less_what_jobs_used(cluster: Cluster) -> None:
    kinds = by("nodes-like", rows(cluster, "unused-capacity", 10))

    assert set(kinds) == {"GPU node", "CPU node", "all"}
    assert (kinds["GPU node"]["nodes"], kinds["CPU node"]["nodes"]) == (3, 3)  # one of four was never heard of
    assert kinds["GPU node"]["cards"] == 12
    # Three people use a card at 80 % for 14 hours of 24; a few others some hours of one.
    assert kinds["GPU node"]["unused-cards"] == pytest.approx(12 - 3 * 0.8 * 14 / 24, abs=0.2)
    assert kinds["CPU node"]["gpu"] is None
    assert kinds["all"]["unused-cores"] == pytest.approx(
        kinds["GPU node"]["unused-cores"] + kinds["CPU node"]["unused-cores"], abs=0.2
    )


def test_right_sizing_by_partition_is_the_sum_of_users(cluster: Cluster) -> None:
    users = rows(cluster, "right-sizing", 17)
    (partition,) = rows(cluster, "right-sizing", 17, by="partition")

    assert partition["name"] == "normal"
    assert partition["jobs"] == sum(row["jobs"] for row in users)
    assert partition["reserved-core-hours"] == pytest.approx(sum(row["reserved-core-hours"] for row in users))


def test_ingest_health_has_the_late_the_dropped_and_the_refused(cluster: Cluster) -> None:
    found = by("host", rows(cluster, "ingest-health", 27, 1))

    assert set(found) == {"", "c-1", "g-1"}
    assert (found["c-1"]["records"], found["c-1"]["late"], found["c-1"]["latest"]) == (18, 90, 90)
    assert (found["c-1"]["dropped"], found["c-1"]["refused"]) == (0, 0)
    assert (found["g-1"]["dropped"], found["g-1"]["why"]) == (1, "no time")
    assert (found[""]["posts"], found[""]["refused"], found[""]["why"]) == (0, 1, "400 not CSV")
    assert rows(cluster, "ingest-health", 26, 1) == []


def test_monitoring_cost_is_that_of_the_sampler_alone(cluster: Cluster) -> None:
    found = by("what", rows(cluster, "monitoring-cost", 27))
    before = by("what", rows(cluster, "monitoring-cost", 26))

    cost = "CPU time of the samplers, where they see themselves"
    assert found[cost]["value"] == pytest.approx(0.24, abs=0.01)
    assert before[cost]["value"] == 0
    text = sum(path.stat().st_size for day in range(20, 28) for path in day_files(cluster, day))
    assert found["log of the window"]["value"] == pytest.approx(text, rel=0.15)


def day_files(cluster: Cluster, day: int) -> list[Path]:
    return sorted((cluster.root / "data" / planted.CLUSTER / f"2026/03/{day:02}").glob("*"))


def test_the_digest_tells_of_the_week_and_nothing_else(cluster: Cluster) -> None:
    parts = by("title", cluster.report("admin/digest-2026-W14.json")["parts"])

    assert parts["Violators"]["rows"] == []  # the last one was before the week
    assert [row["host"] for row in parts["Silent nodes"]["rows"]] == ["c-4", "c-3"]
    assert {row["host"] for row in parts["Down time"]["rows"]} - {"g-1"} == {"c-3"}  # g-1 until its late data come
    assert "moby" not in {row["user"] for row in parts["Top users by CPU time"]["rows"]}
    assert "dolphin" in {row["user"] for row in parts["Top users by CPU time"]["rows"]}
    assert parts["Jobs on GPU nodes that used no GPU"]["rows"] == []
    assert {row["host"] for row in parts["What arrived"]["rows"]} == {"", "c-1", "g-1"}


def test_each_table_has_a_planted_case() -> None:
    tested = Path(__file__).read_text() + Path(__file__).with_name("test_month.py").read_text()

    assert not [name for name in TABLES if not re.search(rf'"{name}"|{name}(-gpu)?(-2026-03)?\.json', tested)]


class Data:
    """Where the month is, for commands."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        planted.write_node_config(directory / "nodes.json")
        self.options = [
            "--data-dir", str(cluster.root / "data" / planted.CLUSTER), "--config-file", str(directory / "nodes.json"),
            "--from", "2026-03-02", "--to", "2026-03-04",
        ]  # fmt: skip


def test_backtest_lists_who_would_have_been_reported_and_what_a_new_version_changes(
    cluster: Cluster, tmp_path: Path
) -> None:
    data = Data(cluster, tmp_path)
    (tmp_path / "stricter.policy").write_text(
        "[Policy]\nExtends=cpuhog\nOptions=--no-gpu --min-rcpu-peak=8 --min-runtime=10m\n"
    )

    alone = naicreport(tmp_path, "backtest", "cpuhog", *data.options, "--format=csv").stdout.splitlines()
    both = naicreport(
        tmp_path, "backtest", "cpuhog", "--against", "./stricter.policy", *data.options, "--format=csv"
    ).stdout.splitlines()

    assert [line.split(",")[2] for line in alone[1:]] == ["hog"]
    assert [(line.split(",")[0], line.split(",")[3]) for line in both[1:]] == [
        ("both", "hog"), ("only stricter", "nearhog"),
    ]  # fmt: skip


def test_a_cluster_of_the_server_is_named_by_its_name(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(cluster, tmp_path)
    window = data.options[-4:]
    (tmp_path / "sonar.conf").write_text(f"[Paths]\nData={cluster.root}/data\nClusters={cluster.root}/clusters\n")
    monkeypatch.setenv("SONAR_CONFIG", str(tmp_path / "sonar.conf"))

    for asked in (["backtest", "cpuhog"], ["explain", "cpuhog", "--job", "99"], ["top-users"], ["downtime"]):
        named = naicreport(tmp_path, *asked, "--cluster", planted.CLUSTER, *window).stdout
        assert named == naicreport(tmp_path, *asked, *data.options).stdout
        assert len(named) > 10
    refused = naicreport(tmp_path, "top-users", "--cluster", planted.CLUSTER, *data.options, status=2).stderr
    assert "--cluster and --data-dir do not go together" in refused
    assert "no cluster 'nonesuch'" in naicreport(tmp_path, "downtime", "--cluster", "nonesuch", status=1).stderr


def test_explain_says_how_a_job_fares(cluster: Cluster, tmp_path: Path) -> None:
    data = Data(cluster, tmp_path)
    jobs = {job.user: str(job.id) for job in cluster.events.jobs}

    told = {
        user: naicreport(tmp_path, "explain", "cpuhog", "--job", jobs[user], *data.options).stdout
        for user in ("hog", "nearhog", "shorthog", "gpuhog", "cpunode")
    }

    assert [user for user, text in told.items() if re.search(r"^  reported$", text, re.MULTILINE)] == ["hog"]
    assert "no   selected by the options" in told["nearhog"]
    assert "There is no job 99" in naicreport(tmp_path, "explain", "cpuhog", "--job", "99", *data.options).stdout


def test_remake_says_whether_a_file_is_what_its_data_give(cluster: Cluster, tmp_path: Path) -> None:
    public = cluster.root / "reports" / planted.CLUSTER / "public"
    places = ["--data-dir", str(cluster.root / "data"), "--cluster-dir", str(cluster.root / "clusters"),
              "--state-dir", str(cluster.root / "state")]  # fmt: skip

    same = naicreport(tmp_path, "remake", str(public / "c-1-monthly.json"), *places)
    page = naicreport(tmp_path, "remake", str(public / "utilization-2026-03.html"), *places, status=None)
    copied = tmp_path / planted.CLUSTER
    for part in ("public", "provenance/public"):
        (copied / part).mkdir(parents=True)
    (copied / "public/c-2-monthly.json").write_text((public / "c-2-monthly.json").read_text().replace('"c-2"', '"c-9"'))
    provenance = cluster.root / "reports" / planted.CLUSTER / "provenance/public/c-2-monthly.json.json"
    (copied / "provenance/public/c-2-monthly.json.json").write_text(provenance.read_text())
    other = naicreport(tmp_path, "remake", str(copied / "public/c-2-monthly.json"), *places, status=1)

    assert same.stdout.startswith("c-1-monthly.json: the same")
    assert page.stdout.startswith("utilization-2026-03.html: the same")
    assert "NOT the same" in other.stdout
    assert "not the one that its provenance tells of" in other.stdout

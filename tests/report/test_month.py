"""A month with planted offenders: each report finds what was planted and nothing else; who is told is told once."""

import json
import re
from collections import Counter
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sonar.report import TABLES, table
from sonar.report.audience import Audience
from sonar.report.joblog import jobs_of, log_files, read_log
from sonar.report.jobstate import read_state
from sonar.report.policies import policy as policy_of
from sonar.report.products import late_tasks, provenance_of
from sonar.report.rhythms import run_rhythm
from sonar.report.schema import DIRECTORY, schema_name
from sonar.report.site import Site
from sonar.times import DAY, HOUR, minute_text

from tests.report import month as planted
from tests.report.conftest import LATE, Cluster


def bodies(mails: list[EmailMessage], kind: str) -> list[str]:
    chosen = [mail for mail in mails if mail["X-Sonar-Report"] == kind]
    parts = [mail.get_body(("plain",)) for mail in chosen]
    return [part.get_content() for part in parts if part is not None]


def test_scans_find_what_was_planted_and_nothing_else(cluster: Cluster) -> None:
    site = cluster.site(planted.END)
    found = set()
    for name in planted.POLICIES:
        rule = policy_of(name)
        paths = log_files(site.state, name, planted.START, planted.END + DAY)
        for job in jobs_of(read_log(paths, rule.tags, rule.fields)):
            found.add((name, job.host, 0 if job.host == "all" else job.id, job.user))

    assert found == cluster.events.offenders | {(name, "all", 0, user) for name, user in planted.offenders_by_user()}


def test_each_offender_is_told_to_administrators_once(cluster: Cluster) -> None:
    text = "".join(bodies(cluster.mails(), "notice"))
    told = Counter(re.findall(r'on host "(\S+)":\n  Job#: (\d+)\n  User: (\S+)\n', text))

    # A job that breaks two policies is told of by each.
    expected = Counter((host, str(job), user) for _, host, job, user in cluster.events.offenders)
    users = {user for _, user in planted.offenders_by_user()}
    assert Counter({key: number for key, number in told.items() if key[0] != "all"}) == expected
    assert {user for host, _, user in told if host == "all"} == users
    assert [number for (host, _, _), number in told.items() if host == "all"] == [1, 1]
    assert ("g-2", "777", "zed") in told
    assert ("g-2", "777", "yan") in told


def test_no_mail_without_news(cluster: Cluster) -> None:
    before = len(cluster.mails())

    run_rhythm(cluster.site(planted.END), "notices")
    run_rhythm(cluster.site(planted.END), "weekly")

    assert len(cluster.mails()) == before
    assert all(body.strip() for body in bodies(cluster.mails(), "notice"))


def test_letters_go_to_offenders_once_about_their_own_jobs_on_working_days(cluster: Cluster) -> None:
    letters = [mail for mail in cluster.mails() if mail["X-Sonar-Report"] == "letter"]
    addressed = Counter(str(mail["To"]).removesuffix("@example.org") for mail in letters)
    with_letters = {name for name in planted.POLICIES if policy_of(name).letters}
    offenders = {user for name, _, _, user in cluster.events.offenders if name in with_letters}

    assert set(addressed) == offenders
    assert set(addressed.values()) == {1}
    for mail, text in zip(letters, bodies(cluster.mails(), "letter"), strict=True):
        own = str(mail["To"]).removesuffix("@example.org")
        assert not [
            user for user in {job.user for job in cluster.events.jobs} - {own} if re.search(rf"\b{user}\b", text)
        ]
        assert not re.match(r"Sat|Sun", str(mail["Date"]))


def test_states_remember_all_as_reported(cluster: Cluster) -> None:
    for name in planted.POLICIES:
        jobs = read_state(cluster.site(planted.END).state / f"{name}-state.csv").jobs
        assert all(job.is_reported for job in jobs)


def test_silent_and_down_nodes_are_those(cluster: Cluster) -> None:
    silent = cluster.report("public/silent-nodes.json")
    down = cluster.report("public/downtime.json")

    assert [(row["host"], row["state"]) for row in silent["rows"]] == [("c-4", "never"), ("c-3", "silent")]
    last, first = planted.at(11, 4) - planted.STEP, planted.at(11, 14)
    periods = {(row["host"], row["device"], row["length"]) for row in down["rows"]}
    # The file that came late is a day without samples: from the last of the day before to the first of the day after.
    assert periods == {
        ("g-2", "host", first - last),
        ("c-3", "host", planted.END - planted.at(29) + planted.STEP),
        ("g-1", "host", DAY + planted.STEP),
    }
    assert down["availabilities"]["g-3"] == down["availabilities"]["c-2"] == 100.0
    assert down["availabilities"][planted.NEVER] == 0.0
    assert down["availabilities"]["g-2"] == pytest.approx(100 - (first - last) / (30 * DAY) * 100, abs=0.01)


def test_misfits_are_the_jobs_without_a_card_on_nodes_that_have_some(cluster: Cluster, tmp_path: Path) -> None:
    site = cluster.site(planted.at(9))  # of the seven days before: the hogs of the third
    run_rhythm(Site(**{**_fields(site), "reports": tmp_path}), "daily")

    rows = json.loads((tmp_path / "admin" / "misfits.json").read_text())["rows"]

    assert {row["user"] for row in rows} == {"hog", "nearhog"}
    assert [row["cores"] for row in rows] == [8.0, pytest.approx(5.7, abs=0.1)]


def _fields(site: Site) -> dict[str, Any]:
    return {name: getattr(site, name) for name in Site.__dataclass_fields__}


def test_right_sizing_compares_with_what_slurm_reserved(cluster: Cluster, tmp_path: Path) -> None:
    run_rhythm(Site(**{**_fields(cluster.site(planted.at(17))), "reports": tmp_path}), "daily")

    rows = {row["name"]: row for row in json.loads((tmp_path / "admin" / "right-sizing.json").read_text())["rows"]}

    reserved = {job.user: job for job in cluster.events.jobs if job.reserved}
    assert set(rows) == set(reserved)
    assert rows["wanda"]["reserved-core-hours"] == 48.0
    assert rows["wanda"]["cpu-efficiency"] == pytest.approx(12.5, abs=0.5)
    assert rows["fits"]["cpu-efficiency"] == pytest.approx(56.2, abs=1)


def test_the_top_users_of_a_day_begin_with_the_whale(cluster: Cluster) -> None:
    from sonar.report import table

    survey = cluster.site(planted.at(22)).survey(DAY)
    top = table("top-users")
    rows = top.make(survey, top.given({"limit": "3"})).rows

    assert rows[0]["user"] == "moby"
    assert rows[0]["cpu-share"] > 50
    assert rows[0]["core-hours"] == pytest.approx(720, rel=0.02)
    assert len(rows) == 3


def test_utilization_has_no_names_and_the_planted_load(cluster: Cluster) -> None:
    report = cluster.report("public/utilization-2026-03.json")
    whole = {row["group"]: row for row in report["rows"] if row["day"] == "whole window"}
    days = [row["day"] for row in report["rows"] if row["group"] == "all"][1:]

    assert set(whole) == {"all", "gpu"}
    assert days == [f"2026-03-{day:02}" for day in range(1, 32)]
    # Three people use one card of four for 14 hours a day at 80 %: 14 / 24 * 0.8 / 4 of each node.
    assert whole["gpu"]["gpu"] == pytest.approx(11.7, abs=1)
    public, text = cluster.root / "reports" / planted.CLUSTER / "public", ""
    for suffix in ("txt", "csv", "html"):
        text = (public / f"utilization-2026-03.{suffix}").read_text()
        assert "2026-03-31" in text
    assert text.count("<svg") == 6  # cores, GPUs and memory, of all and of the group
    assert (cluster.root / "reports" / planted.CLUSTER / "public" / "utilization-2026-Q1.html").exists()


def test_nothing_public_names_anybody(cluster: Cluster) -> None:
    users = {job.user for job in cluster.events.jobs}
    commands = {"work", "defunct-finder", "<defunct>"}
    accounts = {f"proj-{job.user}" for job in cluster.events.jobs if job.reserved}
    directory = cluster.root / "reports" / planted.CLUSTER
    checked = set()
    for audience, secret in ((Audience.PUBLIC, users | commands | accounts), (Audience.LOGIN, users | accounts)):
        words = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(secret)))})(?![\w-])")
        for path in sorted((directory / audience).iterdir()):
            found = words.findall(_values_only(path))
            assert not found, f"{path.name} names {found}"
            checked.add((audience, path.name))
    public = {name for audience, name in checked if audience is Audience.PUBLIC}
    assert {Path(name).suffix for name in public} == {".json", ".csv", ".txt", ".html"}
    # Every table is there for all who may see it, and every other report that is public.
    for name in TABLES:
        seen = {audience for audience, file in checked if re.fullmatch(rf"{name}(-2026-03|-gpu)?\.json", file)}
        assert seen == {table(name).audience} - {Audience.ADMIN}, name
    assert {"at-a-glance.json", "hostnames.json", "hosts.json", "violations.json", "gpu-weekly.json"} <= public
    for mail in cluster.mails():
        if mail["X-Sonar-Report"] == "monthly":
            assert not re.findall(
                rf"(?<![\w-])({'|'.join(map(re.escape, sorted(users | accounts)))})(?![\w-])", str(mail)
            )


def _values_only(path: Path) -> str:
    """Return the text of a file; of JSON the rows and facts, since titles and help are ours and use common words."""
    text = path.read_text()
    if path.suffix != ".json":
        return text
    content = json.loads(text)
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name not in {"columns", "title", "labels"}}
        if path.name == "violations.json":
            content["rows"] = [{**row, "title": ""} for row in content["rows"]]
    return json.dumps(content)


def test_pseudonyms_stay_the_same_and_differ(cluster: Cluster) -> None:
    shown = cluster.report("login/top-users.json")["rows"]
    known = cluster.report("admin/top-users.json")["rows"]
    by_gpu = cluster.report("login/top-users-gpu.json")["rows"]
    by_gpu_known = cluster.report("admin/top-users-gpu.json")["rows"]

    names = {row["user"]: other["user"] for row, other in zip(known, shown, strict=True)}
    assert len(set(names.values())) == len(names)
    assert all(
        names[row["user"]] == other["user"]
        for row, other in zip(by_gpu_known, by_gpu, strict=True)
        if row["user"] in names
    )
    assert (cluster.root / "state" / planted.CLUSTER / "pseudonyms.key").stat().st_mode & 0o077 == 0


def test_every_json_file_is_valid_by_its_schema(cluster: Cluster) -> None:
    kinds = set()
    for path in sorted((cluster.root / "reports" / planted.CLUSTER).rglob("*.json")):
        audience = "provenance" if "provenance" in path.parts else path.parent.name
        kind = schema_name(audience, path.name)
        assert kind, f"{path.name} has no schema"
        schema = json.loads((DIRECTORY / f"{kind}.json").read_text())
        jsonschema.validate(json.loads(path.read_text()), schema)
        kinds.add(kind)
    assert kinds == {path.stem for path in DIRECTORY.glob("*.json")}


def test_the_schemas_of_tables_are_those_of_their_declarations() -> None:
    from sonar.report import TABLES, table
    from sonar.report.tables import schema_of

    for name in TABLES:
        assert json.loads((DIRECTORY / f"{name}.json").read_text()) == schema_of(table(name))


def test_load_shows_gaps_and_groups_do_not_pose_as_hosts(cluster: Cluster) -> None:
    monthly = cluster.report("public/g-1-monthly.json")

    gap = monthly["labels"].index(f"2026-03-{LATE[1]} 00:00")
    assert monthly["rcpu"][gap] is None
    assert monthly["downhost"][gap] == 1
    assert monthly["rcpu"][gap - 1] is not None
    assert cluster.report("public/hostnames.json") == ["c-1", "c-2", "c-3", "g-1", "g-2", "g-3"]
    assert cluster.report("public/gpu-weekly.json")["group"] == "g-*"
    glance = {row["hostname"]: row for row in cluster.report("public/at-a-glance.json")}
    assert glance["c-3"]["stale"] is True
    assert glance["c-3"]["jobs_recent"] == 0
    assert glance["g-1"]["stale"] is False


def test_late_data_mark_their_windows_and_the_next_hourly_run_makes_just_these(cluster: Cluster) -> None:
    site = cluster.site(planted.END + HOUR)
    assert late_tasks(site) == []
    public = site.reports / "public"
    before = {path.name: path.read_bytes() for path in public.iterdir()}
    for path, text in cluster.late.items():
        path.write_text(text)

    late = {(task.report, task.options.get("tag", task.options.get("file", ""))) for task in late_tasks(site)}

    assert ("load", "quarterly") in late
    assert ("downtime", "") in late
    assert ("utilization", "utilization-2026-03") in late
    assert ("load", "minutely") not in late  # its window begins later
    run_rhythm(site, "hourly")
    after = {path.name: path.read_bytes() for path in public.iterdir()}
    assert after["g-1-monthly.json"] != before["g-1-monthly.json"]
    assert after["g-1-minutely.json"] == before["g-1-minutely.json"]
    assert after["at-a-glance.json"] == before["at-a-glance.json"]
    # Made again as of then, not as of now: only what came late is new.
    assert json.loads(after["g-1-monthly.json"])["date"] == minute_text(planted.END)
    assert json.loads(after["g-1-monthly.json"])["rcpu"][-3] is not None
    assert late_tasks(site) == []
    known = provenance_of(public / "g-1-monthly.json")
    assert known["is_current"]

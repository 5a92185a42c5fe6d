"""sonarctl and the tools of administrators, as they are typed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.admin.conftest import LIBEXEC, NOW, Site

COMPLETIONS = LIBEXEC.parent / "completions"


def test_sonarctl_lists_each_tool_with_a_line(site: Site) -> None:
    listed = site.run("sonarctl").stdout

    for tool in LIBEXEC.iterdir():
        if tool.is_file() and tool.name != "sonarctl":
            line = next(line for line in listed.splitlines() if line.startswith(f"  {tool.name} "))
            assert len(line.split()) > 3, line


def test_sonarctl_runs_a_tool_and_ends_as_it_does(site: Site) -> None:
    assert site.run("sonarctl", "cluster", "list").stdout.startswith("NAME")
    assert site.run("sonarctl", "check", "--only", "nodes").returncode == 0
    assert site.run("sonarctl", "check", "--nonsense").returncode == 2
    unknown = site.run("sonarctl", "clutser")
    assert (unknown.returncode, unknown.stderr) == (2, "sonarctl: no tool 'clutser'; did you mean cluster?\n")
    assert site.run("sonarctl", "../bin/sh").returncode == 2


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sonarctl"], "cluster"),
        (["sonarctl", "cluster"], "remove"),
        (["sonarctl", "cluster", "add"], "--title"),
        (["sonarctl", "cluster", "remove"], "fox.example.org"),
        (["sonarctl", "gaps", "--cluster"], "fox.example.org"),
        (["sonarctl", "report"], "hourly"),
        (["sonalyze"], "uptime"),
        (["sonalyze", "jobs"], "--min-samples"),
    ],
)
def test_completion_offers_what_the_program_takes(site: Site, words: list[str], offered: str) -> None:
    site.describe("[Cluster]\n")
    assert offered in site.run("sonarctl", "--complete", *words).stdout.splitlines()


def test_bash_completes_a_tool_by_the_installed_file(tmp_path: Path, site: Site) -> None:
    command = tmp_path / "sonarctl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {LIBEXEC / "sonarctl"} "$@"\n')
    command.chmod(0o755)
    script = (
        f"source {COMPLETIONS / 'commands.bash'}; COMP_WORDS=(sonarctl cluster ad); COMP_CWORD=2; "
        'COMP_LINE="sonarctl cluster ad"; _sonar_commands; echo "${COMPREPLY[@]}"'
    )

    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=60,
    )  # fmt: skip

    assert done.stdout.split() == ["add"]


def test_cluster_is_added_shown_checked_and_removed(site: Site) -> None:
    passwords = site.root / "passwords"
    where = ("--password-file", str(passwords))

    added = site.run(
        "cluster", "add", "Fox.example.org", "--title", "Fox", "--alias", "fox", "--nodes", "n[1-2]", "--cores", "8",
        "--memory", "64G", "--gpus", "2", "--gpu-memory", "22G", "--recipient", "a@x.example", *where,
    )  # fmt: skip
    site.sample("n1", NOW - 10)
    site.sample("n9", NOW - 10)
    shown = json.loads(site.run("cluster", "show", "fox", "--json").stdout)
    checked = site.run("cluster", "check", *where)
    listed = json.loads(site.run("cluster", "list", "--json").stdout)
    twice = site.run("cluster", "add", "fox.example.org", *where)
    taken = site.run("cluster", "add", "hound", "--alias", "fox", *where)
    removed = site.run("cluster", "remove", "fox", *where)

    assert added.returncode == 0, added.stderr
    assert "fox.example.org:" in added.stdout
    assert [node["hostname"] for node in shown["nodes"]] == ["n1", "n2"]
    assert (shown["title"], shown["recipients"]["notices"]) == ("Fox", ["a@x.example"])
    assert checked.returncode == 1
    assert "1 nodes send data and are not described: n9" in checked.stdout
    assert "1 nodes are described and have sent nothing lately: n2" in checked.stdout
    assert [(row["name"], row["nodes"]) for row in listed] == [("fox.example.org", 2)]
    assert "described already" in twice.stderr
    assert "'fox' is an alias of fox.example.org already" in taken.stderr
    assert "its data stay in" in removed.stdout
    assert (site.data / "fox.example.org").is_dir()
    assert site.run("cluster", "remove", "nobody", *where).returncode == 1


def test_password_of_uploads_is_hashed_and_can_come_from_standard_input(site: Site) -> None:
    passwords = site.root / "passwords"

    site.run("cluster", "add", "fox", "--stdin", "--password-file", str(passwords), stdin="long enough\n")
    short = site.run("cluster", "add", "hound", "--stdin", "--password-file", str(passwords), stdin="short\n")

    assert passwords.read_text().startswith("fox:$scrypt$")
    assert passwords.stat().st_mode & 0o077 == 0
    assert short.returncode == 1
    assert not (site.root / "clusters/hound.conf").exists()


def test_bad_description_is_refused_and_nothing_is_written(site: Site) -> None:
    done = site.run("cluster", "add", "fox", "--interval", "soon", "--password-file", str(site.root / "passwords"))

    assert done.returncode == 1
    assert "SampleInterval: 'soon' is no span of time" in done.stderr
    assert list((site.root / "clusters").iterdir()) == []
    assert not (site.root / "passwords").exists()


def test_doctor_tells_settings_and_where_they_come_from(site: Site) -> None:
    site.settings("[Check]\nSilentAfter=5\n")

    text = site.run("doctor", "--settings").stdout
    rows = json.loads(site.run("doctor", "--settings", "--json").stdout)["settings"]

    assert f"SilentAfter=5 # {site.root}/sonar.conf.d/0.conf:2" in " ".join(text.split())
    assert {row["key"]: row["origin"] for row in rows}["CertificateDays"] == "default"


def test_doctor_names_mistakes_and_how_to_mend_them(site: Site) -> None:
    site.settings("[Check]\nSilentAfter=many\nFreSpace=3\n")
    site.describe("[Cluster]\nTitel=x\n")

    done = site.run("doctor")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: {site.root}/sonar.conf.d/0.conf:2: SilentAfter: 'many' is no whole number" in done.stdout
    assert "FreSpace: unknown (did you mean FreeSpace?)" in done.stdout
    assert "    mend: " in done.stdout


def test_status_shows_clusters_disks_and_warnings(site: Site) -> None:
    site.sample("n1", NOW - 5000)
    site.sample("n2", NOW - 60)

    text = site.run("status").stdout
    state = json.loads(site.run("status", "--json").stdout)

    row = next(line.split() for line in text.splitlines() if line.startswith("fox.example.org"))
    assert row[1:6] == ["1min", "ago", "2", "1", "0"]
    assert state["clusters"][0]["last_data"] == NOW - 60
    assert any("n1 of fox.example.org has been silent" in warning for warning in state["warnings"])
    assert state["disks"][0]["free_bytes"] <= shutil.disk_usage(site.data).free + (1 << 30)

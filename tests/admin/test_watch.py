"""Trouble is found, told once, told once more when it is over, and reaches people."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.admin.check import find
from sonar.admin.troubles import Memory, Trouble, compare, locked_memory
from sonar.admin.units import Unit
from sonar.config.settings import Settings
from sonar.outbox import waiting

from tests.admin.conftest import CLUSTER, NOW, Site

# Without a service manager its units cannot be looked at; that is told too, and not what these tests are about.
KINDS = ("--only", "nodes", "--only", "configuration", "--only", "disk", "--only", "outbox")


def alerts(site: Site) -> list[dict[str, object]]:
    return [json.loads(text) for text in site.outbox()]


def test_silent_node_is_told_once_and_once_more_when_it_is_back(site: Site) -> None:
    site.describe("[Cluster]\nSampleInterval=5min\n")
    site.sample("n1", NOW - 899)
    site.sample("n2", NOW - 901)
    site.sample("n3", NOW - 901)
    site.sample("gone", NOW - 20 * 86400, day="2025/12/20")

    for later in (0, 600, 1200):
        site.sample("n1", NOW + later)
        assert site.run("check", *KINDS, "--notify", now=NOW + later).returncode == 0
    first = alerts(site)
    site.sample("n1", NOW + 1790)
    site.sample("n2", NOW + 1790)
    site.run("check", *KINDS, "--notify", now=NOW + 1800)

    assert [(alert["title"], alert["nodes"], alert["state"]) for alert in first] == [
        (f"{CLUSTER}: 2 nodes silent", ["n2", "n3"], "trouble")
    ]
    assert [(alert["title"], alert["nodes"], alert["state"]) for alert in alerts(site)[1:]] == [
        (f"{CLUSTER}: 1 node sending again", ["n2"], "recovered")
    ]


def test_nobody_is_silent_as_long_as_nobody_could_reach_us(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sample("n1", NOW - 5000)
    monkeypatch.setenv("SONAR_CONFIG", str(site.root / "sonar.conf"))
    from sonar.config.settings import load_settings

    young, old = ([Unit(name="sonar-infiltrate.socket", active="active", active_s=age)] for age in (60.0, 3600.0))

    assert find(load_settings(), NOW, kinds=("nodes",), listed=young).troubles == []
    assert len(find(load_settings(), NOW, kinds=("nodes",), listed=old).troubles) == 1


def test_failed_and_often_restarted_units_are_trouble() -> None:
    listed = [
        Unit(name="sonar-daily@fox.example.org.service", active="failed", result="timeout", description="Daily"),
        Unit(name="sonar-infiltrate.service", active="active", restarts=7),
        Unit(name="sonar-sonalyzed.service", active="active", restarts=2),
        Unit(name="sonar-alert@x.service", active="failed"),
    ]

    found = find(Settings(), NOW, kinds=("units",), restarts_before={"sonar-infiltrate.service": 4}, listed=listed)

    assert [(one.unit, one.cluster) for one in found.troubles] == [
        ("sonar-daily@fox.example.org.service", "fox.example.org"),
        ("sonar-infiltrate.service", ""),
    ]
    assert "restarted 3 times" in found.troubles[1].text
    assert found.restarts == {"sonar-infiltrate.service": 7, "sonar-sonalyzed.service": 2}


def test_bad_description_and_full_disk_are_printed_and_make_the_status_1(site: Site) -> None:
    site.settings("[Check]\nFreeSpace=100%\n")
    site.describe("[Cluster]\nTitel=x\n")

    done = site.run("check", "--only", "disk", "--only", "configuration")

    assert done.returncode == 1
    assert "% of its space free" in done.stdout
    assert "Titel: unknown (did you mean Title?)" in done.stdout
    assert json.loads(site.run("check", "--only", "configuration", "--json").stdout)[0]["cluster"] == CLUSTER


def test_check_without_a_service_manager_says_so(site: Site) -> None:
    done = site.run("check", "--only", "units")

    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "systemctl" in done.stdout or "service manager" in done.stdout


def test_damaged_memory_is_set_aside(site: Site) -> None:
    site.sample("n1", NOW - 5000)
    (site.root / "state/troubles.json").write_text("{torn")

    site.run("check", *KINDS, "--notify")

    assert len(alerts(site)) == 1
    assert (site.root / "state/troubles.json.bad").read_text() == "{torn"
    assert json.loads((site.root / "state/troubles.json").read_text())["told"]


_TROUBLES = st.builds(
    lambda kind, what: Trouble(kind=kind, what=what, text=f"{kind} {what}"),
    st.sampled_from(["units", "nodes", "disk"]), st.sampled_from("abc"),
)  # fmt: skip


@given(st.lists(st.tuples(st.lists(_TROUBLES, max_size=5), st.sets(st.sampled_from(["units", "nodes", "disk"])))))
def test_each_trouble_alternates_between_new_and_over(rounds: list[tuple[list[Trouble], set[str]]]) -> None:
    memory, state = Memory(), dict[str, bool]()
    for now, (found, kinds) in enumerate(rounds):
        seen = [trouble for trouble in found if trouble.kind in kinds]
        new, over = compare(memory, seen, kinds, now)
        for trouble in new:
            assert not state.get(trouble.key)
            state[trouble.key] = True
        for trouble in over:
            assert state[trouble.key]
            state[trouble.key] = False
        wrong = {trouble.key for trouble in seen}
        assert all(state[key] for key in wrong)
        assert {key for key, on in state.items() if on and key.partition(":")[0] in kinds} == wrong


def test_lasting_trouble_is_told_again_after_the_time_that_is_set() -> None:
    memory, trouble = Memory(), Trouble(kind="disk", what="x", text="full")

    told = [len(compare(memory, [trouble], {"disk"}, now, 3600)[0]) for now in range(0, 9000, 600)]

    assert [index * 600 for index, count in enumerate(told) if count] == [0, 3600, 7200]


def test_memory_survives_and_one_writer_at_a_time_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "deep/troubles.json"

    def add(number: int) -> None:
        with locked_memory(path) as memory:
            memory.restarts[str(number)] = number

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with locked_memory(path) as memory:
        assert memory.restarts == {str(number): number for number in range(8)}


def test_alert_goes_every_way_and_only_the_failed_one_again(site: Site) -> None:
    got = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(got) == 1 else 204)
            self.end_headers()

        def log_request(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    mail = site.program("sendmail", f"cat >>{site.root}/mails")
    page = site.program(
        "page", f'cat >>{site.root}/pages; echo "$1 $SONAR_ALERT_STATE $SONAR_ALERT_NODES" >>{site.root}/pages'
    )
    site.settings(
        f"[Alert]\nMailTo=a@x.example b@x.example\nSendmail={mail} -t\nCommand={page} 'to all'\n"
        f"Webhook=http://127.0.0.1:{server.server_port}/secret\n[Report]\nBaseURL=https://sonar.example.org/\n"
    )
    site.sample("n1", NOW - 5000)
    site.run("check", *KINDS, "--notify")

    first = site.run("deliver")
    listed = site.run("deliver", "--list").stdout
    second = site.run("deliver")
    server.shutdown()
    thread.join()
    server.server_close()

    assert (first.returncode, second.returncode) == (1, 0)
    assert "the webhook answers 503" in first.stderr
    assert "secret" not in first.stderr
    assert listed.count(".json") == 1
    assert site.outbox() == []
    mails = (site.root / "mails").read_text()
    assert mails.count("Subject: [Sonar] fox.example.org: 1 node silent") == 1
    assert "To: a@x.example, b@x.example" in mails
    assert "https://sonar.example.org/c/fox.example.org" in mails
    assert "to all trouble n1" in (site.root / "pages").read_text()
    assert (site.root / "pages").read_text().count("to all") == 1
    assert [one["nodes"] for one in got] == [["n1"], ["n1"]]


def test_mail_waits_until_the_mail_program_takes_it(site: Site) -> None:
    program = site.program("sendmail", "exit 75")
    site.settings(f"[Alert]\nSendmail={program}\n")
    mail = "To: a@x.example\nSubject: hello\n\ntext\n"

    assert site.run("deliver", "--queue", stdin=mail).returncode == 0
    refused = site.run("deliver")
    site.program("sendmail", f"cat >{site.root}/mail")
    taken = site.run("deliver")

    assert (refused.returncode, taken.returncode) == (1, 0)
    assert "ended with status 75" in refused.stderr
    identity, _, rest = (site.root / "mail").read_text().partition("\n")
    assert re.fullmatch(r"Message-ID: <[^@]+@[^>]+>", identity)
    assert rest == mail
    assert list(waiting(site.root / "outbox")) == []
    assert site.run("deliver", "--queue", stdin="no mail\n").returncode == 1


def test_what_is_no_alert_is_set_aside_and_the_rest_goes(site: Site) -> None:
    (site.root / "outbox/0.json").write_text("[]")
    site.settings(f"[Alert]\nMailTo=a@x.example\nSendmail={site.program('sendmail', f'cat >{site.root}/mail')}\n")
    site.sample("n1", NOW - 5000)
    site.run("check", *KINDS, "--notify")

    assert site.run("deliver").returncode == 1
    assert "1 node silent" in (site.root / "mail").read_text()
    assert (site.root / "outbox/0.json.undeliverable").exists()

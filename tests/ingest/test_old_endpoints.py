"""`/sysinfo` and `/add`, and the options that say which day and which cluster."""

import json
from pathlib import Path

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, Infiltrate, Starter

TIME = "2025-01-07T00:00:02+01:00"
SYSINFO = {"timestamp": TIME, "hostname": "c1-6", "description": "2x64 AMD EPYC", "cpu_cores": 128, "mem_gb": 503}
DAY = f"{CLUSTER}/2025/01/07"


def test_sysinfo_is_stored_as_it_is(infiltrate: Infiltrate) -> None:
    pretty = json.dumps(SYSINFO, indent=1).encode()
    other = json.dumps(SYSINFO | {"hostname": "c1-7"}).encode()
    assert infiltrate.post(f"/sysinfo?cluster={CLUSTER}", pretty).status == 200
    assert (
        infiltrate.post(f"/sysinfo?cluster={CLUSTER}", pretty + b"\n" + other + b"{}").headers["x-sonar-dropped"] == "1"
    )
    refused = infiltrate.post(f"/sysinfo?cluster={CLUSTER}", b'{"hostname":"c1-6"}')
    assert (refused.status, refused.body) == (400, b"Missing timestamp or host in Sonar sysinfo data")

    infiltrate.stop()
    assert infiltrate.stored() == {
        f"{DAY}/sysinfo-c1-6.json": (pretty + b"\n") * 2,
        f"{DAY}/sysinfo-c1-7.json": other + b"\n",
    }


def test_finished_jobs_are_stored_by_the_day_of_their_end(infiltrate: Infiltrate) -> None:
    first = b'v=0.1.0,JobID=7,End=2025-01-07T00:00:02+01:00,"AllocTRES=cpu=20,mem=50G"\n'
    second = b"v=0.1.0,JobID=8,End=2025-01-08T00:00:02+01:00\n"
    bad = [b"v=0.1.0,JobID=9\n", b'v=0.1.0,"End=\n', b"v=0.1.0,End=Unknown\n", b"v=0.1.0,End=\n"]
    answer = infiltrate.post(f"/add?slurm-sacct=true&cluster={CLUSTER}", first + b"".join(bad) + second)
    assert (answer.status, answer.body, answer.headers["x-sonar-dropped"]) == (200, b"", str(len(bad)))

    infiltrate.stop()
    assert infiltrate.stored() == {
        f"{DAY}/slurm-sacct.csv": first,
        f"{CLUSTER}/2025/01/08/slurm-sacct.csv": second,
    }
    assert [(a.endpoint, a.host, a.records, a.span) for a in infiltrate.ledger()] == [("add/slurm-sacct", "", 2, 86400)]


def test_day_rules(start: Starter) -> None:
    server = start("--csv-day", "utc", "--json-day", "local")
    line = f"time={TIME},host=a,user=u\n".encode()
    envelope = {"data": {"type": "sample", "attributes": {"time": TIME, "node": "a"}}}
    assert server.post_csv(line).status == 200
    assert server.post("/insert/sample", json.dumps(envelope).encode()).status == 200
    assert server.post(f"/sysinfo?cluster={CLUSTER}", json.dumps(SYSINFO).encode()).status == 200

    server.stop()
    assert set(server.stored()) == {
        f"{CLUSTER}/2025/01/06/a.csv",
        f"{DAY}/0+sample-a.json",
        f"{CLUSTER}/2025/01/06/sysinfo-c1-6.json",
    }


def test_only_known_clusters_where_the_operator_wants_it(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "data" / CLUSTER).mkdir(parents=True)
    server = start("--known-clusters")
    line = f"time={TIME},host=a,user=u\n".encode()
    assert server.post_csv(line).status == 200
    answer = server.post_csv(line, "fox.example.org", user=FOX, password=FOX_PASSWORD)
    assert (answer.status, answer.body) == (403, b"unknown cluster 'fox.example.org'")
    (server.data / "fox.example.org").mkdir()
    assert server.post_csv(line, "fox.example.org", user=FOX, password=FOX_PASSWORD).status == 200


def test_settings_file_says_what_no_option_says(start: Starter, tmp_path: Path) -> None:
    settings = tmp_path / "sonar.conf"
    settings.write_text("[Ingest]\nCsvDay=utc\nMaxBody=100\nTopicPrefixes=test\n")
    server = start("--max-body", "200", environment={"SONAR_CONFIG": str(settings)})
    assert server.post_csv(f"time={TIME},host=a,user=u\n".encode() * 4).status == 200
    assert server.post_csv(bytes(201)).status == 413
    assert server.post("/insert/test.sample", b"{}").status == 400
    server.stop()
    assert set(server.stored()) == {f"{CLUSTER}/2025/01/06/a.csv"}

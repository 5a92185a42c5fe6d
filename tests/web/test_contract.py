"""The interface keeps what `/openapi.json` promises: schemathesis asks everything, rightly and wrongly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from tests.web.conftest import CLUSTER, NOW, Server, running

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
V2 = "/api/v2/cluster"


@pytest.fixture(scope="module")
def open_server(site: Path):  # type: ignore[no-untyped-def]
    """A server without passwords, so that the questions themselves are tried."""
    with running(site, ["--cluster-config", site, "--allow-anonymous", "--queries", "4"], tls=False) as server:
        yield server


def test_schemathesis_finds_nothing(open_server: Server, tmp_path: Path) -> None:
    """CONTRACT_EXAMPLES says how many questions for each path; a few unless it is set."""
    # Questions about a cluster that is there, of a host that is not: they go all the way and are quick.
    document = json.loads(open_server.get("/openapi.json", login=None).data)
    for item in document["paths"].values():
        for parameter in item["get"].get("parameters", ()):
            if parameter["name"] == "cluster":
                parameter["schema"] = {"type": "string", "enum": ["empty.example.org"]}
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    examples = os.environ.get("CONTRACT_EXAMPLES", "3")
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "run", tmp_path / "openapi.json", "--url", open_server.url,
         "--checks", CHECKS, "--max-examples", examples, "--phases", "examples,fuzzing", "--seed", "1",
         "--workers", "2", "--generation-database", "none", "--no-color", "--warnings", "off"],
        capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


def get(server: Server, path: str) -> urllib3.BaseHTTPResponse:
    return server.get(V2 + path, login=None)


def test_v2_series_are_the_means_of_the_samples(open_server: Server) -> None:
    node = "gpu-2.demo.example.org"
    answer = get(open_server, f"/demo/nodes/cpu/timeseries?nodename={node}&resolution_in_s=600")
    rows = json.loads(
        open_server.get(f"/load?cluster={CLUSTER}&none=true&host={node}&fmt=json,datetime,rcpu", login=None).data
    )
    series = json.loads(answer.data)[node]
    values = [float(record["rcpu"]) for one in rows for record in one["records"]][-13:]
    assert 5 <= len(series) <= 8
    assert all(point["cpu_util"] is None or 0 <= point["cpu_util"] <= 100 for point in series)
    assert min(values) - 1 <= series[-1]["cpu_util"] <= max(values) + 1


def test_v2_paths_in_both_spellings_and_their_errors(open_server: Server) -> None:
    hyphen, underscore = (get(open_server, f"/demo/nodes/last{sign}probe{sign}timestamp") for sign in "-_")
    assert json.loads(hyphen.data) == json.loads(underscore.data)
    assert set(json.loads(hyphen.data)) == {f"gpu-{at}.demo.example.org" for at in (1, 2, 3)}
    assert json.loads(get(open_server, "/demo/error-messages").data) == {}
    start = NOW - 7200
    for path in ("processes", "nodes/cpu/timeseries"):
        one, other = (
            get(open_server, f"/demo/{path}?{name}={start}").data for name in ("time_in_s", "start_time_in_s")
        )
        assert one == other
        assert len(one) > 100
    for path, status in (
        ("/nonesuch/processes", 404), ("/demo/processes?start_time_in_s=2000&end_time_in_s=1000", 400),
        ("/demo/processes?nonsense=1", 400), ("/demo/processes?start_time_in_s=-1", 400), ("/%2e%2e/processes", 400),
        ("/demo/nodes/cpu/timeseries?resolution_in_s=0", 400), ("/demo/nothing", 404),
        ("/demo/nodes/cpu/timeseries?nodename=[", 400), ("/demo/processes?resolution_in_s=0", 400),
        ("/demo/nodes/last-probe-timestamp?time_in_s=x", 400),
    ):  # fmt: skip
        answer = get(open_server, path)
        assert answer.status == status, (path, answer.data)
        assert set(json.loads(answer.data)) == {"title", "status", "detail"}


def test_v2_processes_and_clusters(open_server: Server) -> None:
    clusters = json.loads(open_server.get(V2, login=None).data)
    assert {one["cluster"] for one in clusters} >= {CLUSTER, "empty.example.org"}
    processes = json.loads(get(open_server, "/demo/processes").data)
    assert processes
    for host, own in processes.items():
        assert host.endswith("demo.example.org")
        assert {"pid", "user", "cmd", "cpu_pct", "mem_kb", "gpus", "time"} <= set(own[0])
    series = json.loads(get(open_server, "/demo/processes/timeseries").data)
    assert {host: len(own) for host, own in series.items()} == {host: len(own) for host, own in processes.items()}
    info = json.loads(get(open_server, "/demo/nodes/info").data)
    assert info["gpu-1.demo.example.org"]["memory"] == 512 << 20
    use = json.loads(get(open_server, "/demo/nodes/process/gpu/util").data)
    assert all(one["pids"] for one in use.values())


def test_v2_shows_a_user_only_own_processes(server: Server) -> None:
    for path in ("/demo/processes", "/demo/processes/timeseries", "/demo/processes/gpu"):
        answer = server.get(V2 + path, login="grete")
        users = {process["user"] for own in json.loads(answer.data).values() for process in own}
        assert users <= {"grete"}

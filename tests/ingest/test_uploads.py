"""What each endpoint answers, and what it leaves on disk."""

import json

import pytest

from tests.ingest.conftest import CLUSTER, FOX, FOX_PASSWORD, PASSWORD, Infiltrate, Starter
from tests.waiting import until

LINE = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=kim,cmd=lmp,job=998,cpu%=99.8\n"
HEARTBEAT = b"v=0.12.1,time=2025-01-07T12:05:01+01:00,host=c1-6,user=_sonar_,cmd=_heartbeat_\n"
SAMPLE = {
    "meta": {"producer": "sonar", "version": "0.18.4"},
    "data": {
        "type": "sample",
        "attributes": {"time": "2026-03-02T00:35:00+01:00", "cluster": CLUSTER, "node": "gpu-1", "jobs": []},
    },
}
FILE = f"{CLUSTER}/2025/01/07/c1-6.csv"


def envelope(kind: str = "sample", **attributes: object) -> bytes:
    merged = {"time": "2026-03-02T00:35:00+01:00", "cluster": CLUSTER, "node": "gpu-1"} | attributes
    present = {key: value for key, value in merged.items() if value is not None}
    return json.dumps({"meta": {"producer": "sonar"}, "data": {"type": kind, "attributes": present}}).encode()


def test_csv_lines_are_stored_as_they_are(infiltrate: Infiltrate) -> None:
    answer = infiltrate.post_csv(LINE + HEARTBEAT)

    assert (answer.status, answer.body) == (200, b"")
    assert "x-sonar-dropped" not in answer.headers
    infiltrate.stop()
    assert infiltrate.stored() == {FILE: LINE + HEARTBEAT}


def test_csv_day_is_that_of_the_records_own_offset(infiltrate: Infiltrate) -> None:
    late = b"v=0.7.0,time=2023-11-15T00:00:03+01:00,host=a,user=u,cmd=c\n"
    west = b"v=0.7.0,time=2023-11-14T23:00:03-08:00,host=a,user=u,cmd=c\n"

    assert infiltrate.post_csv(late + west).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {f"{CLUSTER}/2023/11/15/a.csv": late, f"{CLUSTER}/2023/11/14/a.csv": west}


def test_csv_of_several_hosts_is_sorted_and_keeps_its_order(infiltrate: Infiltrate) -> None:
    lines = [b"v=1,time=2025-01-07T12:05:01Z,host=h%d,n=%d\n" % (n % 3, n) for n in range(12)]

    assert infiltrate.post_csv(b"".join(lines)).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {f"{CLUSTER}/2025/01/07/h{k}.csv": b"".join(lines[k::3]) for k in range(3)}


def test_csv_drops_bad_lines_and_keeps_good_ones(infiltrate: Infiltrate) -> None:
    quoted = b'v=1,time=2025-01-07T12:05:01+01:00,host=c1-6,"gpus=0,1","cmd=say ""host=evil"""\n'
    first = b'"cmd=a,host=not,time=2020-01-01T00:00:00Z",time=2025-01-07T12:05:01+01:00,host=c1-6\n'
    bad = [
        b"v=1,time=yesterday,host=c1-6\n",
        b"v=1,time=2014-12-31T23:59:59Z,host=c1-6\n",
        b"v=1,time=2099-01-01T00:00:00Z,host=c1-6\n",
        b"v=1,time=2025-01-07T12:05:01+01:00\n",
        b"v=1,host=c1-6,cmd=x\n",
        b"v=1,time=2025-01-07T12:05:01+01:00,host=../../x\n",
        b"v=1,time=2025-01-07T12:05:01+01:00,host=cpuhog\n",
        b'v=1,time=2025-01-07T12:05:01+01:00,host=c1-6,"cmd=open\n',
        b"2023-09-01T12:00:00+00:00,host,4,user,1,cmd,1,1\n",
        b"v=1,time=2025-01-07T12:05:01+01:00,host=" + b"h" * 252 + b"\n",
    ]

    answer = infiltrate.post_csv(LINE + b"".join(bad) + b"\n  \n" + quoted + first + HEARTBEAT.rstrip())

    assert (answer.status, answer.headers["x-sonar-dropped"]) == (200, str(len(bad)))
    infiltrate.stop()
    assert infiltrate.stored() == {FILE: LINE + quoted + first + HEARTBEAT}
    assert b"10 of 14 records dropped: bad time 'yesterday'" in infiltrate.log.read_bytes()


def test_csv_without_a_good_line_is_refused(infiltrate: Infiltrate) -> None:
    for body, status, text in [
        (b"", 200, b""),
        (b"\n\n", 200, b""),
        (b"hello\n", 400, b"Missing timestamp or host in Sonar sample data"),
        (b'v=1,"\n', 400, b"Can't unmarshal Sonar free CSV: bad quotes"),
        (b"\xff\xfe\x00", 400, b"Missing timestamp or host in Sonar sample data"),
    ]:
        answer = infiltrate.post_csv(body)
        assert (answer.status, answer.body) == (status, text)

    infiltrate.stop()
    assert infiltrate.stored() == {}


def test_places_and_clusters(infiltrate: Infiltrate) -> None:
    for path, status in [
        ("/sonar-freecsv", 400),
        ("/sonar-freecsv?cluster=", 400),
        (f"/sonar-freecsv?cluster={CLUSTER}&cluster={CLUSTER}", 400),
        ("/sonar-freecsv?cluster=../x", 400),
        ("/sonar-freecsv?cluster=fox.example.org", 403),
        (f"/sonar-freecsv?cluster={CLUSTER.upper()}", 200),
        (f"/sonar-freecsv/?cluster={CLUSTER}", 404),
        ("/", 404),
        ("/insert/nothing", 404),
        ("/insert/test.sample", 404),
        ("/api/v2/insert/sample", 404),
        ("/%2e%2e/insert/sample", 404),
    ]:
        answer = infiltrate.post(path, LINE)
        assert (path, answer.status) == (path, status)
        assert "location" not in answer.headers


def test_methods_and_media_types(infiltrate: Infiltrate) -> None:
    path = f"/sonar-freecsv?cluster={CLUSTER}"

    refused = infiltrate.request("GET", path)
    assert (refused.status, refused.body, refused.headers["allow"]) == (405, b"Bad method", "POST")
    for given, status in {
        "text/csv": 200,
        "Text/CSV; charset=utf-8": 200,
        "text/plain": 200,
        "application/octet-stream": 200,
        "application/x-www-form-urlencoded": 200,
        "": 200,
        "application/json": 415,
    }.items():
        assert infiltrate.post(path, LINE, headers={"Content-Type": given}).status == status
    for given, status in {"application/json": 200, "application/vnd.x+json": 200, "text/csv": 415}.items():
        answer = infiltrate.post("/insert/sample", envelope(), headers={"Content-Type": given})
        assert answer.status == status


def test_credentials(infiltrate: Infiltrate) -> None:
    missing = infiltrate.post_csv(LINE, user=None)
    assert (missing.status, missing.body) == (401, b"Unauthorized")
    assert missing.headers["www-authenticate"] == 'Basic realm="sonar-ingest", charset="UTF-8"'
    assert infiltrate.post_csv(LINE, password="wrong").status == 401
    assert infiltrate.post_csv(LINE, user="nobody").status == 401
    assert infiltrate.post_csv(LINE, user=FOX, password=FOX_PASSWORD).status == 403
    headers = {"Content-Type": "text/csv", "Authorization": "Basic %%%"}
    assert infiltrate.post_csv(LINE, user=None, headers=headers).status == 401
    assert infiltrate.post_csv(LINE).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {FILE: LINE}
    log = infiltrate.log.read_text()
    assert "refused with 401" in log
    assert PASSWORD not in log
    assert "Basic" not in log


def test_anonymous_uploads_ignore_credentials(start: Starter) -> None:
    server = start("--allow-anonymous")

    assert server.post_csv(LINE, user="who", password="ever").status == 200
    assert server.post_csv(LINE, user=None, cluster="other.example.org").status == 200
    assert server.post("/insert/sample", envelope(cluster=None), user=None).status == 400


def test_one_credential_for_all_clusters_only_by_option(start: Starter) -> None:
    server = start("--any-cluster")

    assert server.post_csv(LINE, cluster="other.example.org").status == 200
    assert server.post_csv(LINE, cluster="other.example.org", password="wrong").status == 401


def test_aliases_are_resolved_before_credentials_and_storing(
    start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    aliases = tmp_path_factory.mktemp("aliases") / "aliases.json"
    aliases.write_text(json.dumps([{"alias": "ml", "value": CLUSTER, "note": 1}]))
    server = start("--aliases", str(aliases))

    assert server.post_csv(LINE, cluster="ml").status == 200
    assert server.post("/insert/sample", envelope(cluster="ML")).status == 200

    server.stop()
    assert {path.partition("/")[0] for path in server.stored()} == {CLUSTER}


@pytest.mark.parametrize("prefix", ["/insert", "/api/v0/insert", "/api/v1/insert"])
def test_envelopes_of_each_topic(infiltrate: Infiltrate, prefix: str) -> None:
    expected: dict[str, bytes] = {}
    for topic, kind, file, node in [
        ("sample", "sample", "0+sample-gpu-1.json", "gpu-1"),
        ("sysinfo", "sysinfo", "0+sysinfo-gpu-1.json", "gpu-1"),
        ("job", "jobs", "0+job-slurm.json", None),
        ("jobs", "job", "0+job-slurm.json", None),
        ("cluster", "cluster", "0+cluzter-slurm.json", None),
    ]:
        body = envelope(kind) + b"\n"
        answer = infiltrate.post(f"{prefix}/{topic}", body, headers={"Content-Type": "application/json"})
        told = {"cluster": CLUSTER, "topic": "job" if topic == "jobs" else topic, "time": "2026-03-02T00:35:00+01:00"}
        assert (answer.status, json.loads(answer.body)) == (200, told | ({"node": node} if node else {}))
        path = f"{CLUSTER}/2026/03/01/{file}"  # the day is in UTC
        expected[path] = expected.get(path, b"") + body

    infiltrate.stop()
    assert infiltrate.stored() == expected


def test_envelope_bytes_are_kept_but_for_blanks_and_the_token(infiltrate: Infiltrate) -> None:
    pretty = (
        b'{\n  "meta": {"producer": "sonar",\n "token": "secret\\" ,}", "version":"1"},\r\n "data": {"attributes": {\n'
        b'   "time": "2026-03-02T12:35:00Z", "node": "n",\n "load1": 1.50, "big": 123456789012345678901234567890,'
        b' "text": "a \\n  b", "unknown": [ 1,\n 2 ]}}\n}\n'
    )
    assert infiltrate.post("/insert/sample", pretty).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {
        f"{CLUSTER}/2026/03/02/0+sample-n.json": b'{"meta":{"producer":"sonar","version":"1"},"data":{"attributes":{'
        b'"time":"2026-03-02T12:35:00Z","node":"n","load1":1.50,"big":123456789012345678901234567890,'
        b'"text":"a \\n  b","unknown":[1,2]}}}\n'
    }


def test_several_envelopes_in_a_body(infiltrate: Infiltrate) -> None:
    bodies = [envelope(node="a"), envelope(node="b"), envelope(node="a", n=2)]
    nan = envelope(node="a").replace(b'"a"', b'"a", "x": NaN')
    both = json.dumps(json.loads(envelope(node="a")) | {"errors": []}).encode()

    foreign = envelope(cluster="fox.example.org")

    body = foreign + bodies[0] + b"\n" + nan + bodies[1] + both + b"[]" + bodies[2] + b"\n garbage"
    answer = infiltrate.post("/insert/sample", body)

    assert (answer.status, answer.headers["x-sonar-dropped"]) == (200, "5")
    infiltrate.stop()
    assert infiltrate.stored() == {
        f"{CLUSTER}/2026/03/01/0+sample-a.json": bodies[0] + b"\n" + bodies[2] + b"\n",
        f"{CLUSTER}/2026/03/01/0+sample-b.json": bodies[1] + b"\n",
    }


def test_envelopes_good_and_bad(infiltrate: Infiltrate) -> None:
    good = b""
    for body, status in [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b"[null]", 400),
        (b'{"data":null}', 400),
        (b'{"data":{"attributes":[]}}', 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 65 + b"1" + b"}" * 65, 400),
        (envelope("sysinfo"), 400),
        (envelope(time="2026-03-02 12:00"), 400),
        (envelope(time=17), 400),
        (envelope(time="1999-01-01T00:00:00Z"), 400),
        (envelope(node=None), 400),
        (envelope(node="../x"), 400),
        (envelope(node="n" * 253), 400),
        (envelope(cluster="../x"), 400),
        (envelope(cluster="fox.example.org"), 403),
        (envelope(cluster=None), 200),
        (envelope(cluster=""), 200),
        (envelope(gpus=[{"uuid": "x"}], jobs=[{"job": 1, "user": "kim", "removed_field": {"deep": [[[1]]]}}]), 200),
    ]:
        assert (body[:200], infiltrate.post("/insert/sample", body).status) == (body[:200], status)
        if status == 200:
            good += body + b"\n"

    infiltrate.stop()
    assert infiltrate.stored() == {f"{CLUSTER}/2026/03/01/0+sample-gpu-1.json": good}


def test_error_envelope_is_kept_apart_and_told(infiltrate: Infiltrate) -> None:
    errors = [{"detail": "Unknown batch system", "time": "2026-03-02T12:35:00Z", "cluster": CLUSTER, "node": "n1"}]
    body = json.dumps({"meta": {}, "errors": errors}).encode()

    assert infiltrate.post("/insert/cluster", body).status == 200

    infiltrate.stop()
    assert infiltrate.stored() == {f"{CLUSTER}/2026/03/02/0+errors-n1.json": body + b"\n"}
    assert b"n1 of mlx.example.org reports: Unknown batch system" in infiltrate.log.read_bytes()


def test_large_post_within_the_limit(infiltrate: Infiltrate) -> None:
    body = b"".join(LINE.replace(b"job=998", b"job=%d" % n) for n in range(30_000))

    assert infiltrate.post_csv(body).status == 200
    assert infiltrate.post_csv(b"x=1," + LINE[:-1] + b',"y=2"\n' + b"z" * (5 << 20)).headers["x-sonar-dropped"] == "1"

    infiltrate.stop()
    assert infiltrate.stored()[FILE].startswith(body)


def test_records_are_visible_while_it_runs(infiltrate: Infiltrate) -> None:
    assert infiltrate.post_csv(LINE).status == 200

    until(lambda: infiltrate.stored() == {FILE: LINE})


def test_line_without_an_end_from_an_older_writer_is_not_joined(
    start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("old")
    old = scratch / "data" / FILE
    old.parent.mkdir(parents=True)
    old.write_bytes(b"v=0.6.0,torn")
    server = start(scratch=scratch)

    assert server.post_csv(LINE).status == 200
    assert server.post_csv(HEARTBEAT).status == 200

    server.stop()
    assert server.stored() == {FILE: b"v=0.6.0,torn\n" + LINE + HEARTBEAT}

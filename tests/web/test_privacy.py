"""A user sees only own rows: every verb, format, page, export and error message is tried."""

import gzip
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pytest
import urllib3
from pyarrow import parquet

from sonar import verbs
from sonar.config.clusters import Clusters
from sonar.demo.history import _USERS, _WORK
from sonar.render.formats import Style
from sonar.verbs.declare import Reads
from sonar.verbs.parameters import options_of
from sonar.web import v2
from sonar.web.answers import _ACCEPTED
from sonar.web.app import application
from sonar.web.pages import PAGES
from sonar.web.privacy import _PERSONAL
from sonar.web.site import Site

from tests.web.conftest import CLUSTER, NOW, Server

ME = "grete"
LOGIN = "grete"
OTHERS = {name for name, *_ in _USERS} - {ME}
OWN_COMMANDS = set(_WORK["pipeline"].commands)
OTHER_COMMANDS = {command for work in _WORK.values() for command in work.commands} - OWN_COMMANDS


@pytest.fixture(scope="module")
def jobs_of_others(server: Server) -> dict[int, tuple[str, str]]:
    """Job numbers of others, with their users and hosts, as support sees them."""
    rows = json.loads(server.ask("jobs", cluster=CLUSTER, user="-", fmt="json,job,user,host", **{"from": "3d"}).data)
    found = {int(row["job"]): (row["user"], row["host"]) for row in rows if row["user"] in OTHERS}
    assert len(found) > 10
    assert any(row["user"] == ME for row in rows)
    return found


def assert_nobody_else(text: str, where: str) -> None:
    for word in OTHERS | OTHER_COMMANDS:
        assert not re.search(rf"(?<![\w/.-]){re.escape(word)}(?![\w.-])", text), f"{word!r} at {where}: {text[:600]}"


def text_of(response: urllib3.BaseHTTPResponse) -> str:
    """What an answer says, also where it is binary."""
    match response.headers.get("content-type", ""):
        case "application/vnd.apache.arrow.stream":
            return str(pa.ipc.open_stream(response.data).read_all().to_pylist())
        case "application/vnd.apache.parquet":
            return str(parquet.read_table(io.BytesIO(response.data)).to_pylist())
    return response.data.decode()


def texts_of(server: Server, path: str, accept: str = "") -> str:
    response = server.get(path, login=LOGIN, headers={"accept": accept} if accept else {})
    assert response.status < 500, (path, response.data)
    return text_of(response)


# What is tried of each address: the own name and somebody else's wherever a name can stand.
IN_PATHS = ("cluster", "node", "group", "job", "user")
NAMES_NOBODY = {
    "/version",
    "/api/v0/version",
    "/metrics",
    "/openapi.json",
    "/login",
    "/logout",
    "/static/{name:path}",
    "/q/{name:path}",
    "/q",
}
FORMATS = [f"{style.value},default" for style in Style]
FORMATS += ["", "csv,header,default", "json,user,cmd,host", "csv,user,cmd,host,job", "html,cpu", "help"]
ACCEPTS = ("text/html", *_ACCEPTED)
PERSONAL = (*_PERSONAL, "query", "sort")


def values_of(other: str, number: int) -> dict[str, tuple[str, ...]]:
    """Texts of the parameters that may say something of persons, right and wrong ones."""
    return {
        "user": ("-", ME, other, f"{ME},{other}", "no/body"),
        "exclude-user": (ME, other),
        "command": ("python", "gmx"),
        "exclude-command": ("bash",),
        "job": (str(number), "0", "x"),
        "exclude-job": (str(number),),
        "query": (f'user = "{other}"', f'user =~ "{other}" or user =~ "."', "nonesuch = 1"),
        "sort": ("user", "-user", "nonesuch"),
    }


def addresses(jobs_of_others: dict[int, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield path, `Accept`, and the words that the question itself has, of all that is declared: whatever is added to
    the declarations of pages, verbs, options, formats and paths is tried without a change here.
    """
    number, (other, host) = next(iter(jobs_of_others.items()))
    values = values_of(other, number)
    assert set(values) == set(PERSONAL)
    base = {"cluster": CLUSTER, "node": host, "group": "gpu-*"}
    for page in PAGES:
        for mine in (True, False):
            known = {**base, "job": str(number), "user": ME if mine else other}
            path = page.path.format(**{name: quote(known[name], "") for name in IN_PATHS})
            for query in ("", f"?user={other}&from=2d", f"?job={number}&from=2d"):
                yield path + query, "text/html", other if "{user}" in page.path or other in query else ""
    for name in (*verbs.NAMES, *verbs.ALIASES):
        verb = verbs.verb(name)
        options = {option.name for option in options_of(verb) if not option.local}
        question = f"cluster={CLUSTER}" if verb.reads is not Reads.SITE else ""
        for option, value in (("host", "gpu-2"), ("interval", "5"), ("report-name", "letters.json")):
            question += f"&{option}={value}" if option in options else ""
        question += f"&job={number}" if name in ("job", "explain", "profile") else ""
        yield f"/api/v0/{name}?{question}", "", ""
        formats = [*FORMATS, *(f"json,{alias}" for alias in verb.aliases)]
        for at, fmt in enumerate(formats if "fmt" in options else [""]):
            yield f"{'/api/v0' if at % 3 == 1 else ''}/{name}?{question}{f'&fmt={quote(fmt)}' * bool(fmt)}", "", ""
        for accept in ACCEPTS:
            yield f"/{name}?{question}", accept, ""
        for at, option in enumerate(sorted(options & set(PERSONAL))):
            for value in values[option]:
                yield f"{'/api/v0' if at % 2 else ''}/{name}?{question}&{option}={quote(value)}", "", value
    for one in v2.PATHS:
        path = f"/api/v2{one.path}".replace("{cluster}", CLUSTER)
        assert "{" not in path
        yield path, "", ""
        for parameter in one.parameters:
            yield f"{path}?{parameter}={host if parameter == 'nodename' else NOW - 7200}", "", ""


def test_nothing_anywhere_tells_of_others(server: Server, jobs_of_others: dict[int, tuple[str, str]]) -> None:
    def tried(address: tuple[str, str, str]) -> tuple[str, str]:
        path, accept, asked = address
        text = texts_of(server, path, accept)
        for word in re.findall(r"[\w.-]+", asked):  # an answer may repeat what was asked
            text = re.sub(rf"(?<![\w/.-]){re.escape(word)}(?![\w.-])", "", text)
        return path, text

    all_addresses = list(addresses(jobs_of_others))
    with ThreadPoolExecutor(4) as pool:
        for path, text in pool.map(tried, all_addresses):
            assert_nobody_else(text, path)
    # Nothing that the server answers is left out.
    asked = {urlsplit(path).path for path, *_ in all_addresses}
    site = Site(Clusters(server.data), None)
    for route in application(site).routes:
        pattern = getattr(route, "path", "")
        shape = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(pattern))
        is_moved = pattern.endswith(".html")
        assert is_moved or pattern in NAMES_NOBODY or any(re.fullmatch(shape, path) for path in asked), pattern


def test_own_rows_are_there(server: Server) -> None:
    for filters in ("", "&user=-", f"&user={ME}"):
        rows = json.loads(texts_of(server, f"/jobs?cluster={CLUSTER}&from=6d{filters}&fmt=json,user,cmd"))
        assert rows
        assert {row["user"] for row in rows} == {ME}


def test_somebody_elses_rows_are_as_if_there_were_none(server: Server) -> None:
    other = sorted(OTHERS)[0]
    known = server.get(f"/jobs?cluster={CLUSTER}&from=6d&user={other}", login=LOGIN)
    unknown = server.get(f"/jobs?cluster={CLUSTER}&from=6d&user=nobody-at-all", login=LOGIN)
    assert (known.status, known.data) == (unknown.status, unknown.data)


def test_sums_cannot_be_made_of_others_records(server: Server) -> None:
    """A filter by user, command or job on a verb about machines means the own records."""
    for name, more in (("load", "&fmt=csv,datetime,cpu,host"), ("metadata", "&merge-by-job=true")):
        own = server.get(f"/{name}?cluster={CLUSTER}&from=3d&user={ME}{more}").data
        for filters in (f"&user={ME}", "&user=-&exclude-user=nobody"):
            narrowed = server.get(f"/{name}?cluster={CLUSTER}&from=3d{filters}{more}", login=LOGIN).data
            assert narrowed == own
    everybody = server.get(f"/load?cluster={CLUSTER}&from=3d&to=1d&fmt=csv,datetime,cpu", login=LOGIN).data
    assert everybody == server.get(f"/load?cluster={CLUSTER}&from=3d&to=1d&fmt=csv,datetime,cpu").data


def test_profiles_of_others_are_as_if_there_were_none(
    server: Server, jobs_of_others: dict[int, tuple[str, str]]
) -> None:
    def about(number: int) -> tuple[int, str]:
        path = f"/profile?cluster={CLUSTER}&from=3d&job={number}&fmt=json"
        response = server.get(path, login=LOGIN)
        return response.status, response.data.decode().replace(str(number), "N")

    for number in list(jobs_of_others)[:3]:
        assert about(number) == about(987654321)


def test_what_is_told_of_one_job_is_told_to_its_owner_only(
    server: Server, jobs_of_others: dict[int, tuple[str, str]]
) -> None:
    number, (other, host) = next(iter(jobs_of_others.items()))
    for name in set(verbs.NAMES) & {"job", "explain", "dossier", "profile"}:
        for words in ("", "&fmt=json,default", "&fmt=csv,default", f"&host={host}", f"&user={other}"):
            path = f"/{name}?cluster={CLUSTER}&from=3d&job={{}}{words}"
            mine, unknown = (server.get(path.format(job), login=LOGIN) for job in (number, 987654321))
            assert mine.status == unknown.status, (path, mine.data)
            text = mine.data.decode().replace(str(number), "N").replace(f"{other!r}", "").replace(f"{host!r}", "")
            assert_nobody_else(text, path)
            if "user=" not in words:
                assert text == unknown.data.decode().replace("987654321", "N").replace(f"{host!r}", "")


def test_arrow_and_compressed_answers(server: Server) -> None:
    path = f"/jobs?cluster={CLUSTER}&from=6d&user=-&fmt=user,cmd,host"
    arrow = server.get(path, login=LOGIN, headers={"accept": "application/vnd.apache.arrow.stream"})
    assert set(pa.ipc.open_stream(arrow.data).read_all().column("user").to_pylist()) == {ME}
    packed = server.get(path, login=LOGIN, headers={"accept-encoding": "gzip"}, decode=False)
    data = gzip.decompress(packed.data) if "content-encoding" in packed.headers else packed.data
    assert_nobody_else(data.decode(), path)


def test_no_tag_of_somebody_else_gives_a_304(server: Server) -> None:
    path = f"/jobs?cluster={CLUSTER}&from=3d&to=1d&user=-&fmt=csv,user,job"
    tag = server.get(path).headers["etag"]
    response = server.get(path, login=LOGIN, headers={"if-none-match": tag})
    assert response.status == 200
    assert_nobody_else(response.data.decode(), path)


def test_who_has_one_cluster_sees_no_other(server: Server) -> None:
    for path in ("/jobs?cluster=demo", f"/api/v0/load?cluster={CLUSTER}", f"/c/{CLUSTER}", f"/c/{CLUSTER}/jobs"):
        refused = server.get(path, login="fox")
        unknown = server.get(path.replace(CLUSTER, "nonesuch").replace("demo", "nonesuch"), login="fox")
        assert refused.status == unknown.status == 404
        assert refused.data.decode().replace(CLUSTER, "X").replace("demo", "X") == unknown.data.decode().replace(
            "nonesuch", "X"
        )
    assert CLUSTER not in server.get("/", login="fox").data.decode()
    assert "empty.example.org" in server.get("/", login="fox").data.decode()


def test_violations_letters_and_reports_are_for_whom_they_are(server: Server) -> None:
    base = f"/c/{CLUSTER}/violations"
    everybody, own = (server.get(base, login=login).data.decode() for login in ("ada", LOGIN))
    assert "4711" in everybody
    assert "4712" in everybody
    assert "4711" not in own
    assert "4712" in own
    assert "Dear femi" in server.get(f"{base}/femi").data.decode()
    assert "Dear femi" not in server.get(f"{base}/femi", login=LOGIN).data.decode()
    assert "Dear grete" in server.get(f"{base}/grete", login=LOGIN).data.decode()
    for name, statuses in (
        ("letters.json", (200, 400)),
        ("top-users.json", (200,) * 2),
        ("hostnames.json", (200,) * 2),
    ):
        path = f"/report?cluster={CLUSTER}&report-name={name}"
        assert (server.get(path).status, server.get(path, login=LOGIN).status) == statuses
    listed = server.get(f"/c/{CLUSTER}/reports", login=LOGIN).data.decode()
    assert "letters.json" not in listed
    assert "top-users.json" in listed
    for name in ("../admin/letters.json", "..", "%2e%2e%2fadmin%2fletters.json", ".hidden", "admin/letters.json"):
        assert server.get(f"/report?cluster={CLUSTER}&report-name={name}", login=LOGIN).status == 400

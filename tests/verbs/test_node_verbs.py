"""The verbs about nodes: what they are made of, what they did as a whole, and where relative values come from."""

import resource
from pathlib import Path
from typing import Any

import pytest

from sonar.config.clusters import Clusters
from sonar.config.nodes import Node
from sonar.errors import SonarError, UsageError
from sonar.verbs import verb
from sonar.verbs.parameters import query_of

from tests.verbs.asking import NOW, ask, envelope, put, rows

GIB = 1 << 20


def described(node: str, time: str, **more: object) -> str:
    known = {
        "sockets": 1, "cores_per_socket": 8, "threads_per_core": 1, "cpu_model": "EPYC", "memory": 64 * GIB,
        "cards": [{"index": 0, "uuid": "A", "model": "A100", "memory": 40 * GIB}],
    }  # fmt: skip
    return envelope("sysinfo", time=f"{time}Z", node=node, **(known | more))


def old(node: str, time: str) -> str:
    return (
        f'{{"timestamp": "{time}Z", "hostname": "{node}", "cpu_cores": 56, "mem_gb": 251,\n'
        '"description": "2x14 (hyperthreaded) Xeon, 251 GB, 3x RTX 2080 @ 11GB"}\n'
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    put(tmp_path, "0+sysinfo-n1.x.json", described("n1.x", "2024-03-01T01:00:00"))
    put(tmp_path, "0+sysinfo-n1.x.json", described("n1.x", "2024-03-01T02:00:00", memory=128 * GIB))
    put(tmp_path, "0+sysinfo-n1.x.json", described("n1.x", "2024-02-25T02:00:00", memory=1 * GIB), day="2024/02/25")
    put(tmp_path, "sysinfo-n2.x.json", old("n2.x", "2024-03-01T00:10:00"))
    return tmp_path


def test_node_prints_each_description_or_the_newest(tree: Path) -> None:
    assert ask("node", tree) == (
        "host  cores  mem  gpus  gpumem  desc\n"
        "n1.x  8      64   1     40      1x8 EPYC, 64 GiB, 1x A100 @ 40GiB\n"
        "n1.x  8      128  1     40      1x8 EPYC, 128 GiB, 1x A100 @ 40GiB\n"
        "n2.x  56     251  3     33      2x14 (hyperthreaded) Xeon, 251 GB, 3x RTX 2080 @ 11GB\n"
    )
    assert rows("node", tree, "host,mem,Timestamp", newest="true") == [
        {"host": "n1.x", "mem": "128", "Timestamp": "2024-03-01 02:00"},
        {"host": "n2.x", "mem": "251", "Timestamp": "2024-03-01 00:10"},
    ]
    assert [row["host"] for row in rows("node", tree, "host", host="n2")] == ["n2.x"]


def test_a_description_that_was_sent_twice_is_there_once(tree: Path) -> None:
    put(tree, "0+sysinfo-n1.x.json", described("n1.x", "2024-03-01T02:00:00", memory=128 * GIB))

    assert len(rows("node", tree, "host", host="n1")) == 2
    assert len(rows("card", tree, "Node", host="n1")) == 2


def test_card_prints_the_cards_by_time_and_node(tree: Path) -> None:
    assert ask("card", tree, fmt="csv,Time,Node,Index,Model,Memory", host="n[1-2]") == (
        "2024-03-01 00:10,n2.x,0,RTX 2080,11534336\n"
        "2024-03-01 00:10,n2.x,1,RTX 2080,11534336\n"
        "2024-03-01 00:10,n2.x,2,RTX 2080,11534336\n"
        "2024-03-01 01:00,n1.x,0,A100,41943040\n"
        "2024-03-01 02:00,n1.x,0,A100,41943040\n"
    )


def test_config_prints_what_the_file_says_else_what_was_told_last(tree: Path) -> None:
    put(tree, "sysinfo-n3.x.json", old("n3.x", "2024-02-20T00:10:00"), day="2024/02/20")
    nodes = {"n1.x": Node("n1.x", "by hand", 16, 32, gpumem_pct=True), "n9.x": Node("n9.x", "new", 1, 2)}

    answer = ask("config", tree, nodes=nodes, fmt="csv,host,desc,cores,gpumempct,timestamp/iso")

    assert [line.split(",")[0] for line in answer.splitlines()] == ["n1.x", "n2.x", "n3.x", "n9.x"]
    assert answer.startswith("n1.x,by hand,16,yes,\n")
    assert answer.endswith("n9.x,new,1,no,\n")


def test_explicit_files_are_taken_whole(tree: Path) -> None:
    files = [tree / "2024/02/25/0+sysinfo-n1.x.json", tree / "2024/03/01/sysinfo-n2.x.json"]

    assert [row["mem"] for row in rows("node", files, "mem")] == ["1", "251"]


def test_relative_values_are_of_what_nodes_told_last_before_the_end(tree: Path) -> None:
    process = {"cmd": "x", "pid": 5, "cpu_avg": 400, "cpu_time": 0, "virtual_memory": 32 * GIB}
    for minute in (0, 5):
        job = {"job": 7, "user": "ann", "epoch": 0, "processes": [process | {"cpu_time": minute * 240}]}
        time = f"2024-03-01T10:{minute:02}:00Z"
        put(tree, "0+sample-n1.x.json", envelope("sample", time=time, node="n1.x", jobs=[job]))

    one = rows("jobs", tree, "job,cpu-avg,rcpu-avg,rmem-avg", user="-")
    assert one == [{"job": "7", "cpu-avg": "400", "rcpu-avg": "50", "rmem-avg": "25"}]
    assert rows("jobs", tree, "job", user="-", min_rcpu_avg="51") == []
    assert rows("load", tree, "rcpu,rmem", compact="true", host="n1")[0]["records"] == [{"rcpu": "50", "rmem": "25"}]  # type: ignore[comparison-overlap]
    # A file that describes the node goes before what it told.
    by_hand = {"n1.x": Node("n1.x", "by hand", 4, 32)}
    assert rows("jobs", tree, "rcpu-avg", user="-", nodes=by_hand) == [{"rcpu-avg": "100"}]


def test_hosts_that_nothing_is_known_of_are_left_out_of_relative_load_and_told(tree: Path) -> None:
    """Unless a file describes the nodes: then it is the file that lacks them."""
    for host in ("n1.x", "unknown.x"):
        job = {"job": 7, "user": "ann", "processes": [{"cmd": "x", "pid": 5, "cpu_avg": 400}]}
        put(tree, f"0+sample-{host}.json", envelope("sample", time="2024-03-01T10:00:00Z", node=host, jobs=[job]))
    load = verb("load")
    query, _ = query_of(load, {"fmt": ["csv,host,rcpu"], "compact": ["true"]}, data=tree, now=NOW)
    result = load.answer(query)

    assert result.rows.column("host").to_pylist() == ["n1.x"]
    assert [warning.split(",")[0] for warning in result.warnings] == ["no config info for unknown.x"]
    assert len(ask("load", tree, fmt="csv,host,cpu", compact="true").splitlines()) == 2
    with pytest.raises(SonarError, match=r"without config info for unknown\.x"):
        ask("load", tree, fmt="csv,host,rcpu", nodes={"n1.x": Node("n1.x", "by hand", 4, 32)})


def test_centuries_of_empty_slots_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("n1.x", "n2.x"):
        job = {"job": 7, "user": "ann", "processes": [{"cmd": "x", "pid": 5, "cpu_avg": 400}]}
        put(tmp_path, f"0+sample-{host}.json", envelope("sample", time="2024-03-01T10:00:00Z", node=host, jobs=[job]))
    assert len(ask("load", tmp_path, from_="2024-02-25", fmt="csv,cpu").splitlines()) == 2 * 133
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1 << 30, limit[1]))
    monkeypatch.setattr("sonar.verbs.partials.loads_of_all_hosts", None)

    with pytest.raises(SonarError, match="More than 766958 rows: ask for a shorter time"):
        ask("load", tmp_path, from_="1900-01-01")
    with pytest.raises(SonarError, match="More than 766958 rows"):
        ask("load", tmp_path, from_="1900-01-01", half_hourly="true", group="true")


def test_without_any_description_relative_values_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match="Relative values requested without config file"):
        ask("jobs", tmp_path, fmt="job,rcpu")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    for minute, used in ((0, [100, 100, 100]), (5, [110, 160, 400]), (10, [5, 5, 5])):
        gpus = [{"uuid": "A", "memory": 2048, "power": 50}, {"index": 1, "uuid": "B", "memory": minute}]
        disks = [{"name": "sda", "major": 8, "minor": 0, "stats": [minute] * 11}]
        system = {"cpus": used, "gpus": gpus, "disks": disks, "load1": minute / 2, "boot": "2024-02-28T00:00:00Z"}
        sample = envelope("sample", time=f"2024-03-01T10:{minute:02}:00Z", node="n1", system=system, jobs=[])
        put(tmp_path, "0+sample-n1.json", sample)
    line = "v=0.13.0,time=2024-03-01T10:{:02}:00Z,host={},user=a,cmd=b,load={}"
    for minute, load in ((0, "()))"), (5, "()(`0")):
        put(tmp_path, "n2.csv", line.format(minute, "n2", load) + ',"gpuinfo=musekib=7|8,poww=4|1"\n')
    # The same samples in both formats: the message counts.
    put(tmp_path, "n1.csv", line.format(0, "n1", "()))") + ",gpuinfo=musekib=99\n")
    put(tmp_path, "cpuhog.csv", "tag=x\n")
    return tmp_path


def test_gpu_prints_cards_sample_by_sample(samples: Path) -> None:
    assert ask("gpu", samples) == (
        "Hostname  Gpu  Timestamp         Memory  PowerDraw\n"
        "n1        0    2024-03-01 10:00  2048    50\n"
        "n1        1    2024-03-01 10:00  0       0\n"
        "n1        0    2024-03-01 10:05  2048    50\n"
        "n1        1    2024-03-01 10:05  5       0\n"
        "n1        0    2024-03-01 10:10  2048    50\n"
        "n1        1    2024-03-01 10:10  10      0\n"
        "n2        0    2024-03-01 10:00  7       4\n"
        "n2        1    2024-03-01 10:00  8       1\n"
        "n2        0    2024-03-01 10:05  7       4\n"
        "n2        1    2024-03-01 10:05  8       1\n"
    )
    assert [row["Index"] for row in rows("gpu", samples, "Index", gpu="1", host="n2")] == ["1", "1"]


def test_nodeprof_and_diskprof_print_what_messages_tell(samples: Path) -> None:
    assert rows("nodeprof", samples, "Timestamp,host,Boot,Load1")[1] == {
        "Timestamp": "2024-03-01 10:05", "host": "n1", "Boot": "2024-02-28 00:00", "Load1": "2.5",
    }  # fmt: skip
    assert ask("diskprof", samples, fmt="csv,default,header") == (
        "Timestamp,Hostname,Name,MsReading,MsWriting\n"
        "2024-03-01 10:00,n1,sda,0,0\n"
        "2024-03-01 10:05,n1,sda,5,5\n"
        "2024-03-01 10:10,n1,sda,10,10\n"
    )


def test_top_draws_cores_between_samples_but_not_over_a_boot(samples: Path) -> None:
    # 10, 60 and 300 seconds of 300.
    assert ask("top", samples) == "HOST: n1\n  2024-03-01 10:05 .oO\n"


def test_cluster_prints_clusters_with_their_names(tmp_path: Path) -> None:
    for name in ("fox.example.org", "elk.example.org"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "config").mkdir()
    described_cluster = '{"name": "fox", "description": "Foxes", "aliases": ["fox", "f"], "nodes": []}'
    (tmp_path / "config" / "fox.example.org-config.json").write_text(described_cluster)

    answer = ask("cluster", [], clusters=Clusters(tmp_path / "data", tmp_path / "config"), fmt="csv,Name,aliases")

    assert answer == 'elk.example.org,\nfox.example.org,"f,fox"\n'


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", ".hidden", "", "x y"])
def test_report_takes_no_path(name: str) -> None:
    with pytest.raises(UsageError, match="--report-name"):
        ask("report", [], report_name=name)


def test_a_known_host_that_was_never_sampled_was_down(tree: Path) -> None:
    for minute in range(0, 60, 5):
        put(tree, "0+sample-n1.x.json", envelope("sample", time=f"2024-03-01T11:{minute:02}:00Z", node="n1.x", jobs=[]))
    window: dict[str, Any] = {"interval": "5", "from_": "2024-03-01", "fmt": "csv,host,state,start,end"}
    silent = "n2.x,down,2024-03-01 00:00,2024-03-01 12:00\n"

    def down(**options: Any) -> str:
        return ask("uptime", tree, only_down="true", to="0d", **window, **options)

    assert down() == "n1.x,down,2024-03-01 00:00,2024-03-01 11:00\n" + silent
    assert down(host="n2") == silent
    assert down(host="n9*", nodes={"n9.x": Node("n9.x", "", 1, 1)}) == silent.replace("n2.x", "n9.x")
    assert "n2.x" not in ask("uptime", tree, only_up="true", to="0d", **window)


def test_report_is_that_of_the_most_narrow_audience(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sonar.cli.sonalyze import main

    for audience, name in (("admin", "a.json"), ("public", "a.json"), ("public", "b.json")):
        path = tmp_path / "reports" / "fox.example.org" / audience / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'["{audience}"]\n')
    (tmp_path / "data" / "fox.example.org").mkdir(parents=True)
    place = tmp_path / "reports" / "fox.example.org"
    (place / "public" / "link.json").symlink_to("/etc/passwd")

    def report(name: str, *where: str) -> tuple[int, str, str]:
        status = main(["report", "--report-name", name, *where])
        return status, *capsys.readouterr()

    assert report("a.json", "--report-dir", str(place)) == (0, '["admin"]\n', "")
    assert report("b.json", "--jobanalyzer-dir", str(tmp_path), "--cluster", "fox.example.org")[1] == '["public"]\n'
    assert report("link.json", "--report-dir", str(place)) == (1, "", "ERROR: No such report: 'link.json'\n")
    assert report("c.json", "--report-dir", str(place))[0] == 1
    assert report("a.json") == (1, "", "ERROR: No reports here: give --report-dir\n")


def test_clusters_are_those_of_this_machine_if_it_is_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sonar.cli.sonalyze import main

    (tmp_path / "sonar.conf").write_text(f"[Paths]\nData={tmp_path}/data\nClusters={tmp_path}/clusters\n")
    monkeypatch.setenv("SONAR_CONFIG", str(tmp_path / "sonar.conf"))

    assert main(["cluster"]) == 1
    assert "give --jobanalyzer-dir, or --remote" in capsys.readouterr().err
    (tmp_path / "data" / "fox.example.org").mkdir(parents=True)
    assert main(["cluster", "--fmt=csv,cluster"]) == 0
    assert capsys.readouterr().out == "fox.example.org\n"


def test_cores_of_a_record_that_goes_on_in_the_next_line(tmp_path: Path) -> None:
    for minute, load in ((0, "()"), (5, "(]0")):
        start = f"v=0.11.0,time=2024-03-01T10:0{minute}:00Z,host=n1.x,user=ann,load={load}"
        put(tmp_path, "n1.x.csv", f'{start},"cmd=two\nlines"\n')

    assert ask("top", tmp_path) == "HOST: n1.x\n  2024-03-01 10:05 .\n"

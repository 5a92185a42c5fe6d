"""Descriptions of clusters: NAME.conf, the original's JSON, aliases, and what is said about wrong ones."""

import json
import re
from pathlib import Path

import pytest

from sonar.config.clusters import Clusters, UnknownClusterError, aliases_of, described_in
from sonar.config.description import Cluster, read_description
from sonar.config.nodes import Node, read_nodes
from sonar.config.write import cluster_example
from sonar.errors import ConfigError, SonarError
from sonar.names import cluster_name

FOX = """\
[Cluster]
Title=Fox
Aliases=fox fx
SampleInterval=2min
Features=uptime gpu slurm
ExcludeUsers=root nobody
Audience=staff
DefaultNodes=gpu-[1-2]

[Node]
Hosts=c1-[5-6].fox c2.fox
Cores=128
Memory=512G

[Node]
Hosts=gpu-1.fox
Description=4x A100
Cores=64
Memory=1T
GPUs=4
GPUMemory=160G
CrossNodeJobs=no

[Group]
Name=gpu
Title=GPU nodes
Nodes=gpu-[1-10]

[Policy]
Name=idle-gpu
Options=--some-gpu --max-rcpu-peak=1
Window=12h
Trigger=Holds a GPU and does nothing.

[Recipients]
Notices=ops@fox.example.org
Weekly=ops@fox.example.org boss@fox.example.org
"""


def _fox(tmp_path: Path, text: str = FOX) -> Path:
    path = tmp_path / "fox.example.org.conf"
    path.write_text(text)
    return path


def test_description_is_read(tmp_path: Path) -> None:
    fox = read_description(_fox(tmp_path))

    assert (fox.name, fox.title, fox.aliases) == ("fox.example.org", "Fox", ("fox", "fx"))
    assert fox.sample_interval_s == 120
    assert fox.features == {"uptime", "gpu", "slurm"}
    assert fox.exclude_users == ("root", "nobody")
    assert fox.audience == "staff"
    assert fox.default_nodes == ("gpu-[1-2]",)
    assert list(fox.nodes) == ["c1-5.fox", "c1-6.fox", "c2.fox", "gpu-1.fox"]
    assert fox.nodes["c1-6.fox"] == Node("c1-6.fox", "", 128, 512, cross_node_jobs=True)
    assert fox.nodes["gpu-1.fox"] == Node("gpu-1.fox", "4x A100", 64, 1024, 4, 160)
    assert [(group.name, group.title, group.nodes) for group in fox.groups] == [("gpu", "GPU nodes", ("gpu-[1-10]",))]
    assert fox.policies == ("deadweight", "cpuhog", "idle-gpu")
    assert fox.own_policies["idle-gpu"].options == ("--some-gpu", "--max-rcpu-peak=1")
    assert fox.own_policies["idle-gpu"].window_s == 12 * 3600
    assert fox.recipients["weekly"] == ("ops@fox.example.org", "boss@fox.example.org")
    assert read_nodes(tmp_path / "fox.example.org.conf") == fox.nodes


def test_empty_description_and_none_mean_the_defaults(tmp_path: Path) -> None:
    empty = read_description(_fox(tmp_path, "# nothing yet\n[Cluster]\n"))

    assert empty == Cluster(name=cluster_name("fox.example.org"), title="fox.example.org")
    assert empty.policies == ("deadweight",)
    assert Clusters(tmp_path, tmp_path).describe(cluster_name("other")).title == "other"
    assert Clusters(tmp_path, tmp_path).nodes(cluster_name("other")) is None


def test_example_says_nothing_and_its_keys_are_known(tmp_path: Path) -> None:
    active = re.sub(r"^#(\[|[A-Z]\w+=)", r"\1", cluster_example(), flags=re.MULTILINE)

    assert read_description(_fox(tmp_path, cluster_example())).nodes == {}
    with pytest.raises(ConfigError) as caught:
        read_description(_fox(tmp_path, active))

    problems = "\n".join(caught.value.problems)
    assert "unknown" not in problems
    assert problems.count("has no") == 7


def test_drop_in_of_a_cluster_adds_and_wins(tmp_path: Path) -> None:
    _fox(tmp_path)
    drop_in = tmp_path / "fox.example.org.conf.d/local.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        "[Cluster]\nTitle=Our Fox\nAliases=vulpes\n[Node]\nHosts=new.fox\nCores=8\nMemory=64G\n[Recipients]\nWeekly=\n"
    )

    fox = Clusters(tmp_path, tmp_path).describe(cluster_name("fox.example.org"))

    assert fox.title == "Our Fox"
    assert fox.aliases == ("fox", "fx", "vulpes")
    assert "new.fox" in fox.nodes
    assert fox.recipients["weekly"] == ()


def test_all_that_is_wrong_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    path = _fox(
        tmp_path,
        "[Cluster]\nTitel=x\nSampleInterval=soon\nFeatures=gpu tpu\nAudience=all\nPolicies=deadwait\nAliases=../x\n"
        "[Node]\nHosts=n[2-1]\nCores=1\nMemory=1G\n"
        "[Node]\nHosts=n1 n1\nCores=8\nMemory=1M\nGPUMemory=8G\n"
        "[Node]\nCores=8\n"
        "[Group]\nName=../up\nNodes=n1\n"
        "[Nodes]\n"
        "[Recipients]\nWeekly=ops\n",
    )

    with pytest.raises(ConfigError) as caught:
        read_description(path)

    assert sorted(caught.value.problems) == sorted(
        [
            f"{path}:2: Titel: unknown (did you mean Title?)",
            f"{path}:3: SampleInterval: 'soon' is no span of time such as 90s, 5min or 1h 30min",
            f"{path}:4: Features: 'tpu' is none of uptime, gpu, slurm",
            f"{path}:5: Audience: 'all' is none of users, staff",
            f"{path}: Policies: no policy 'deadwait' (did you mean deadweight?)",
            f"{path}: Aliases: bad cluster name '../x'",
            f"{path}:9: Hosts: Backward range 2-1 in host pattern 'n[2-1]'",
            f"{path}:12: Cores= and Memory= must be at least 1 and 1G",
            f"{path}:12: without GPUs= there is no GPU memory",
            f"{path}:12: Hosts: node n1 is described already",
            f"{path}:17: [Node] has no Hosts=",
            f"{path}:17: [Node] has no Memory=",
            f"{path}:19: group '../up' is no part of a file name",
            f"{path}:22: unknown section [Nodes] (did you mean Node?)",
            f"{path}:24: Weekly: 'ops' is no mail address",
        ]
    )


def test_descriptions_of_the_original_are_read(tmp_path: Path) -> None:
    nodes = [{"hostname": "ml[1-2]", "cpu_cores": 8, "mem_gb": 64, "gpu_cards": 1, "cross_node_jobs": True}]
    (tmp_path / "old.example.org-config.json").write_text(json.dumps(nodes))
    document = {"name": "fox", "description": "Fox", "aliases": ["fx"], "exclude-user": ["root"], "nodes": nodes}
    (tmp_path / "newer-config.json").write_text(json.dumps(document))
    clusters = Clusters(tmp_path, tmp_path)

    old, newer = (clusters.describe(cluster_name(name)) for name in ("old.example.org", "newer"))

    assert clusters.described() == ["newer", "old.example.org"]
    assert list(old.nodes) == ["ml1", "ml2"]
    assert old.features == {"uptime", "gpu", "slurm"}
    assert old.policies == ("deadweight", "cpuhog")
    assert (newer.title, newer.aliases, newer.exclude_users) == ("Fox", ("fx",), ("root",))


def test_nodes_of_the_original_stay_in_use_beside_a_new_description(tmp_path: Path) -> None:
    (tmp_path / "ml-config.json").write_text(json.dumps([{"hostname": "ml1", "cpu_cores": 8, "mem_gb": 64}]))
    (tmp_path / "ml.conf").write_text("[Cluster]\nTitle=ML\n")

    ml = Clusters(tmp_path, tmp_path).describe(cluster_name("ml"))

    assert ml.title == "ML"
    assert list(ml.nodes) == ["ml1"]


def test_aliases_come_from_all_places_and_disputes_are_told(tmp_path: Path) -> None:
    _fox(tmp_path)
    (tmp_path / "cluster-aliases.json").write_text(json.dumps([{"alias": "ml", "value": "mlx.example.org"}]))
    (tmp_path / "data/fox.example.org").mkdir(parents=True)
    clusters = Clusters(tmp_path / "data", tmp_path)

    assert clusters.aliases() == {"ml": "mlx.example.org", "fox": "fox.example.org", "fx": "fox.example.org"}
    assert clusters.find("fx") == "fox.example.org"
    with pytest.raises(UnknownClusterError, match="no cluster 'ml'"):
        clusters.find("ml")

    (tmp_path / "hound.conf").write_text("[Cluster]\nAliases=fox\n")
    with pytest.raises(SonarError, match=r"hound\.conf: alias 'fox' belongs to fox\.example\.org already"):
        aliases_of(tmp_path)
    assert clusters.find("fox") == "fox.example.org"
    (tmp_path / "hound.conf").write_text("[Cluster]\nAliases=fox.example.org\n")
    with pytest.raises(SonarError, match=r"alias 'fox\.example\.org' is the name of another cluster"):
        aliases_of(tmp_path)
    assert "fox.example.org" not in clusters.aliases()


def test_a_bad_description_does_not_harm_the_other_clusters(tmp_path: Path) -> None:
    _fox(tmp_path)
    (tmp_path / "hound.conf").write_text("[Cluster]\nAliases=../x\n")
    (tmp_path / "bad name.conf").write_text("")
    clusters = Clusters(tmp_path, tmp_path)

    assert clusters.aliases() == {"fox": "fox.example.org", "fx": "fox.example.org"}
    assert clusters.describe(cluster_name("fox.example.org")).title == "Fox"
    with pytest.raises(SonarError, match=r"hound\.conf: Aliases: bad cluster name"):
        clusters.describe(cluster_name("hound"))


def test_a_changed_description_is_seen(tmp_path: Path) -> None:
    clusters = Clusters(tmp_path, tmp_path)
    fox = cluster_name("fox.example.org")
    _fox(tmp_path)
    assert clusters.describe(fox).title == "Fox"

    _fox(tmp_path, "[Cluster]\nTitle=Other\n")

    assert clusters.describe(fox).title == "Other"


def test_file_that_is_no_cluster_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad name.conf").write_text("")

    with pytest.raises(SonarError, match=r"bad name\.conf: bad cluster name"):
        described_in(tmp_path)

"""The command cluster: add, remove, list, show and check clusters."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar import __version__, log
from sonar.errors import SonarError, UsageError
from sonar.paths import CONFIG

if TYPE_CHECKING:
    from sonar.admin.membership import Place
    from sonar.names import ClusterName

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="sonarctl cluster",
        description="Add, remove, list, show and check clusters. See sonarctl-cluster(8).",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"cluster {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text.capitalize()}.", allow_abbrev=False)

    adding = command("add", "describe a cluster, let its nodes upload, start its reports")
    option = adding.add_argument
    option("name", metavar="NAME", help="its name, as uploads give it")
    option("--title", default="", metavar="TEXT", help="what people call it")
    option("--alias", action="append", default=[], metavar="NAME", help="another name of it")
    option("--interval", default="", metavar="SPAN", help="how often its nodes sample (5min)")
    option("--feature", action="append", default=[], metavar="WORD", help="uptime, gpu or slurm")
    option("--nodes", action="append", default=[], metavar="PATTERN", help="nodes that are alike, such as c1-[1-28]")
    option("--cores", type=int, default=0, metavar="N", help="logical cores of each of them")
    option("--memory", default="", metavar="SIZE", help="memory of each of them, such as 192G")
    option("--gpus", type=int, default=0, metavar="N", help="GPUs of each of them")
    option("--gpu-memory", default="", metavar="SIZE", help="memory of all the GPUs of one of them")
    option("--recipient", action="append", default=[], metavar="ADDRESS", help="who gets its reports by mail")
    option("--stdin", action="store_true", help="take the password of its uploads from standard input")
    option("--no-upload", action="store_true", help="make no password: its nodes have certificates, or none is wanted")
    removing = command("remove", "stop its uploads and reports; its data stay")
    removing.add_argument("name", metavar="NAME", help="its name or an alias")
    for each in (adding, removing):
        each.add_argument("--no-start", action="store_true", help="leave the service manager alone")
    showing = command("show", "show its description as it is understood")
    checking = command("check", "say what is not as it should be")
    listing = command("list", "list all clusters")
    showing.add_argument("name", metavar="NAME", help="its name or an alias")
    checking.add_argument("name", metavar="NAME", nargs="*", help="its name or an alias; all by default")
    for each in (showing, checking, listing):
        each.add_argument("--json", action="store_true", help="print JSON")
    for each in (adding, removing, checking):
        each.add_argument(
            "--password-file", type=Path, default=CONFIG / "ingest-passwords", metavar="FILE",
            help="who may upload (%(default)s)",
        )  # fmt: skip
    return made


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit status."""
    args = parser().parse_args(argv)
    from sonar.admin.membership import Place
    from sonar.config.settings import load_settings

    log.setup("sonar-cluster", only_journal=True)
    start = not getattr(args, "no_start", False) and Path("/run/systemd/system").is_dir()
    passwords = None if getattr(args, "no_upload", False) else getattr(args, "password_file", None)
    place = Place(load_settings(), passwords, start)
    commands = {"add": _add, "remove": _remove, "list": _list, "show": _show, "check": _check}
    return commands[args.command](place, args)


def _add(place: "Place", args: argparse.Namespace) -> int:
    from sonar.admin.membership import Order, add

    if args.nodes and not (args.cores and args.memory):
        raise UsageError("--nodes needs --cores and --memory")
    password = add(
        place,
        Order(
            name=args.name, title=args.title, aliases=args.alias, interval=args.interval, features=args.feature,
            nodes=args.nodes, cores=args.cores, memory=args.memory, gpus=args.gpus, gpu_memory=args.gpu_memory,
            recipients=args.recipient, password=_password(args),
        ),
    )  # fmt: skip
    print(f"Added {args.name.lower()}: {place.settings.paths.clusters / f'{args.name.lower()}.conf'}")
    if password is not None and not args.stdin:
        print(
            "Its nodes need, in /etc/sonar/upload-auth with mode 0600 (this is shown once):",
            f"    {args.name.lower()}:{password}",
            "and in /etc/sonar/node.env:",
            f"    SONAR_CLUSTER={args.name.lower()}",
            f"    SONAR_URL=https://{_own_name()}:8086",
            sep="\n",
        )
    return 0


def _password(args: argparse.Namespace) -> str | None:
    if not args.stdin:
        return None
    password = sys.stdin.readline().rstrip("\n")
    if len(password) < 8 or ":" in password:
        raise SonarError("the password on standard input is too short, or has a colon")
    return password


def _remove(place: "Place", args: argparse.Namespace) -> int:
    from sonar.admin.membership import remove

    name, done = remove(place, args.name)
    print(f"Removed {name}:", *(f"    {text}" for text in done), sep="\n")
    return 0


def _list(place: "Place", args: argparse.Namespace) -> int:
    from sonar.admin.arrivals import arrivals_of
    from sonar.times import iso_text, present

    rows: list[dict[str, Any]] = []
    for name in _names(place):
        arrivals = arrivals_of(place.settings.paths.data / name, present(), place.settings.check.forget_after)
        try:
            described = place.clusters.describe(name)
            title, aliases = described.title, list(described.aliases)
        except SonarError as error:
            title, aliases = f"({str(error).splitlines()[0]})", []
        newest = iso_text(arrivals.newest) if arrivals.newest else None
        rows.append(
            {"name": name, "title": title, "aliases": aliases, "nodes": len(arrivals.last), "last_data": newest}
        )  # fmt: skip
    if args.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return 0
    table = [("NAME", "NODES", "LAST DATA", "TITLE")]
    table += [(row["name"], str(row["nodes"]), row["last_data"] or "never", row["title"]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _show(place: "Place", args: argparse.Namespace) -> int:
    cluster = place.clusters.describe(_name(place, args.name))
    content = asdict(cluster)
    content["nodes"] = list(content["nodes"].values())
    content["features"] = sorted(content["features"])
    content["source"] = str(cluster.source) if cluster.source else None
    if args.json:
        print(json.dumps(content, ensure_ascii=False, indent=1, default=str))
        return 0
    content["nodes"] = [f"{len(cluster.nodes)} described"]
    content["groups"] = [f"{group.name} ({' '.join(group.nodes)})" for group in cluster.groups]
    content["own_policies"] = list(cluster.own_policies)
    content["recipients"] = [f"{report}: {' '.join(people)}" for report, people in cluster.recipients.items()]
    for key, value in content.items():
        text = (
            ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value if value is not None else "")
        )
        print(f"{key.replace('_', ' ')}: {text}".rstrip())
    return 0


def _check(place: "Place", args: argparse.Namespace) -> int:
    from sonar.admin.membership import examine
    from sonar.times import present

    names = [_name(place, text) for text in args.name] or _names(place)
    found = {name: examine(place, name, present()) for name in names}
    if args.json:
        print(json.dumps({name: [asdict(one) for one in findings] for name, findings in found.items()}, indent=1))
    for name, findings in () if args.json else found.items():
        print(f"{name}: {'well' if not findings else ''}".rstrip())
        for one in findings:
            print(f"    {one.text}\n        {one.mend}")
    return 1 if any(found.values()) else 0


def _names(place: "Place") -> "list[ClusterName]":
    data = place.settings.paths.data
    return sorted({*place.clusters.described(), *(place.clusters.names() if data.is_dir() else ())})


def _name(place: "Place", text: str) -> "ClusterName":
    from sonar.names import resolve_cluster

    name = resolve_cluster(text, place.clusters.aliases())
    if name not in _names(place):
        raise SonarError(f"there is no cluster {text[:80]!r}")
    return name


def _own_name() -> str:
    import socket

    return socket.getfqdn()

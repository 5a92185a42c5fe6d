"""The command cert: a private certificate authority, the certificates it signs, and when they end."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sonar
from sonar.cli.commands import new_app, run_app
from sonar.errors import SonarError, UsageError
from sonar.paths import CONFIG, STATE
from sonar.times import present

if TYPE_CHECKING:
    from sonar.serve.expiry import Certificate

__all__ = ["main"]

TOLD = STATE / "certificates-told.json"

app = new_app("Make a private certificate authority and what it signs, renew, and warn in time. See sonarctl-cert(8).")

_Directory = Annotated[Path, typer.Option("--directory", metavar="DIR", help="where they are")]
_DIRECTORY = CONFIG / "tls"
_FileName = Annotated[str, typer.Option("--name", metavar="FILE", help="write FILE.crt and FILE.key")]
_Files = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="PEM files (*.crt of --directory)")]


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    status = run_app(app, argv or ["--help"], "sonarctl cert")
    return status if argv else UsageError.exit_status


@app.callback()
def _program(*, version: Annotated[bool, typer.Option("--version", "-V", help="print the version")] = False) -> None:
    if version:
        print(f"cert {sonar.__version__}")
        raise typer.Exit


@app.command("ca")
def _ca(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name in its certificate")] = "Sonar private CA",
    *,
    directory: _Directory = _DIRECTORY,
) -> None:
    """Make the authority: ca.crt and ca.key."""
    from sonar.serve import certificates

    print(certificates.make_authority(directory, name))


@app.command("server")
def _server(
    hosts: Annotated[list[str], typer.Argument(metavar="HOST...", help="what clients call the server")],
    *,
    name: _FileName = "server",
    directory: _Directory = _DIRECTORY,
) -> None:
    """Make a certificate for a server."""
    from sonar.serve import certificates

    print(*certificates.make_server_certificate(directory, name, hosts), sep="\n")


@app.command("client")
def _client(
    clusters: Annotated[list[str], typer.Argument(metavar="CLUSTER...", help="what its holder may upload for")],
    *,
    name: _FileName = "",
    directory: _Directory = _DIRECTORY,
) -> None:
    """Make a certificate for nodes, instead of a password."""
    from sonar.serve import certificates

    print(*certificates.make_client_certificate(directory, name or clusters[0].lower(), clusters), sep="\n")


@app.command("renew")
def _renew(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="which; ca is the authority")] = None,
    *,
    within: Annotated[int, typer.Option(metavar="DAYS", help="without NAME: those that end so soon", min=0)] = 30,
    directory: _Directory = _DIRECTORY,
) -> None:
    """Make certificates anew, for the same names."""
    from sonar.serve import certificates

    for name in names or _ending_soon(directory, within):
        if name == "ca":
            print(certificates.renew_authority(directory))
        else:
            print(*certificates.renew_certificate(directory, name), sep="\n")


@app.command("revoke")
def _revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="which")],
    *,
    directory: _Directory = _DIRECTORY,
) -> None:
    """Let servers refuse a client's certificate."""
    from sonar.serve import certificates

    print(certificates.revoke_certificate(directory, name))


@app.command("show")
def _show(
    files: _Files = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, an object a line")] = False,
    directory: _Directory = _DIRECTORY,
) -> None:
    """Show what certificates are for, and when they end."""
    now = _now()
    found = [one for path in files or _in_directory(directory) for one in _first_of(path)]
    if as_json:
        print(*(json.dumps(_fields(one, now), ensure_ascii=False) for one in found), sep="\n")
        return
    table = [["FILE", "KIND", "FOR", "ENDS", "DAYS"]]
    for one in found:
        what = ",".join(one.names) or one.subject
        table.append([str(one.path), one.kind, what, f"{one.ends:%Y-%m-%d}", str(one.days_left(now))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command("check")
def _check(
    files: _Files = None,
    *,
    state: Annotated[Path, typer.Option(metavar="FILE", help="where is kept what was told")] = TOLD,
    directory: _Directory = _DIRECTORY,
) -> int:
    """Warn, once each, 30, 7 and 1 days before an end."""
    from sonar.serve.expiry import Certificate, certificates_in, due_notices, key_fits

    problems = []
    found: list[Certificate] = []
    for path in files or _in_directory(directory):
        try:
            found += certificates_in(path)
            key = path.with_suffix(".key")
            if key.exists() and not key_fits(path, key):
                problems.append(f"'{key}' is not the key of '{path}'")
        except SonarError as error:
            problems.append(str(error))
    for notice in due_notices(found, state, _now()):
        problems += [f"certificate '{notice.certificate.path}' of {notice.certificate.subject} {notice.text}"]
    for problem in problems:
        print(f"cert: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _ending_soon(directory: Path, days: int) -> list[str]:
    """Return the names of the certificates of our authority that end within so many days, the authority's first."""
    now = _now()
    (authority, *_) = _first_of(directory / "ca.crt")
    ending = [one for path in _in_directory(directory) for one in _first_of(path) if one.days_left(now) < days]
    names = [one.path.stem for one in ending if one.issuer == authority.subject and one.path.stem != "ca"]
    return (["ca"] if authority.days_left(now) < days else []) + names


def _in_directory(directory: Path) -> list[Path]:
    paths = sorted(directory.glob("*.crt"))
    if not paths:
        raise SonarError(f"no certificates in '{directory}'")
    return paths


def _first_of(path: Path) -> "tuple[Certificate, ...]":
    from sonar.serve.expiry import certificates_in

    return certificates_in(path)[:1]


def _fields(one: "Certificate", now: datetime) -> dict[str, object]:
    return {
        "file": str(one.path),
        "kind": one.kind,
        "subject": one.subject,
        "names": list(one.names),
        "issuer": one.issuer,
        "ends": one.ends.isoformat(),
        "days": one.days_left(now),
        "serial": f"{one.serial:x}",
        "sha256": one.fingerprint,
    }


def _now() -> datetime:
    return datetime.fromtimestamp(present(), UTC)

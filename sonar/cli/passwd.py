"""The command passwd: add, change and remove those who may upload and ask.

A password comes from the terminal, from standard input, or is made here; it is never an argument, which others could
see in the list of processes.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sonar
from sonar.cli.commands import new_app, run_app
from sonar.errors import SonarError, UsageError
from sonar.paths import CONFIG

if TYPE_CHECKING:
    from sonar.serve.passwords import Hash, Identity

__all__ = ["main"]

UPLOADS = CONFIG / "ingest-passwords"
QUESTIONS = CONFIG / "query-passwords"
SHORTEST = 8  # characters: NIST SP 800-63B, section 5.1.1.1
_GENERATED_BYTES = 24

app = new_app("Add, change and remove those who may upload and ask. See sonarctl-passwd(8).")

_Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
_File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help=f"the password file ({UPLOADS})")]
_Query = Annotated[bool, typer.Option("--query", help=f"the file of those who ask: {QUESTIONS}")]
_Stdin = Annotated[bool, typer.Option("--stdin", help="take the password from the first line of standard input")]
_Generate = Annotated[bool, typer.Option("--generate", help="make a password, and print it")]
_Clusters = Annotated[
    str | None, typer.Option(metavar="NAME,...", help="clusters that may be written or asked about; * for all")
]
_Role = Annotated[str | None, typer.Option(metavar="ROLE", help="user, support or admin")]
_Accounts = Annotated[
    str | None, typer.Option(metavar="NAME,...", help="accounts whose rows a user may see; * for all")
]


def main(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status: 0, 1 for an error while running, 2 for a wrong command line."""
    status = run_app(app, argv or ["--help"], "sonarctl passwd")
    return status if argv else UsageError.exit_status


@app.callback()
def _program(*, version: Annotated[bool, typer.Option("--version", "-V", help="print the version")] = False) -> None:
    if version:
        print(f"passwd {sonar.__version__}")
        raise typer.Exit


@dataclass(frozen=True, slots=True)
class _Order:
    """What somebody is to have."""

    name: str
    path: Path
    clusters: str | None
    role: str | None
    accounts: str | None
    stdin: bool
    generate: bool

    @property
    def has_attributes(self) -> bool:
        return (self.clusters, self.role, self.accounts) != (None, None, None)

    def apply(self, who: "Identity") -> "Identity":
        return _with_attributes(who, self.clusters, self.role, self.accounts)

    def new_password(self) -> "Hash":
        return _new_password(self.name, stdin=self.stdin, generate=self.generate)


def _takes_order(work: Callable[[_Order], None]) -> Callable[..., None]:
    """Make a command with the options of an order of a function that carries it out, and has its help."""

    def command(
        name: _Name,
        *,
        clusters: _Clusters = None,
        role: _Role = None,
        accounts: _Accounts = None,
        stdin: _Stdin = False,
        generate: _Generate = False,
        query: _Query = False,
        file: _File = None,
    ) -> None:
        work(_Order(name, _path(file, query=query), clusters, role, accounts, stdin, generate))

    command.__doc__ = work.__doc__
    return command


@app.command("add")
@_takes_order
def _add(order: _Order) -> None:
    """Add somebody; the file is made if it is not there."""
    from sonar.serve.passwords import Identity, PasswordFile, check_name

    name, path = order.name, order.path
    who = order.apply(Identity(check_name(name)))
    _refuse_if(path.exists() and _is_there(path, name), f"{name!r} is in '{path}' already: change it")
    hashed = order.new_password()
    with PasswordFile.changing(path) as passwords:
        _refuse_if(passwords.find(name) is not None, f"{name!r} is in '{path}' already: change it")
        passwords.put(who, hashed)
    _tell(path, f"added {name!r}")


@app.command("change")
@_takes_order
def _change(order: _Order) -> None:
    """Change somebody's password or attributes."""
    from sonar.serve.passwords import Hash, PasswordFile

    name, path = order.name, order.path
    _refuse_if(not _is_there(path, name), f"{name!r} is not in '{path}'")
    only_attributes = order.has_attributes and not (order.stdin or order.generate)
    hashed = None if only_attributes else order.new_password()
    with PasswordFile.changing(path) as passwords:
        entry = passwords.find(name)
        if entry is None:
            raise SonarError(f"{name!r} is not in '{path}'")
        secret = hashed or (Hash.of(entry.secret) if isinstance(entry.secret, str) else entry.secret)
        passwords.put(order.apply(entry.identity), secret)
    _tell(path, f"changed {name!r}")


@app.command("remove")
def _remove(name: _Name, *, query: _Query = False, file: _File = None) -> None:
    """Remove somebody."""
    from sonar.serve.passwords import PasswordFile

    path = _path(file, query=query)
    _refuse_if(not _is_there(path, name), f"{name!r} is not in '{path}'")
    with PasswordFile.changing(path) as passwords:
        passwords.remove(name)
        left = len(passwords.entries())
    _tell(path, f"removed {name!r}")
    if not left:
        print(f"passwd: '{path}' has no users now: the daemon lets nobody in", file=sys.stderr)


@app.command("list")
def _list(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, an object a line")] = False,
    query: _Query = False,
    file: _File = None,
) -> None:
    """List who is in the file, without passwords."""
    from sonar.serve.passwords import read_entries

    entries = read_entries(_path(file, query=query))
    rows = [
        {
            "name": entry.identity.name,
            "password": "plain" if isinstance(entry.secret, str) else "hashed",
            "role": str(entry.identity.role),
            "clusters": sorted(entry.identity.clusters),
            "accounts": sorted(entry.identity.own_accounts),
        }
        for entry in entries
    ]
    if as_json:
        print(*(json.dumps(row, ensure_ascii=False) for row in rows), sep="\n")
        return
    table = [["NAME", "PASSWORD", "ROLE", "CLUSTERS", "ACCOUNTS"]]
    table += [[",".join(value) if isinstance(value, list) else value or "" for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


@app.command("convert")
def _convert(
    *,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="the role of those that are hashed now")] = None,
    query: _Query = False,
    file: _File = None,
) -> None:
    """Hash all passwords that are in plain text, in place."""
    from sonar.serve.passwords import Hash, PasswordFile

    path = _path(file, query=query)
    _refuse_if(not path.exists(), f"no password file '{path}'")
    converted = 0
    with PasswordFile.changing(path) as passwords:
        for entry in passwords.entries():
            if isinstance(entry.secret, str):
                passwords.put(_with_attributes(entry.identity, None, role, None), Hash.of(entry.secret))
                converted += 1
    _tell(path, f"hashed {converted} passwords")


def _path(file: Path | None, *, query: bool) -> Path:
    if file is not None and query:
        raise UsageError("--file and --query exclude each other")
    return file or (QUESTIONS if query else UPLOADS)


def _is_there(path: Path, name: str) -> bool:
    """Return whether a name is in the file, before somebody is asked for a password in vain."""
    from sonar.serve.passwords import PasswordFile

    return PasswordFile.read(path).find(name) is not None


def _refuse_if(condition: bool, text: str) -> None:  # noqa: FBT001
    if condition:
        raise SonarError(text)


def _with_attributes(who: "Identity", clusters: str | None, role: str | None, accounts: str | None) -> "Identity":
    """Return the identity with the attributes that are given; an empty list takes one away."""
    from dataclasses import replace

    from sonar.names import cluster_name
    from sonar.serve.passwords import ANY, Role, check_name

    if clusters is not None:
        names = filter(None, clusters.split(","))
        who = replace(who, clusters=frozenset(name if name == ANY else cluster_name(name) for name in names))
    if accounts is not None:
        who = replace(who, own_accounts=frozenset(check_name(name) for name in accounts.split(",") if name))
    if role is not None:
        if role not in list(Role):
            raise UsageError(f"bad role {role!r}: want {', '.join(Role)}")
        who = replace(who, role=Role(role))
    return who


def _new_password(name: str, *, stdin: bool, generate: bool) -> "Hash":
    """Return the hash of a password that is typed twice, read from standard input, or made and printed."""
    import secrets
    from getpass import getpass

    from sonar.serve.passwords import Hash

    if stdin and generate:
        raise UsageError("--stdin and --generate exclude each other")
    if generate:
        password = secrets.token_urlsafe(_GENERATED_BYTES)
        print(password)
        return Hash.of(password)
    if stdin:
        return Hash.of(_checked(sys.stdin.readline().rstrip("\r\n")))
    if not sys.stdin.isatty():
        raise UsageError("standard input is no terminal: want --stdin or --generate")
    try:
        password = _checked(getpass(f"New password of {name}: "))
        if getpass("Once more: ") != password:
            raise SonarError("the two are not the same, nothing is changed")
    except EOFError:
        raise SonarError("given up, nothing is changed") from None
    return Hash.of(password)


def _checked(password: str) -> str:
    if len(password) < SHORTEST:
        raise SonarError(f"a password has at least {SHORTEST} characters")
    if not password.isprintable():
        raise SonarError("a password has no control characters")
    return password


def _tell(path: Path, text: str) -> None:
    """Say what was done, once the daemon whose file it is has taken it into use."""
    from sonar.admin import units

    unit = {UPLOADS: "sonar-infiltrate.service", QUESTIONS: "sonar-sonalyzed.service"}.get(path)
    hint = ""
    if unit is not None and Path("/run/systemd/system").is_dir():
        try:
            units.take_into_use(unit)
        except SonarError as error:
            hint = f", and {unit} has not taken it into use: {error}"
    print(f"passwd: {text}{hint}", file=sys.stderr)

"""passwd as people use it: by terminal, pipe and option; what it makes of files, and what it must not give away."""

import json
import os
import pty
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sonar.serve.identities import Identities, Role
from sonar.serve.passwords import Hash, Identity, PasswordFile, read_entries

PROGRAM = Path(__file__).resolve().parents[2] / "libexec" / "passwd"


def passwd(*argv: str | Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, PROGRAM, *argv], input=given, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "passwords"


def test_add_change_remove(file: Path) -> None:
    added = passwd("add", "fox", "--stdin", "--file", file, given="geheim-1\n")
    assert (added.returncode, added.stdout, added.stderr) == (0, "", "passwd: added 'fox'\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "geheim" not in file.read_text()
    assert Identities.load(file).check("fox", "geheim-1")

    again = passwd("add", "fox", "--stdin", "--file", file, given="geheim-2\n")
    assert (again.returncode, again.stderr) == (1, f"passwd: 'fox' is in '{file}' already: change it\n")

    assert passwd("change", "fox", "--stdin", "--file", file, given="geheim-2\n").returncode == 0
    assert Identities.load(file).check("fox", "geheim-2")
    assert not Identities.load(file).check("fox", "geheim-1")

    removed = passwd("remove", "fox", "--file", file)
    assert removed.returncode == 0
    assert "has no users now" in removed.stderr
    assert file.read_text() == ""
    assert passwd("remove", "fox", "--file", file).stderr == f"passwd: 'fox' is not in '{file}'\n"


def test_generated_password_is_all_of_standard_output(file: Path) -> None:
    made = passwd("add", "fox", "--generate", "--file", file)
    password = made.stdout.removesuffix("\n")
    assert len(password) == 32
    assert Identities.load(file).check("fox", password)
    assert password not in made.stderr


def test_attributes_are_set_and_taken_away(file: Path) -> None:
    file.touch(mode=0o600)
    file.write_text("ann:old-plain\n")
    done = passwd(
        "change", "ann", "--role", "support", "--clusters", "Fox,saga", "--accounts", "ec-ann", "--file", file
    )
    assert done.returncode == 0, done.stderr
    (entry,) = read_entries(file)
    assert entry.identity == Identity("ann", Role.SUPPORT, frozenset({"fox", "saga"}), frozenset({"ec-ann"}))
    assert Identities.load(file).check("ann", "old-plain")

    assert passwd("change", "ann", "--role", "user", "--clusters", "", "--file", file).returncode == 0
    (entry,) = read_entries(file)
    assert entry.identity == Identity("ann", Role.USER, frozenset(), frozenset({"ec-ann"}))
    assert Identities.load(file).check("ann", "old-plain")


def test_convert_keeps_comments_order_mode_owner_and_passwords(file: Path) -> None:
    ann = Hash.of("word-of-ann")
    file.write_text(f"# clusters\nfox:pa:ss\n\n  # people\nann:{ann}:role=admin\nold/slashed\n")
    file.chmod(0o400)
    if os.geteuid() == 0:
        os.chown(file, 0, 12345)
    before = file.stat()

    done = passwd("convert", "--role", "support", "--file", file)

    assert (done.returncode, done.stderr) == (0, "passwd: hashed 2 passwords\n")
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    lines = file.read_text().splitlines()
    assert [lines[0], *lines[2:5]] == ["# clusters", "", "  # people", f"ann:{ann}:role=admin"]
    assert lines[1].startswith("fox:$scrypt$")
    users = Identities.load(file)
    assert users.in_plain_text == 0
    assert users.check("fox", "pa:ss") == Identity("fox", Role.SUPPORT)
    assert users.check("ann", "word-of-ann") == Identity("ann", Role.ADMIN)
    assert users.check("old", "slashed")
    content = file.read_text()
    assert passwd("convert", "--file", file).stderr == "passwd: hashed 0 passwords\n"
    assert file.read_text() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_list_has_no_passwords(file: Path) -> None:
    file.touch(mode=0o600)
    file.write_text(f"fox:plain-word\nann:{Hash.of('x')}:accounts=b,a clusters=fox role=user\n")
    listed = passwd("list", "--file", file)
    assert listed.stdout.splitlines() == [
        "NAME  PASSWORD  ROLE  CLUSTERS  ACCOUNTS",
        "fox   plain     user",
        "ann   hashed    user  fox       a,b",
    ]
    objects = [json.loads(line) for line in passwd("list", "--json", "--file", file).stdout.splitlines()]
    assert objects[1] == {
        "name": "ann", "password": "hashed", "role": "user", "clusters": ["fox"], "accounts": ["a", "b"],
    }  # fmt: skip


def typed(*argv: str | Path, lines: list[str]) -> tuple[int, str]:
    """Run passwd at a terminal where somebody types the lines; return the exit status and what the terminal shows."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, str(PROGRAM), *map(str, argv)])
    shown = b""
    rest = list(lines)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        if shown.endswith(b": ") and rest:
            os.write(terminal, rest.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode()


def test_password_is_typed_twice_and_not_shown(file: Path) -> None:
    status, shown = typed("add", "fox", "--file", file, lines=["geheim-1", "geheim-1"])
    assert status == 0, shown
    assert "geheim" not in shown
    assert Identities.load(file).check("fox", "geheim-1")

    status, shown = typed("change", "fox", "--file", file, lines=["geheim-2", "geheim-3"])
    assert status == 1
    assert "not the same" in shown
    assert Identities.load(file).check("fox", "geheim-1")


@pytest.mark.parametrize(
    ("argv", "given", "status", "text"),
    [
        (["add", "fox"], "", 2, "standard input is no terminal"),
        (["add", "fox", "--stdin", "--generate"], "", 2, "exclude each other"),
        (["add", "fox", "--stdin"], "short\n", 1, "at least 8 characters"),
        (["add", "fox", "--stdin"], "", 1, "at least 8 characters"),
        (["add", "fox", "--stdin"], "tab\there-it-is\n", 1, "no control characters"),
        (["add", "fo:x", "--stdin"], "long-enough\n", 1, "bad name 'fo:x'"),
        (["add", "#fox", "--stdin"], "long-enough\n", 1, "bad name '#fox'"),
        (["add", "fox", "--stdin", "--role", "boss"], "long-enough\n", 2, "bad role 'boss'"),
        (["add", "fox", "--stdin", "--clusters", "../x"], "long-enough\n", 1, "bad cluster name '../x'"),
        (["add", "fox", "--query", "--stdin"], "long-enough\n", 2, "exclude each other"),
        (["change", "nobody", "--stdin"], "long-enough\n", 1, "cannot read password file"),
        (["convert"], "", 1, "no password file"),
        (["list"], "", 1, "cannot read password file"),
        (["add"], "", 2, "Missing argument"),
    ],
)
def test_mistakes_are_told_in_a_line_and_make_no_file(
    file: Path, argv: list[str], given: str, status: int, text: str
) -> None:
    done = passwd(*argv, "--file", file, given=given)
    assert done.returncode == status
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "long-enough" not in done.stderr
    assert not file.exists()


def test_bad_or_open_file_is_not_changed(file: Path) -> None:
    file.touch(mode=0o600)
    file.write_text("fox:plain\nbad line\n")
    done = passwd("convert", "--file", file)
    assert (done.returncode, done.stderr) == (1, f"passwd: {file}:2: want USER:PASSWORD\n")
    file.write_text("fox:plain\n")
    file.chmod(0o644)
    done = passwd("convert", "--file", file)
    assert done.returncode == 1
    assert "open to group or others" in done.stderr
    assert file.read_text() == "fox:plain\n"


def test_changes_at_the_same_time_all_count(file: Path) -> None:
    def add(name: str) -> None:
        with PasswordFile.changing(file) as passwords:
            passwords.put(Identity(name), "some-word")

    threads = [threading.Thread(target=add, args=(f"user{n}",)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.identity.name for entry in read_entries(file)} == {f"user{n}" for n in range(40)}


def test_change_that_fails_leaves_the_file(file: Path) -> None:
    file.touch(mode=0o600)
    file.write_text("fox:plain\n")

    def change() -> None:
        with PasswordFile.changing(file) as passwords:
            passwords.remove("fox")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert file.read_text() == "fox:plain\n"


def test_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.touch(mode=0o600)
    real.write_text("fox:plain\n")
    file.symlink_to(real)
    assert passwd("convert", "--file", file).returncode == 0
    assert file.is_symlink()
    assert real.read_text().startswith("fox:$scrypt$")

"""Password files and the check of credentials."""

import asyncio
import base64
from pathlib import Path

import pytest

from sonar.errors import SonarError
from sonar.serve.identities import Identities, basic_credentials, hash_password

CHEAP = "$scrypt$ln=4,r=8,p=1$"


def cheap_hash(password: str) -> str:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    digest = Scrypt(salt=b"0" * 16, length=32, n=16, r=8, p=1).derive(password.encode())
    salt, text = (base64.b64encode(part).decode().rstrip("=") for part in (b"0" * 16, digest))
    return f"{CHEAP}{salt}${text}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.touch(mode=0o600)
    return path


def test_plain_passwords(file: Path) -> None:
    file.write_text("# people\n\ngrunge:dirge\n  fuzz:fizz  \nbletch:blum:blam\n")
    users = Identities.load(file)

    assert len(users) == 3
    assert users.check("grunge", "dirge")
    assert users.check("fuzz", "fizz")
    assert users.check("bletch", "blum:blam")
    assert not users.check("grunge", "fizz")
    assert not users.check("nobody", "dirge")
    assert not users.check("", "")


def test_hashed_passwords(file: Path) -> None:
    file.write_text(f"ann:{hash_password('geheim')}\nbob:{cheap_hash('pass')}\nplain:word\n")
    users = Identities.load(file)

    for _ in range(2):  # the second time from memory
        assert users.check("ann", "geheim")
        assert users.check("bob", "pass")
        assert users.check("plain", "word")
        assert not users.check("bob", "geheim")
        assert not users.check("plain", "pass")
        assert not users.check("nobody", "pass")


def test_only_the_first_check_of_good_credentials_pays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"bob:{cheap_hash('pass')}\n")
    users = Identities.load(file)
    assert asyncio.run(users.verify("bob", "pass"))

    monkeypatch.setattr("sonar.serve.identities._Scrypt.matches", lambda *_: pytest.fail("derived again"))
    assert asyncio.run(users.verify("bob", "pass"))
    assert users.check("bob", "pass")


def test_unknown_user_costs_as_much_as_a_known_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"bob:{cheap_hash('pass')}\n")
    users = Identities.load(file)
    derived: list[str] = []

    def count(_: object, password: str) -> bool:
        derived.append(password)
        return True

    monkeypatch.setattr("sonar.serve.identities._Scrypt.matches", count)
    assert not users.check("nobody", "x")
    assert derived == ["x"]


def test_reload_changes_all_or_nothing(file: Path) -> None:
    file.write_text(f"bob:{cheap_hash('pass')}\ncarl:old\n")
    users = Identities.load(file)
    assert users.check("bob", "pass")

    file.write_text("bob\n")
    with pytest.raises(SonarError, match=":1: want USER:PASSWORD"):
        users.reload()
    assert users.check("bob", "pass")
    assert users.check("carl", "old")

    file.write_text(f"bob:{cheap_hash('other')}\ncarl:new\n")
    users.reload()
    assert not users.check("bob", "pass")
    assert users.check("bob", "other")
    assert not users.check("carl", "old")
    assert users.check("carl", "new")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "has no users"),
        ("# a:b\n", "has no users"),
        ("a:b\nc\n", ":2: want USER:PASSWORD"),
        ("a:b\n:c\n", ":2: want USER:PASSWORD"),
        ("a:\n", ":1: want USER:PASSWORD"),
        ("a:b\n\na:c\n", ":3: user 'a' is there twice"),
        ("a:$scrypt$ln=14,r=8$x$y\n", ":1: bad hash of user 'a'"),
        ("a:$scrypt$ln=40,r=8,p=1$" + "A" * 22 + "$" + "A" * 43 + "\n", ":1: bad hash of user 'a'"),
        ("a:$scrypt$ln=14,r=8,p=1$" + "A" * 13 + "$" + "A" * 43 + "\n", ":1: bad hash of user 'a'"),
    ],
)
def test_bad_files_are_refused_by_line(file: Path, content: str, text: str) -> None:
    file.write_text(content)

    with pytest.raises(SonarError, match=str(file)) as caught:
        Identities.load(file)
    assert text in str(caught.value)


def test_file_that_others_can_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("a:b\n")
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(SonarError, match="open to group or others"):
            Identities.load(file)

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert Identities.load(file).check("a", "b")


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match="No such file"):
        Identities.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (None, None),
        (b"", None),
        (b"Bearer YTpi", None),
        (b"Basic", None),
        (b"Basic ???", None),
        (b"Basic " + base64.b64encode(b"no colon"), None),
        (b"Basic " + base64.b64encode(b"a:b:c"), ("a", "b:c")),
        (b"basic  " + base64.b64encode("ö:ü".encode()), ("ö", "ü")),
        (b"BASIC " + base64.b64encode("ö:ü".encode("latin-1")), ("ö", "ü")),
    ],
)
def test_header(header: bytes | None, credentials: tuple[str, str] | None) -> None:
    assert basic_credentials(header) == credentials

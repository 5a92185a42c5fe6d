"""Password files and the check of credentials."""

import asyncio
import base64
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.serve.backoff import FREE_FAILURES
from sonar.serve.identities import (
    Identities,
    Identity,
    Role,
    TooBusyError,
    TooManyFailuresError,
    basic_credentials,
)
from sonar.serve.passwords import Hash, line_of, read_entries

ALIASES = {"fox": "fox.example.org"}
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


PAIRS = {"grunge": "dirge", "fuzz": "fizz", "bletch": "blum"}


@pytest.mark.parametrize("form", [str, cheap_hash], ids=["plain", "hashed"])
def test_each_user_has_the_own_password_and_nobody_another(file: Path, form: Callable[[str], str]) -> None:
    lines = [f"{user}:{form(password)}\n" for user, password in PAIRS.items()]
    file.write_text("# people\n\n  " + "\n".join(lines))
    users = Identities.load(file)

    tried = [
        *PAIRS.items(),
        *((user, word) for user in [*PAIRS, "nobody", ""] for word in [*PAIRS.values(), "dirg", ""]),
    ]
    for _ in range(2):  # the second time from memory
        let_in = {pair for pair in tried if (found := users.check(*pair)) and found.name == pair[0]}
        assert let_in == set(PAIRS.items())
        assert not any(users.check(*pair) for pair in set(tried) - let_in)
    assert len(users) == 3


def test_a_password_may_have_colons(file: Path) -> None:
    file.write_text("bletch:blum:blam\n")

    assert Identities.load(file).check("bletch", "blum:blam")
    assert not Identities.load(file).check("bletch", "blum")


def test_hashed_passwords(file: Path) -> None:
    file.write_text(f"ann:{Hash.of('geheim')}\nbob:{cheap_hash('pass')}\nplain:word\n")
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

    monkeypatch.setattr("sonar.serve.passwords.Hash.matches", lambda *_: pytest.fail("derived again"))
    assert asyncio.run(users.verify("bob", "pass"))
    assert users.check("bob", "pass")


def test_unknown_user_costs_as_much_as_a_known_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"bob:{cheap_hash('pass')}\n")
    users = Identities.load(file)
    derived: list[str] = []

    def count(_: object, password: str) -> bool:
        derived.append(password)
        return True

    monkeypatch.setattr("sonar.serve.passwords.Hash.matches", count)
    assert not users.check("nobody", "x")
    assert derived == ["x"]


def test_unknown_user_costs_what_most_hashes_of_the_file_cost(file: Path) -> None:
    costly = cheap_hash("x").replace("ln=4", "ln=5")
    file.write_text(f"a:{costly}\nb:{cheap_hash('y')}\nc:{costly}\n")

    nobody = Identities.load(file)._nobody

    assert nobody is not None
    assert nobody.cost == (5, 8, 1)


def test_equal_credentials_that_come_together_are_checked_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart all nodes of a cluster post in the same second."""
    file.write_text(f"fox:{cheap_hash('pass')}\n")
    users = Identities.load(file)
    derived: list[str] = []
    matches = Hash.matches

    def counted(self: Hash, password: str) -> bool:
        derived.append(password)
        return matches(self, password)

    monkeypatch.setattr(Hash, "matches", counted)

    async def scenario() -> list[Identity | None]:
        return await asyncio.gather(*(users.verify("fox", "pass", "192.0.2.1") for _ in range(1344)))

    assert asyncio.run(scenario()) == [Identity("fox")] * 1344
    assert derived == ["pass"]


def test_who_goes_away_does_not_take_the_answer_from_the_others(file: Path) -> None:
    file.write_text(f"fox:{Hash.of('pass')}\n")
    users = Identities.load(file)

    async def scenario() -> None:
        first = asyncio.create_task(users.verify("fox", "pass"))
        second = asyncio.create_task(users.verify("fox", "pass"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == Identity("fox")

    asyncio.run(scenario())


def test_checks_that_wait_are_bounded(file: Path) -> None:
    file.write_text(f"fox:{cheap_hash('pass')}\n")
    users = Identities.load(file)

    async def scenario() -> None:
        many = [asyncio.create_task(users.verify("fox", f"guess {n}", f"192.0.2.{n % 200}")) for n in range(300)]
        answers = await asyncio.gather(*many, return_exceptions=True)
        assert sum(isinstance(answer, TooBusyError) for answer in answers) == 300 - 256
        assert await users.verify("fox", "pass", "198.51.100.1") == Identity("fox")

    asyncio.run(scenario())


def test_who_guesses_must_wait_even_with_the_right_password(file: Path) -> None:
    file.write_text(f"fox:pass\nann:{cheap_hash('word')}\n")
    users = Identities.load(file)

    async def scenario() -> None:
        for n in range(FREE_FAILURES):
            assert await users.verify("fox", f"guess {n}", "192.0.2.1") is None
        with pytest.raises(TooManyFailuresError) as caught:
            await users.verify("fox", "pass", "192.0.2.1")
        assert 0 < caught.value.retry_after_s <= 1
        assert await users.verify("fox", "pass", "192.0.2.2")
        assert await users.verify("ann", "word", "192.0.2.1")

    asyncio.run(scenario())


def test_attributes(file: Path) -> None:
    hashed = cheap_hash("x")
    file.write_text(
        f"fox:{hashed}\n"
        f"relay:{hashed}:clusters=FOX,saga.example.org\n"
        f"all:{hashed}:clusters=*\n"
        f"ann:{hashed}:role=user accounts=ann,ec-ann clusters=fox\n"
        f"sue:{hashed}:role=support clusters=fox.example.org\n"
        f"root:{hashed}:  role=admin  \n"
    )
    who = {entry.identity.name: entry.identity for entry in read_entries(file)}

    assert who["fox"].may_write(ALIASES) == frozenset({"fox.example.org"})
    assert who["relay"].may_write(ALIASES) == frozenset({"fox.example.org", "saga.example.org"})
    assert who["all"].may_write(ALIASES) is None
    assert (who["ann"].role, who["ann"].accounts) == (Role.USER, frozenset({"ann", "ec-ann"}))
    assert who["ann"].may_ask("fox.example.org", ALIASES)
    assert not who["ann"].may_ask("saga.example.org", ALIASES)
    assert (who["sue"].role, who["sue"].accounts) == (Role.SUPPORT, None)
    assert not who["sue"].may_ask("saga.example.org", ALIASES)
    assert (who["root"].role, who["root"].accounts) == (Role.ADMIN, None)
    assert who["root"].may_ask("saga.example.org", ALIASES)
    assert who["fox"].role is Role.USER
    assert who["fox"].accounts == frozenset({"fox"})


def test_line_that_is_written_is_read_back(file: Path) -> None:
    hashed = Hash.parse(cheap_hash("x"))
    assert hashed is not None
    for identity in (
        Identity("a"),
        Identity("b@c", Role.SUPPORT, frozenset({"*"})),
        Identity("d", Role.USER, frozenset({"e", "f.g"}), frozenset({"h", "i"})),
        Identity("j", Role.ADMIN),
    ):
        file.write_text(line_of(identity, hashed))
        (entry,) = read_entries(file)
        assert (entry.identity, entry.secret) == (identity, hashed)


def test_name_that_no_cluster_can_have_may_write_nothing(file: Path) -> None:
    assert Identity("Ann Smith").may_write({}) == frozenset()


def test_old_files_have_a_slash_and_no_attributes(file: Path) -> None:
    file.write_text("frobnitz/fizzbuzz\nbob : role=admin\n")
    users = Identities.load(file)

    assert users.check("frobnitz", "fizzbuzz")
    assert users.check("bob", "role=admin") == Identity("bob", Role.USER)
    assert users.in_plain_text == 2


def test_no_password_is_in_a_text_of_the_entries(file: Path) -> None:
    file.write_text(f"a:geheim\nb:{cheap_hash('x')}\n")
    assert "geheim" not in repr(read_entries(file))
    assert "scrypt" not in repr(read_entries(file))


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
        ("a:b\nc\n", ":2: want USER:PASSWORD"),
        ("a:b\n:c\n", ":2: want USER:PASSWORD"),
        ("a:\n", ":1: want USER:PASSWORD"),
        ("a:b\n\na:c\n", ":3: user 'a' is there twice"),
        ("a:$scrypt$ln=14,r=8$x$y\n", ":1: bad hash of user 'a'"),
        ("a:$scrypt$ln=40,r=8,p=1$" + "A" * 22 + "$" + "A" * 43 + "\n", ":1: bad hash of user 'a'"),
        (f"a:{CHEAP}{'A' * 22}${'A' * 43}:rôle=user\n", ":1: bad attribute 'rôle=user' of user 'a'"),
        (f"a:{CHEAP}{'A' * 22}${'A' * 43}:role=user role=user\n", ":1: bad attribute 'role=user' of user 'a'"),
        (f"a:{CHEAP}{'A' * 22}${'A' * 43}:role=boss\n", ":1: bad role 'boss' of user 'a'"),
        (f"a:{CHEAP}{'A' * 22}${'A' * 43}:role=\n", ":1: bad attribute 'role='"),
        ("a:$scrypt$ln=14,r=8,p=1$" + "A" * 13 + "$" + "A" * 43 + "\n", ":1: bad hash of user 'a'"),
    ],
)
def test_bad_files_are_refused_by_line(file: Path, content: str, text: str) -> None:
    file.write_text(content)

    with pytest.raises(SonarError, match=str(file)) as caught:
        Identities.load(file)
    assert text in str(caught.value)


@pytest.mark.parametrize("content", ["", "# a:b\n"])
def test_a_file_without_users_lets_nobody_in_and_says_so(file: Path, content: str) -> None:
    file.write_text("a:b\n")
    users = Identities.load(file)
    before = users.lets_nobody_in

    file.write_text(content)
    users.reload()

    assert (before, users.lets_nobody_in) == (False, True)
    assert users.warning == f"'{file}' has no users: nobody is let in with a password"
    assert users.check("a", "b") is None
    assert asyncio.run(users.verify("a", "b")) is None


def test_file_that_others_can_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("a:b\n")
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(SonarError, match="open to group or others"):
            Identities.load(file)

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert Identities.load(file).check("a", "b")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(file: Path) -> None:
    file.write_text("a:b\n")
    os.chown(file, 12345, 12345)
    with pytest.raises(SonarError, match="belongs to another user"):
        Identities.load(file)


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


@given(st.text(alphabet=st.sampled_from("ab:/$=,# \n\r\x00ü") | st.characters(), max_size=120))
@settings(max_examples=400, deadline=None)
def test_any_file_is_read_or_refused_in_one_line(text: str) -> None:
    with tempfile.NamedTemporaryFile("wb") as scratch:
        scratch.write(text.encode(errors="surrogatepass"))
        scratch.flush()
        problem, users = "", 0
        try:
            users = len(Identities.load(Path(scratch.name)))
        except SonarError as error:
            problem = str(error)
    has_words = any(line.strip() and not line.strip().startswith("#") for line in text.split("\n"))
    assert bool(problem or users) == has_words
    assert not (problem and users)
    assert "\n" not in problem


@given(
    st.text(alphabet="abz09._-@", min_size=1, max_size=20).filter(lambda name: not name.startswith("#")),
    st.sampled_from(Role),
    st.frozensets(st.sampled_from(["fox", "a.b", "*"])),
    st.frozensets(st.text(alphabet="abz09._-", min_size=1, max_size=8)),
)
@settings(max_examples=200, deadline=None)
def test_any_identity_is_read_back(name: str, role: Role, clusters: frozenset[str], accounts: frozenset[str]) -> None:
    hashed = Hash.parse(cheap_hash("x"))
    assert hashed is not None
    identity = Identity(name, role, clusters, accounts)
    with tempfile.NamedTemporaryFile("w") as scratch:
        scratch.write(line_of(identity, hashed))
        scratch.flush()
        (entry,) = read_entries(Path(scratch.name))
    assert entry.identity == identity

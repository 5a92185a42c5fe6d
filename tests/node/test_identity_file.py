"""The identity file of a node."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.errors import SonarError
from sonar.node.identity import Identity, parse_identity, read_identity

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
without_colon = printable.filter(lambda text: ":" not in text)
white_space = st.text(" \t\r\n", max_size=3)


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("frobnitz/fizzbuzz", "frobnitz", "fizzbuzz"),
        ("frobnitz:fizzbuzz", "frobnitz", "fizzbuzz"),
        ("grunge:dirge", "grunge", "dirge"),
        (" grunge:dirge \r\n", "grunge", "dirge"),
        ("user:pa/ss", "user", "pa/ss"),
        ("user:pa:ss", "user", "pa:ss"),
        ("a/b:c", "a/b", "c"),
        ("user/pa/ss", "user", "pa/ss"),
    ],
)
def test_identities_of_both_forms(text: str, user: str, password: str) -> None:
    assert parse_identity(text) == Identity(user, password)


@given(white_space, without_colon, printable, white_space)
def test_first_colon_splits(before: str, user: str, password: str, after: str) -> None:
    assert parse_identity(f"{before}{user}:{password}{after}") == Identity(user, password)


@given(without_colon.filter(lambda text: "/" not in text), without_colon)
def test_slash_splits_where_there_is_no_colon(user: str, password: str) -> None:
    assert parse_identity(f"{user}/{password}\n") == Identity(user, password)


@given(st.text(max_size=30))
def test_any_text_is_an_identity_of_one_line_or_none(text: str) -> None:
    identity = parse_identity(text)

    assert identity is None or (identity.user and identity.password and "\n" not in identity.user + identity.password)


@pytest.mark.parametrize("text", ["", "fox", ":", "fox:", ":secret", "/secret", "fox:secret\nhen:secret\n", "f\0x:y"])
def test_other_files_are_refused_without_showing_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "identity"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(SonarError, match="must hold one line USER:PASSWORD") as refused:
        read_identity(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    path.write_text("fox:secret")
    path.chmod(mode)

    with pytest.raises(SonarError, match="may be read by others: chmod 0600 it"):
        read_identity(path)


def test_credential_of_a_service_may_have_the_mode_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    inside, outside = credentials / "upload-auth", tmp_path / "upload-auth"
    for path in (inside, outside):
        path.write_text("fox:secret\n")
        path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    assert read_identity(inside) == Identity("fox", "secret")
    for path in (outside, credentials / ".." / "upload-auth"):
        with pytest.raises(SonarError, match="may be read by others"):
            read_identity(path)


def test_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(SonarError, match=r"cannot read identity file '.*none': No such file"):
        read_identity(tmp_path / "none")

    path = tmp_path / "identity"
    path.write_bytes(b"fox:\xff")
    path.chmod(0o600)
    with pytest.raises(SonarError, match="is not UTF-8 text"):
        read_identity(path)


def test_password_is_in_no_text_that_is_printed() -> None:
    assert "secret" not in f"{Identity('fox', 'secret')!r} {Identity('fox', 'secret')}"

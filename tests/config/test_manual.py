"""The examples of sonar.conf(5) and sonar-cluster(5) are files that can be read."""

import re
from pathlib import Path

from sonar.config.description import read_description
from sonar.config.settings import load_with_origins, table

MAN = Path(__file__).resolve().parents[2] / "man"


def example_of(page: str) -> str:
    """Return the first literal block below EXAMPLES."""
    section = (MAN / page).read_text().partition(".Sh EXAMPLES\n")[2]
    return str(re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", section, re.MULTILINE | re.DOTALL)[0])


def test_example_of_settings_is_read(tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text(example_of("sonar.conf.5"))

    settings, origins = load_with_origins([tmp_path / "site.conf"])

    assert settings.alert.mail_to == ("hpc-admins@example.org",)
    assert settings.check.free_space == 15
    assert len(origins) == 3


def test_example_of_a_cluster_is_read(tmp_path: Path) -> None:
    (tmp_path / "saga.example.org.conf").write_text(example_of("sonar-cluster.5"))

    saga = read_description(tmp_path / "saga.example.org.conf")

    assert (saga.title, len(saga.nodes), saga.groups[0].name) == ("Saga", 32, "gpu")
    assert saga.nodes["gpu-1.saga"].gpu_cards == 4


def test_every_setting_is_in_the_manual() -> None:
    page = (MAN / "sonar.conf.5").read_text()

    for setting in table():
        assert f".It Va {setting.key} Ns = Ns Ar {setting.kind.name}\n" in page

"""The packages name all that the preset enables, and all that is installed."""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def enabled() -> set[str]:
    return set(re.findall(r"^enable (\S+)$", (TOP / "units/sonar-server.preset").read_text(), re.MULTILINE))


def test_preset_enables_what_is_there_and_leaves_no_unit_out() -> None:
    files = [path for path in (TOP / "units").glob("sonar*.*") if path.is_file()]
    named = re.findall(r"^(?:enable|disable) (\S+)$", (TOP / "units/sonar-server.preset").read_text(), re.MULTILINE)

    assert sorted(named) == sorted(path.name for path in files if "[Install]" in path.read_text())


def test_enabling_the_target_enables_what_the_preset_does() -> None:
    also = re.findall(r"^Also=(.*)$", (TOP / "units/sonar.target").read_text(), re.MULTILINE)

    assert {"sonar.target", *" ".join(also).split()} == enabled()


def test_rpm_enables_what_the_preset_does() -> None:
    spec = (TOP / "packaging/rpm/sonar-server.spec").read_text()
    post = set(re.findall(r"^%systemd_post (.*)$", spec, re.MULTILINE)[0].split())
    preun = set(re.findall(r"^%systemd_preun (.*)$", spec, re.MULTILINE)[0].split())

    assert post == enabled()
    assert preun == enabled() | {"sonar-node.target"}

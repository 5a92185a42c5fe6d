"""What `make install` leaves: all of the package and nothing that names the stage; uninstall leaves data alone."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import LIBRARY, TOP

pytestmark = pytest.mark.system


def files_of(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }


def test_all_of_the_package_is_installed_and_nothing_else(installed: Path) -> None:
    (package,) = installed.glob("usr/lib/sonar-server/venv/lib/python3*/site-packages/sonar")

    assert files_of(package) == files_of(TOP / "sonar")


def test_nothing_names_the_stage_and_everything_runs_isolated(installed: Path) -> None:
    release = (installed / LIBRARY / "venv").resolve()
    assert re.fullmatch(r"venv-[\d.]+-[0-9a-f]{12}", release.name)
    assert sorted(path.name for path in (installed / LIBRARY).iterdir()) == ["prune", "venv", release.name]
    for path in [*(installed / "usr/libexec/sonar").iterdir(), *(installed / "lib/systemd/system").rglob("*.*")]:
        if path.is_file():
            assert str(installed) not in path.read_text(), path
    for path in (installed / "usr/libexec/sonar").iterdir():
        assert path.read_text().splitlines()[0] == f"#!/{LIBRARY}/{release.name}/bin/python -I"
        assert path.stat().st_mode & 0o777 == 0o755
    assert str(installed) not in (installed / "usr/lib/sonar-server/venv/pyvenv.cfg").read_text()
    assert {path.name for path in (installed / "usr/bin").iterdir()} == {"sonarctl", "sonalyze", "naicreport"}


def test_everything_that_a_checkout_has_beside_the_package_is_installed(installed: Path) -> None:
    for name in files_of(TOP / "man"):
        assert (installed / "usr/share/man" / f"man{name[-1]}" / name).is_file()
    for name in files_of(TOP / "etc"):
        assert (installed / "usr/share/sonar-server/examples" / name).is_file()
    units = {name for name in files_of(TOP / "units") if not name.startswith("sonar-server.")}
    assert files_of(installed / "lib/systemd/system") == units
    assert (installed / "usr/share/bash-completion/completions/sonarctl").is_file()
    assert (installed / "usr/share/zsh/site-functions/_sonarctl").is_file()
    assert (installed / "usr/share/fish/vendor_completions.d/sonarctl.fish").is_file()


def make(*argv: str, destination: Path) -> str:
    return subprocess.run(
        ["make", "-s", *argv, f"DESTDIR={destination}", "PREFIX=/usr", "NO_DEPS=1"],
        cwd=TOP, check=True, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip


def test_configuration_of_the_site_stays_and_uninstall_leaves_it_and_the_data(tmp_path: Path) -> None:
    (tmp_path / "var/lib/sonar-server/data").mkdir(parents=True)
    make("install-files", destination=tmp_path)
    conf = tmp_path / "etc/sonar/sonar.conf"
    make("install-files", destination=tmp_path)
    assert not conf.with_name("sonar.conf.new").exists()
    conf.write_text("[Query]\nTitle=Ours\n")

    make("install-files", destination=tmp_path)
    said = make("uninstall", destination=tmp_path)

    assert conf.read_text() == "[Query]\nTitle=Ours\n"
    assert conf.with_name("sonar.conf.new").exists()
    assert files_of(tmp_path) == {"etc/sonar/sonar.conf", "etc/sonar/sonar.conf.new"}
    assert (tmp_path / "var/lib/sonar-server/data").is_dir()
    assert "Left in place" in said


def test_an_interpreter_in_a_home_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-s", "install-venv", f"DESTDIR={tmp_path}", "NO_DEPS=1", "PYTHON=/root/x/python3"],
        cwd=TOP, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode != 0
    assert "lies in a home, which services cannot read" in done.stderr


def test_a_new_version_stands_beside_the_old_until_nothing_runs_from_it(installed: Path, tmp_path: Path) -> None:
    """With the packages of the system to be seen, as a site wants it that has them there; and from a wheelhouse."""
    library = tmp_path / LIBRARY
    old = library / "venv-0.0.9-000000000000"
    (old / "bin").mkdir(parents=True)
    (library / "venv").symlink_to(old.name)
    program = ["bash", "-c", f"exec -a {old}/bin/python sleep 60"]
    with subprocess.Popen(program) as running:
        try:
            # The fixture has made the wheelhouse; only our own package, which takes less time.
            options = ("SYSTEM_SITE_PACKAGES=1", "WHEELHOUSE=build/wheelhouse", "PIP_OPTIONS=--no-deps")
            make("install-venv", *options, destination=tmp_path)
            new = (library / "venv").resolve()
            said = subprocess.run(
                [new / "bin/python", "-I", "-c", "import sonar, sys; print(sonar.__file__, *sys.path, sep='\\n')"],
                check=True, capture_output=True, text=True, timeout=60,
            ).stdout.splitlines()  # fmt: skip
            assert said[0].startswith(f"{new}/lib/")
            assert any(path.endswith("/dist-packages") for path in said[1:])

            subprocess.run([library / "prune"], check=True, timeout=60)
            assert old.is_dir()
        finally:
            running.kill()
    subprocess.run([library / "prune"], check=True, timeout=60)
    assert sorted(library.iterdir()) == sorted([library / "prune", library / "venv", new])

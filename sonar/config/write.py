"""The tables of settings as text: example files with all defaults, and the lists in the manual pages.

`python -m sonar.config.write` brings the files of a checkout up to date; a test demands that they are.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from sonar.config import description, settings

__all__ = ["cluster_example", "files_of_checkout", "settings_example"]

_WIDTH = 100
_TOP = Path(__file__).resolve().parents[2]
_MARKS = ('.\\" BEGIN TABLE, made by `make generate`\n', '.\\" END TABLE\n')

_CLUSTER_SECTIONS = {
    "Cluster": "",
    "Node": "Nodes that are alike. As many of these sections as there are kinds of nodes.",
    "Group": "Nodes that are reported together. As many as there are groups.",
    "Policy": "A rule of this cluster. As many as there are rules.",
}


def settings_example() -> str:
    """Return etc/sonar.conf: all settings as comments with their defaults."""
    lines = [
        "# /etc/sonar/sonar.conf, see sonar.conf(5). All lines that are commented out show the default.",
        "# Change a setting here, or better in a file of your own, /etc/sonar/sonar.conf.d/NAME.conf, which wins.",
        "# `sonarctl doctor` says what is in force and where each value comes from.",
    ]
    for section in settings.SECTIONS:
        lines += ["", f"[{section.__name__}]"]
        for one in settings.table():
            if one.section == section.__name__:
                lines += [*_comment(one.help), f"#{one.key}={one.default}"]
    return "\n".join(lines) + "\n"


def cluster_example() -> str:
    """Return etc/clusters/example.conf: all keys of a description."""
    lines = [
        "# /etc/sonar/clusters/NAME.conf: the cluster NAME, see sonar-cluster(5). `sonarctl cluster add` writes one.",
        "# All lines that are commented out show the default, or what could stand there.",
    ]
    for section, text in _CLUSTER_SECTIONS.items():
        lines += ["", *_comment(text), f"[{section}]" if section == "Cluster" else f"#[{section}]"]
        for key in description.KEYS:
            if key.section == section:
                lines += [*_comment(key.help), f"#{key.key}={key.default}"]
    lines += [
        "",
        *_comment("Who gets which report by mail: its name, and addresses."),
        "#[Recipients]",
        "#Notices=",
        "#Weekly=",
        "#Monthly=",
    ]
    return "\n".join(lines) + "\n"


def files_of_checkout() -> dict[Path, str]:
    """Return what the generated files of this checkout must contain."""
    found = {_TOP / "etc/sonar.conf": settings_example(), _TOP / "etc/clusters/example.conf": cluster_example()}
    rows = {
        "sonar.conf.5": [(s.section, s.key, s.kind.name, s.default, s.help) for s in settings.table()],
        "sonar-cluster.5": [(k.section, k.key, k.kind.name, k.default, k.help) for k in description.KEYS],
    }
    for name, table in rows.items():
        page = _TOP / "man" / name
        if page.exists():
            before, _, rest = page.read_text().partition(_MARKS[0])
            _, _, after = rest.partition(_MARKS[1])
            found[page] = before + _MARKS[0] + "".join(_mdoc(table)) + _MARKS[1] + after
    return found


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ") if text else []


def _mdoc(rows: Iterable[tuple[str, str, str, str, str]]) -> Iterator[str]:
    before = ""
    for section, key, kind, default, text in rows:
        if section != before:
            if before:
                yield ".El\n"
            yield f".Ss Section [{section}]\n.Bl -tag -width Ds\n"
            before = section
        yield f".It Va {key} Ns = Ns Ar {kind}\n"
        for sentence in re.split(r"(?<=[.?!]) (?=[A-Z])", text.replace("\\", "\\e")):
            yield from (f"{line}\n" for line in textwrap.wrap(sentence, 110))
        if default:
            yield f"The default is\n.Ql {default} .\n"
    yield ".El\n"


if __name__ == "__main__":
    for path, content in files_of_checkout().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)

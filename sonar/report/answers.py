"""Where a report's numbers come from: the verbs of sonalyze, asked in this process or as an external program.

Either way the answer is the verb's own JSON, so that a report has no arithmetic of its own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sonar.errors import SonarError

if TYPE_CHECKING:
    from sonar.config.nodes import NodeTable

__all__ = ["Answers", "InProcess", "Program", "Source"]

_TIMEOUT_S = 3600
FLAG = "true"

Options = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Source:
    """The data that a report is about: a log tree or files, the window as it was given, the nodes' description."""

    data: Path | tuple[Path, ...]
    since: str
    until: str | None
    config: Path
    now: int


class Answers(Protocol):
    """Somebody who answers questions about a source."""

    def ask(self, verb: str, options: Options) -> Any:
        """Return the answer to a question as JSON: options by name, with their texts; a flag's is `true`."""


class InProcess:
    """Answers by the functions of this package."""

    def __init__(self, source: Source) -> None:
        from sonar.config.nodes import read_nodes

        self._source = source
        self._nodes = read_nodes(source.config)

    def ask(self, verb: str, options: Options) -> Any:
        """Return the answer; a host that is not described is left out, with a warning."""
        from sonar.verbs.load import UndescribedHostError

        try:
            return self._answer(verb, options)
        except UndescribedHostError:
            return self._answer(verb, dict(options) | {"host": self._described_hosts(options)})

    def _answer(self, verb: str, options: Options) -> Any:
        from sonar import verbs
        from sonar.render.formats import write_result
        from sonar.verbs.parameters import query_of

        declared = verbs.verb(verb)
        window = {"from": [self._source.since]} | ({"to": [self._source.until]} if self._source.until else {})
        nodes: NodeTable | None = self._nodes if declared.takes_config else None
        given = {**window, **{name: list(values) for name, values in options.items()}}
        query, fmt = query_of(declared, given, data=self._source.data, nodes=nodes, now=self._source.now)
        out = StringIO()
        write_result(declared, declared.run(query), fmt, out)
        return json.loads(out.getvalue())

    def _described_hosts(self, options: Options) -> list[str]:
        asked = {name: values for name, values in options.items() if name == "host"}
        rows = self._answer("metadata", {**asked, "fmt": ["json,host"]})
        hosts = [row["host"] for row in rows]
        for host in hosts:
            if host not in self._nodes:
                print(f"naicreport: '{self._source.config}' does not describe {host}, leaving it out", file=sys.stderr)
        described = [host for host in hosts if host in self._nodes]
        if not described:
            raise SonarError(f"'{self._source.config}' describes none of the hosts in the data")
        return described


class Program:
    """Answers by an external sonalyze, as older set-ups had it."""

    def __init__(self, program: Path, source: Source) -> None:
        self._program = program
        self._source = source

    def ask(self, verb: str, options: Options) -> Any:
        """Return what the program prints; what it says on stderr is passed on."""
        source = self._source
        config = ["--config-file", str(source.config)] if verb == "load" else []
        interval = options.get("interval", ())
        before = ["--interval", *interval] if interval else []
        flags = [f"--{name}" for name in ("only-down",) if name in options]
        window = ["--from", source.since, *(["--to", source.until] if source.until else [])]
        after = []
        for name, values in options.items():
            if name not in {"fmt", "interval", "only-down"}:
                for value in values:
                    after += [f"--{name}"] if value == FLAG else [f"--{name}", value]
        data = ["--data-path", str(source.data)] if isinstance(source.data, Path) else ["--", *map(str, source.data)]
        argv = [
            str(self._program),
            verb,
            *config,
            *before,
            *flags,
            f"--fmt={options['fmt'][0]}",
            *window,
            *after,
            *data,
        ]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SonarError(f"While running {self._program}: {error}") from error
        if done.returncode:
            raise SonarError(f"While running {self._program}: exit status {done.returncode}: {done.stderr.strip()}")
        sys.stderr.write(done.stderr)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise SonarError(f"While running {self._program} {verb}: its output is no JSON: {error}") from error

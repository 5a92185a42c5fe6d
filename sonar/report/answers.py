"""Where a report's numbers come from: the verbs of sonalyze, asked in this process or as an external program.

Either way the answer is the verb's own JSON, so that a report has no arithmetic of its own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sonar.errors import SonarError, UsageError
from sonar.places import text_of
from sonar.times import day_of

if TYPE_CHECKING:
    import numpy as np

    from sonar.config.description import Cluster
    from sonar.config.nodes import NodeTable
    from sonar.report.declare import Call
    from sonar.report.survey import Survey
    from sonar.verbs.declare import Result
    from sonar.verbs.query import Query

__all__ = ["FLAG", "NODES", "WINDOW", "Answers", "InProcess", "Means", "Program", "Source", "answers_for"]

_TIMEOUT_S = 3600
FLAG = "true"

# Where the window and the nodes' description go among the options of an external program.
WINDOW = "(window)"
NODES = "(nodes)"

Options = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Source:
    """The data that a report is about: a log tree or files, the window as it was given, the nodes' description."""

    data: Path | tuple[Path, ...]
    since: str
    until: str | None
    config: Path
    now: int


def answers_for(call: "Call") -> "Answers":
    """Return who answers the questions of a report as its call has it: this process, or a program."""
    data, config = call.path("data-dir"), call.path("config-file")
    if data is not None and call.files:
        raise UsageError("--data-dir and files do not go together")
    if data is None and not call.files:
        raise UsageError("No data: give --data-dir, or files after --")
    if config is None:
        raise UsageError("--config-file must be given")
    source = Source(
        data or tuple(path.absolute() for path in call.files),
        call.text("from", "1d"),
        call.text("to") or None,
        config,
        call.now,
    )
    program = call.path("sonalyze")
    return InProcess(source) if program is None else Program(program, source)


class Answers(Protocol):
    """Somebody who answers questions about a source."""

    def ask(self, verb: str, options: Options) -> Any:
        """Return the answer to a question as JSON: options by name, with their texts; a flag's is `true`.

        The window and the nodes are those of the source; WINDOW and NODES among the options say where a program that is
        asked wants them.
        """


@dataclass(frozen=True, slots=True)
class Means:
    """The samples of one host: instants, and values by name."""

    time: "np.ndarray"
    values: Mapping[str, "np.ndarray"]

    def since(self, start: int) -> dict[str, float | None]:
        """Return the means of the samples after an instant, to a tenth, by name; None for what is not a number."""
        import numpy as np

        within = self.time > start
        means = {name: float(np.mean(values[within])) for name, values in self.values.items() if within.any()}
        return {name: round(mean, 1) if np.isfinite(mean) else None for name, mean in means.items()}


class InProcess:
    """Answers by the functions of this package."""

    def __init__(self, source: Source, survey: "Survey | None" = None) -> None:
        """Answer about a source; with a survey, its nodes and instants count, not the source's file and dates."""
        self._source = source
        self._survey = survey
        if survey is None:
            from sonar.config.description import read_described

            self._described: Cluster | None = read_described(source.config)
            self._nodes = self._described.nodes
        else:
            self._described, self._nodes = survey.described, survey.nodes
        self._window = None if survey is None else (survey.start, survey.end)
        self._answered: dict[tuple[str, str], Any] = {}
        self._samples: Result | None = None  # the answer to `load --none`, if that was asked

    def ask(self, verb: str, options: Options) -> Any:
        """Return the answer; a host that is not described is left out, with a warning. Nothing is answered twice.

        All questions about up and down time are answered from all periods that there are.
        """
        from sonar.verbs.load import UndescribedHostError

        if verb == "uptime" and "host" not in options and set(options) & {"only-up", "only-down", "fmt"}:
            state = "up" if "only-up" in options else "down" if "only-down" in options else ""
            whole = {"interval": options["interval"], "fmt": ["json,device,host,state,start,end"]}
            if whole != dict(options):
                return [row for row in self.ask("uptime", whole) if not state or row["state"] == state]
        key = (verb, json.dumps({name: list(values) for name, values in options.items()}, sort_keys=True))
        if key not in self._answered:
            try:
                self._answered[key] = self._answer(verb, options)
            except UndescribedHostError:
                described = {"host": self._described_hosts(options)}
                self._answered[key] = self._answer(verb, dict(options) | described)
        return self._answered[key]

    def _answer(self, verb: str, options: Options) -> Any:
        from sonar import verbs
        from sonar.render.formats import write_result
        from sonar.verbs.parameters import query_of

        declared = verbs.verb(verb)
        nodes: NodeTable | None = self._nodes if declared.takes_config else None
        window = self._dates()
        own = {name: list(values) for name, values in options.items() if name not in {WINDOW, NODES}}
        given = {**window, **own}
        query, fmt = query_of(
            declared,
            given,
            data=self._source.data,
            nodes=nodes,
            described=self._described,
            now=self._source.now,
        )
        out = StringIO()
        if self._survey is not None and verb == "uptime" and set(own) == {"interval", "fmt"}:
            result = self._survey.ask(verb, {"interval": own["interval"]})  # other reports ask that too
        else:
            result = declared.answer(self._exactly(query))
        if verb == "load" and set(own) == {"none", "fmt"}:
            self._samples = result
        write_result(declared, result, fmt, out)
        return json.loads(out.getvalue())

    def _dates(self) -> dict[str, list[str]]:
        """Return the window as options."""
        if self._window is not None:
            return {name: [day_of(at).isoformat()] for name, at in zip(("from", "to"), self._window, strict=True)}
        return {"from": [self._source.since]} | ({"to": [self._source.until]} if self._source.until else {})

    def _exactly(self, query: "Query") -> "Query":
        """Return the query about the window of instants, if that is what was given."""
        from sonar.verbs.query import Window

        return query if self._window is None else replace(query, window=Window(*self._window))

    def series(self, fields: Mapping[str, str], since: int) -> dict[str, "Means"]:
        """Return each host's samples from an instant on: by name, the values of the fields of the verb load.

        A value relative to what nobody described is not known.
        """
        from sonar import verbs
        from sonar.verbs.parameters import query_of

        verb = verbs.verb("load")
        names = list(fields.values())
        given = {**self._dates(), "from": [day_of(since).isoformat()], "none": [FLAG], "fmt": ["json,datetime,cpu"]}
        query, _fmt = query_of(
            verb,
            given,
            data=self._source.data,
            nodes=self._nodes,
            described=self._described,
            now=self._source.now,
        )
        result = self._samples if self._samples is not None else verb.answer(self._exactly(query))
        found = {}
        for title, first, length in result.blocks or ():
            rows = result.rows.slice(first, length)
            values = {name: rows.column(of).to_numpy() for name, of in zip(fields, names, strict=True)}
            found[title] = Means(rows.column("time").to_numpy(), values if title in self._nodes else {})
        return found

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
        """Return what the program prints; arguments in the order of the options, and pass on its stderr."""
        argv = [str(self._program), verb]
        for name, values in options.items():
            argv += self._arguments(name, values)
        source = self._source
        argv += (
            ["--data-path", text_of(source.data)] if isinstance(source.data, Path) else ["--", *map(str, source.data)]
        )
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

    def _arguments(self, name: str, values: Sequence[str]) -> list[str]:
        source = self._source
        if name == WINDOW:
            return ["--from", source.since, *(["--to", source.until] if source.until else [])]
        if name == NODES:
            return ["--config-file", str(source.config)]
        if name == "fmt":
            return [f"--fmt={values[0]}"]
        if name == "user":
            return [f"-u{value}" for value in values]
        return [word for value in values for word in ([f"--{name}"] if value == FLAG else [f"--{name}", value])]

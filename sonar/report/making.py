"""Making: from a task to its report files, for the rhythms and to make a file again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sonar.errors import SonarError
from sonar.report.answers import InProcess, Source
from sonar.report.audience import Audience, for_audience, pseudonym_key
from sonar.report.logfiles import hosts_in_log
from sonar.report.products import Product, Task
from sonar.times import DAY, iso_text, minute_text

if TYPE_CHECKING:
    from sonar.report.site import Site
    from sonar.report.survey import Survey
    from sonar.report.tables import TableReport

__all__ = ["Maker", "make_products"]


class Maker:
    """Makes the files of tasks; tasks of one window share what was read and computed."""

    def __init__(self, site: "Site") -> None:
        self.site = site
        self._surveys: dict[tuple[int, int, int], Survey] = {}
        self._answers: dict[tuple[int, int, int], InProcess] = {}

    def make(self, task: Task) -> list[Product]:
        """Return the files of a task. Raise SonarError if they cannot be made."""
        from sonar.report import TABLES, table

        if task.report in _MAKERS:
            return _MAKERS[task.report](self, task)
        if task.report not in TABLES:
            raise SonarError(f"there is no report {task.report!r}")
        return self._table(table(task.report), task)

    def survey(self, task: Task) -> "Survey":
        """Return the survey of the task's window."""
        survey, start = self._survey(task.start, task), _read_from(task)
        return survey if start == task.start else replace(survey, wider=self._survey(start, task), _answers={})

    def answers(self, task: Task) -> InProcess:
        """Return who answers the questions of the reports of old about the task's window.

        With the option `read` the answers are about so many days: then tasks of different windows share them.
        """
        key = (_read_from(task), task.end, task.now)
        if key not in self._answers:
            source = Source(self.site.data, "", None, self.site.cluster.source or self.site.data, task.now)
            self._answers[key] = InProcess(source, self._survey(_read_from(task), task))
        return self._answers[key]

    def _survey(self, start: int, task: Task) -> "Survey":
        """Return the survey from an instant to the end of a task, the same one for all who ask."""
        key = (start, task.end, task.now)
        if key not in self._surveys:
            self._surveys[key] = self.site.survey_of(start, task.end)
            self._surveys[key].now = task.now
        return self._surveys[key]

    def _table(self, declared: "TableReport", task: Task) -> list[Product]:
        from sonar.report.tables import Table, as_json

        table = declared.make(self.survey(task), declared.given(task.options))
        name = task.options.get("file", f"{declared.name}.json")
        facts = {
            "report": declared.name,
            "title": declared.title,
            "cluster": self.site.name,
            "generated": iso_text(task.now),
            "from": iso_text(task.start),
            "to": iso_text(task.end),
            **table.facts,
        }
        products = []
        for audience in list(Audience)[list(Audience).index(declared.audience) :]:
            rows = for_audience(table.rows, declared.personal, audience, self._key())
            text = as_json(declared, Table(rows, facts | {"audience": str(audience)}))
            products.append(Product(name, audience, text, len(rows), task))
            if not _has_names(declared):
                break
        return products

    def _key(self) -> bytes:
        return pseudonym_key(self.site.state)


def make_products(site: "Site", task: Task) -> list[Product]:
    """Return the files of one task."""
    return Maker(site).make(task)


def _read_from(task: Task) -> int:
    """Return from when on the data of a task are read."""
    return min(task.start, task.end - int(task.options.get("read", "0")) * DAY)


def _has_names(declared: "TableReport") -> bool:
    from sonar.report.audience import Personal

    return any(column.personal is not Personal.NOT for column in declared.columns)


def _load(maker: Maker, task: Task) -> list[Product]:
    """Make HOST-TAG.json for each host, or TAG.json for a group."""
    from sonar.report.load import Order, documents

    options = task.options
    minutes = max(maker.site.cluster.usual_interval_s // 60, 1)
    order = Order(
        directory=maker.site.reports,
        bucketing=options["bucketing"],
        tag=options["tag"],
        group=options.get("group", ""),
        downtime_interval=None if "group" in options else minutes,
    )
    made = documents(maker.answers(task), order, task.now, (task.start, task.end))
    return [
        Product(name, Audience.PUBLIC, _compact(document), len(document["labels"]), task) for name, document in made
    ]  # fmt: skip


def _glance(maker: Maker, task: Task) -> list[Product]:
    from sonar.report.glance import glance

    site = maker.site
    minutes = max(site.cluster.usual_interval_s // 60, 1)
    rows = glance(maker.answers(task), site.cluster.nodes, site.state, site.cluster.title, task.now, minutes)
    return [Product("at-a-glance.json", Audience.PUBLIC, _compact(rows), len(rows), task)]


def _hosts(maker: Maker, task: Task) -> list[Product]:
    """Make the list of hosts, as pages of old want it, and with the groups beside it."""
    hosts = sorted(hosts_in_log(maker.site.data, task.start, task.end), key=str.encode)
    groups = [
        {"name": group.name, "title": group.title, "nodes": list(group.nodes)} for group in maker.site.cluster.groups
    ]  # fmt: skip
    document = {"cluster": maker.site.name, "generated": iso_text(task.now), "hosts": hosts, "groups": groups}
    return [
        Product("hostnames.json", Audience.PUBLIC, _compact(hosts), len(hosts), task),
        Product("hosts.json", Audience.PUBLIC, _compact(document), len(hosts), task),
    ]


def _violations(maker: Maker, task: Task) -> list[Product]:
    """Make the files of violations, as the states have them now: these cannot be made again as they were."""
    from sonar.report.notices import current_violations, letters_document, violations_document
    from sonar.report.violations import CPUHOG_FIELDS, old_row

    found = current_violations(maker.site)
    document = violations_document(maker.site, found)
    letters = letters_document(maker.site, found)
    products = [Product("violations.json", Audience.ADMIN, _compact(document), len(found), task)]
    products.append(Product("letters.json", Audience.ADMIN, _compact(letters), len(letters), task))
    for name, policy, fields in (
        ("violator-report.json", "cpuhog", CPUHOG_FIELDS),
        ("deadweight-report.json", "deadweight", ()),
    ):
        rows = [old_row(one, fields) for one in found if one.policy.name == policy]
        products.append(Product(name, Audience.ADMIN, _compact(rows), len(rows), task))
    rows = [{"policy": policy["name"], "title": policy["title"], "jobs": 0} for policy in document["policies"]]
    for row in rows:
        row["jobs"] = sum(one.policy.name == row["policy"] for one in found)
    counts = {"cluster": maker.site.name, "generated": iso_text(task.now), "rows": rows}
    products.append(Product("violations.json", Audience.PUBLIC, _compact(counts), len(rows), task))
    return products


def _utilization(maker: Maker, task: Task) -> list[Product]:
    """Make the utilization as JSON, CSV, text and a page; the option `file` is their name without the suffix."""
    from sonar.report import table
    from sonar.report.pages import page, text_page
    from sonar.report.tables import Table, as_csv, as_json
    from sonar.report.utilization import parts_of

    declared = table("utilization")
    made = declared.make(maker.survey(task), {})
    rows = for_audience(made.rows, declared.personal, Audience.PUBLIC, b"")
    name = task.options.get("file", "utilization")
    title = f"Utilization of {maker.site.cluster.title}"
    facts = {
        "report": declared.name,
        "title": title,
        "cluster": maker.site.name,
        "generated": iso_text(task.now),
        "from": iso_text(task.start),
        "to": iso_text(task.end),
        "audience": str(Audience.PUBLIC),
    }
    said = f"From {minute_text(task.start)} to {minute_text(task.end)} UTC; made {minute_text(task.now)} UTC."
    parts = parts_of(declared, rows)
    texts = {
        "json": as_json(declared, Table(rows, facts)),
        "csv": as_csv(declared, Table(rows, facts)),
        "txt": text_page(title, said, parts),
        "html": page(title, said, parts),
    }
    return [Product(f"{name}.{suffix}", Audience.PUBLIC, text, len(rows), task) for suffix, text in texts.items()]


def _digest(maker: Maker, task: Task) -> list[Product]:
    """Make the digest, as JSON, text and a page, with the violations as they are known now."""
    from sonar.report.digest import digest
    from sonar.report.notices import current_violations

    made = digest(maker.site, maker.survey(task), current_violations(maker.site))
    name = task.options["file"]
    texts = {"json": _compact(made.content), "txt": made.text, "html": made.html}
    rows = sum(len(part["rows"]) for part in made.content["parts"])
    return [Product(f"{name}.{suffix}", Audience.ADMIN, text, rows, task) for suffix, text in texts.items()]


def _compact(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


_MAKERS: Mapping[str, Callable[[Maker, Task], list[Product]]] = {
    "load": _load,
    "at-a-glance": _glance,
    "hostnames": _hosts,
    "violations": _violations,
    "utilization": _utilization,
    "digest": _digest,
}

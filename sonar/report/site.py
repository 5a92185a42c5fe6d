"""A site: one cluster as the report jobs see it: its description, data, reports, state and mail."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sonar.report.letters import LetterRules
from sonar.report.policies import Policy, options_of_words, policy
from sonar.times import DAY

if TYPE_CHECKING:
    from sonar.config.description import Cluster
    from sonar.report.survey import Survey

__all__ = ["Site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One cluster: `data` is its log tree, the other directories are its own too; `now` is an instant."""

    cluster: "Cluster"
    data: Path
    reports: Path
    state: Path
    outbox: Path  # of all clusters
    now: int
    mail_from: str = "sonar-server@localhost"
    recipients: tuple[str, ...] = ()  # of reports for which the cluster names nobody
    base_url: str = ""
    policy_dir: Path | None = None
    letter_dir: Path | None = None
    letter_rules: LetterRules = field(default_factory=LetterRules)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.cluster.name

    def survey(self, length_s: int = DAY) -> "Survey":
        """Return a survey of the time that is now `length_s` long."""
        return self.survey_of(self.now - length_s, self.now)

    def survey_of(self, start: int, end: int) -> "Survey":
        """Return a survey of a window of instants, both inclusive."""
        from sonar.report.survey import Survey

        groups = tuple((group.name, group.nodes) for group in self.cluster.groups)
        return Survey(
            self.data, self.cluster.nodes, start, end, self.now, self.cluster.usual_interval_s, groups, self.cluster
        )

    def policies(self) -> list[Policy]:
        """Return the policies that apply."""
        return [self.policy(name) for name in self.cluster.policies]

    def policy(self, name: str) -> Policy:
        """Return the policy of a name: of the cluster's own description, a site's file, or shipped."""
        own = self.cluster.own_policies.get(name)
        if own is None:
            return policy(name, self.policy_dir)
        return Policy(
            name=name,
            title=own.title,
            trigger=own.trigger,
            problem=own.problem,
            remedy=own.remedy,
            options=options_of_words(own.options),
            window_s=own.window_s,
            fields=("cpu-peak", "res-peak", "gpu-peak"),
            letters=True,
        )

    def who_gets(self, report: str) -> Sequence[str]:
        """Return the mail addresses of those who get a report."""
        return self.cluster.recipients.get(report, self.recipients)

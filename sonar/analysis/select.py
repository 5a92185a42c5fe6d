"""The record filter: which samples of a stream an answer is about.

It is applied after streams are built, since the sample before the first selected one is needed for its utilization.
Only hosts may be selected earlier: no stream has two.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sonar.read.schema import HEARTBEAT_COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from sonar.analysis.samples import Samples
    from sonar.hosts import HostPatterns

__all__ = ["DEFAULT_EXCLUSIONS", "SYSTEM_COMMANDS", "RecordFilter"]

# Shells and session keepers: `jobs` and `load` never show them.
SYSTEM_COMMANDS = frozenset({"bash", "zsh", "sshd", "tmux", "systemd"})

_FIRST_OF_USERS = 1000

DEFAULT_EXCLUSIONS = {"jobs": SYSTEM_COMMANDS | {HEARTBEAT_COMMAND}, "load": SYSTEM_COMMANDS}
"""The commands that a verb leaves out before anything else."""


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Sets of users, commands and job numbers; None is everything; what is excluded is so even if it is named too."""

    users: frozenset[str] | None = None
    exclude_users: frozenset[str] = frozenset()
    commands: frozenset[str] | None = None
    exclude_commands: frozenset[str] = frozenset()
    jobs: frozenset[int] | None = None
    exclude_jobs: frozenset[int] = frozenset()
    exclude_system_processes: bool = False  # those with a number below 1000, which begin with the system; groups stay
    hosts: "HostPatterns | None" = None  # the scan selects by it

    def mask(self, samples: "Samples") -> "np.ndarray":
        """Return which rows pass."""
        import numpy as np

        keep = _words_mask(samples, "user", self.users, self.exclude_users)
        keep &= _words_mask(samples, "cmd", self.commands, self.exclude_commands)
        if self.jobs is not None:
            keep &= np.isin(samples["job"], list(self.jobs))
        if self.exclude_jobs:
            keep &= ~np.isin(samples["job"], list(self.exclude_jobs))
        if self.exclude_system_processes:
            keep &= (samples["pid"] == 0) | (samples["pid"] >= _FIRST_OF_USERS)
        return keep

    def without(self, users: "Iterable[str]", commands: "Iterable[str]") -> "RecordFilter":
        """Return the filter that leaves these users and commands out too."""
        return replace(
            self,
            exclude_users=self.exclude_users | frozenset(users),
            exclude_commands=self.exclude_commands | frozenset(commands),
        )

    @property
    def is_everything(self) -> bool:
        """Whether every sample passes."""
        return replace(self, hosts=None) == RecordFilter()


def _words_mask(
    samples: "Samples", column: str, included: frozenset[str] | None, excluded: frozenset[str]
) -> "np.ndarray":
    """Return which rows have a wanted word: each distinct word is judged once."""
    import numpy as np

    words = samples.words[column]
    wanted = np.array([(included is None or word in included) and word not in excluded for word in words], bool)
    return wanted[samples[column]] if len(words) else np.zeros(len(samples[column]), bool)

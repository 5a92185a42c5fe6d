"""The errors that Sonar raises on purpose: one line for the user, and the exit status that goes with it.

Library code raises; only the main function of an executable and the handler of a request catch, log and translate.
Messages name what is wrong and where: the option, the file and line, the value in quotes.
"""

from collections.abc import Sequence

__all__ = ["ConfigError", "SonarError", "UsageError"]


class SonarError(Exception):
    """Something went wrong while running: exit status 1."""

    exit_status = 1


class UsageError(SonarError):
    """The command line, a request's parameters or an option's value is wrong: exit status 2."""

    exit_status = 2


class ConfigError(SonarError):
    """One or several things are wrong in configuration files; `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))  # what it is made of, so that another process can make it again
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)

"""Policies: what a cluster calls a misuse, as data. Two are built in; a cluster's description may add its own."""

from dataclasses import dataclass
from pathlib import Path

from sonar.paths import CONFIG

__all__ = ["BUILT_IN", "Policy", "with_files"]

_FILES = (CONFIG / "policies", Path(__file__).parents[1] / "report" / "shipped")


def with_files() -> dict[str, "Policy"]:
    """Return the policies that have a file of their own, sonar-policy(5), by name; their options are in the file."""
    names = {path.stem for place in _FILES if place.is_dir() for path in place.glob("*.policy")}
    return {name: Policy(name=name, title=name, options=()) for name in sorted(names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A rule that jobs can break.

    `options` are those of `sonalyze jobs` which find the jobs that break it, within the last `window_s` seconds. The
    texts are for the notice: what is seen, why that is a problem, and what its owner can do.
    """

    name: str
    title: str
    options: tuple[str, ...]
    window_s: int = 86400
    trigger: str = ""
    problem: str = ""
    remedy: str = ""


# The two rules that the original applied, with its thresholds: 10 % of the node's cores at peak for 10 minutes.
BUILT_IN = {
    policy.name: policy
    for policy in (
        Policy(
            name="ml-cpuhog",
            title="CPU hog",
            options=("--no-gpu", "--min-rcpu-peak=10", "--min-runtime=10m"),
            trigger="Job uses more than 10% of the system's CPU at peak, runs for at least 10 minutes, and uses no GPU "
            "at all.",
            problem="The node has GPUs and is meant for jobs that use them; a job that needs only cores keeps "
            "others away.",
            remedy="Move the work to nodes without GPUs, or make the job use one.",
        ),
        Policy(
            name="deadweight",
            title="Dead weight",
            options=("--zombie",),
            trigger="Job has processes that are zombies, defunct, or hung.",
            problem="Such processes hold memory, GPUs or job slots, and do nothing.",
            remedy="End the job's processes; where they cannot be ended, ask the administrators.",
        ),
    )
}

"""Whether Slurm took a host for down, by what `cluster` envelopes tell of its nodes."""

from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path

from sonar.names import ClusterName
from sonar.times import DAY, day_of

__all__ = ["NodeStates"]

_DOWN = frozenset({"DOWN", "NOT_RESPONDING", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "REBOOT", "FAIL"})
_FILE = "0+cluzter-slurm.json"
_LASTS_S = 2 * 3600  # so long a state is taken to last after it was told


class NodeStates:
    """What Slurm told of the nodes of a cluster between two instants; `root` is the data root.

    A host is found by the first part of its name: Slurm's names have no domain.
    """

    def __init__(self, root: Path, cluster: ClusterName, start: int, end: int) -> None:
        self._directory = root / cluster
        self._start = start - _LASTS_S
        self._end = end
        self._told: dict[str, list[tuple[int, bool]]] | None = None  # instant, whether it was down

    def was_down(self, host: str, begin: int, end: int) -> bool | None:
        """Return whether a host was down at some time from `begin` to `end`; None if Slurm did not tell."""
        if self._told is None:
            self._told = self._read()
        told = self._told.get(host.split(".", maxsplit=1)[0], [])
        during = [down for at, down in told if begin <= at <= end]
        if not during:
            before = bisect_right(told, (begin, True)) - 1
            during = [told[before][1]] if before >= 0 and told[before][0] >= begin - _LASTS_S else []
        return any(during) if during else None

    def _read(self) -> dict[str, list[tuple[int, bool]]]:
        from sonar.read.slurm import NODE_STATES

        told: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        for instant in range(self._start // DAY * DAY, self._end + DAY, DAY):
            try:
                content = (self._directory / f"{day_of(instant):%Y/%m/%d}" / _FILE).read_bytes()
            except OSError:
                continue
            for row in NODE_STATES.read(content, Counter()):
                down = bool(_DOWN & {str(state).upper() for state in row["states"]})
                for node in row["nodes"]:
                    told[node.split(".")[0]].append((row["time"], down))
        return {host: sorted(found) for host, found in told.items()}

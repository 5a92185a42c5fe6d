"""What a node tells beside its samples: what it is made of, once a day, and what Slurm does, if it is asked to.

These are done in a thread of their own: however long a command of Slurm takes, samples are taken in time. When a host
tells what it is made of depends on its name, so that not all of a cluster do so in the same moment.
"""

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence

from sonar.errors import SonarError
from sonar.node import slurm
from sonar.node.envelope import envelope_of, error_envelope, time_text
from sonar.node.gpus import GpuCard
from sonar.node.outputs import Output
from sonar.node.sysinfo import sysinfo_attributes

__all__ = ["Errands"]

DAY_S = 86400
_LOOK_S = 30.0
_LONGEST_LOOK_BACK_S = 7 * DAY_S

_log = logging.getLogger(__name__)


class Errands:
    """Puts `sysinfo`, `job` and `cluster` envelopes into an output when it is time for them."""

    def __init__(
        self,
        cluster: str,
        host: str,
        output: Output,
        *,
        cards: Callable[[], Sequence[GpuCard]],
        sysinfo: bool,
        slurm_interval_s: int | None,
        run: slurm.Run = slurm.run_command,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._host = host
        self._output = output
        self._cards = cards
        self._sysinfo = sysinfo
        self._slurm_interval_s = slurm_interval_s
        self._run = run
        self._clock = clock
        self._done: dict[str, int] = {}  # number of the period in which something was done last
        self._jobs_since: int | None = None
        self._failing: set[str] = set()

    def start(self) -> None:
        """Begin, in a thread that ends with the process."""
        if self._sysinfo or self._slurm_interval_s is not None:
            threading.Thread(target=self._keep, name="errands", daemon=True).start()

    def run_all(self) -> bool:
        """Do everything once, now; return whether all could be done."""
        told = [kind for kind in self._kinds() if self._tell(kind)]
        return len(told) == len(self._kinds())

    def run_due(self) -> None:
        """Do what is due: each thing at the start, and then once in each of its periods."""
        for kind, period_s in self._kinds().items():
            offset = zlib.crc32(f"{self._host} {kind}".encode()) % period_s
            period = int(self._clock() + offset) // period_s
            if self._done.get(kind) != period and self._tell(kind):
                self._done[kind] = period

    def _keep(self) -> None:
        while True:
            self.run_due()
            time.sleep(_LOOK_S)

    def _kinds(self) -> dict[str, int]:
        """Return what is told, and the seconds of its period."""
        kinds = {"sysinfo": DAY_S} if self._sysinfo else {}
        if self._slurm_interval_s is not None:
            kinds |= {"job": self._slurm_interval_s, "cluster": self._slurm_interval_s}
        return kinds

    def _tell(self, kind: str) -> bool:
        """Put the envelopes of a kind; return whether that could be done. Trouble is told once, until it has ended."""
        try:
            for data in self._envelopes(kind):
                self._output.put(data, kind)
        except (SonarError, OSError, ValueError) as error:
            if kind not in self._failing:
                _log.warning("cannot tell of %s, trying again: %s", kind, error)
                self._complain(kind, str(error))
            self._failing.add(kind)
            return False
        if kind in self._failing:
            _log.info("telling of %s again", kind)
        self._failing.discard(kind)
        return True

    def _complain(self, kind: str, detail: str) -> None:
        now = int(self._clock())
        try:
            self._output.put(error_envelope(detail, time=now, cluster=self._cluster, host=self._host), kind)
        except OSError as error:
            _log.warning("cannot keep that either: %s", error)

    def _envelopes(self, kind: str) -> list[bytes]:
        now = int(self._clock())
        if kind == "sysinfo":
            attributes = sysinfo_attributes(
                time=time_text(now), cluster=self._cluster, host=self._host, cards=self._cards()
            )
            return [envelope_of(kind, attributes)]
        if kind == "cluster":
            return [envelope_of(kind, slurm.cluster_attributes(self._run, time=now, cluster=self._cluster))]
        interval_s = self._slurm_interval_s or 0
        # What ended shortly before the last look may not have been in Slurm's accounts then.
        since = max((self._jobs_since or now - interval_s) - interval_s, now - _LONGEST_LOOK_BACK_S)
        messages = slurm.job_attributes(self._run, time=now, cluster=self._cluster, since=since)
        envelopes = [envelope_of(kind, attributes) for attributes in messages]
        self._jobs_since = now
        return envelopes

"""The program sonard: its options, and its loop of waiting, sampling and handing over."""

import argparse
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sonar import __version__, log, notify
from sonar.errors import SonarError, UsageError
from sonar.names import BadNameError, cluster_name, host_name
from sonar.node import envelope, runner, tagged
from sonar.node.amd import AmdGpus
from sonar.node.errands import Errands
from sonar.node.gpus import GpuReading, Nvml, joined
from sonar.node.outputs import FileOutput, Output, SpoolOutput, StandardOutput
from sonar.node.processes import Selection
from sonar.node.sampler import Sampler, SamplingError
from sonar.node.schedule import Schedule, wait_for_signal

__all__ = ["main", "parser"]

_log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="sonard",
        allow_abbrev=False,
        description="Sample the processes, cores and GPUs of this host at a fixed rate. See sonard(8).",
    )
    parser.add_argument("--version", action="version", version=f"sonard {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log each sample")

    group = parser.add_argument_group("who and when")
    group.add_argument("--cluster", required=True, metavar="NAME", help="the cluster that this host belongs to")
    group.add_argument("--host", metavar="NAME", help="name of this host in the samples (its host name)")
    group.add_argument(
        "--interval", type=_number_from(1), default=300, metavar="SECONDS", help="time between samples (300)"
    )
    group.add_argument("--once", action="store_true", help="take one sample now and end")

    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=["json", "csv"], default="json", help="record format (json)")
    target = group.add_mutually_exclusive_group()
    target.add_argument("--spool", type=Path, metavar="DIR", help="put each sample as a file into this spool")
    target.add_argument("--output", type=Path, metavar="FILE", help="append samples to this file (standard output)")

    group = parser.add_argument_group("what else is told")
    group.add_argument(
        "--sysinfo", action=argparse.BooleanOptionalAction, default=None,
        help="what the host is made of, at the start and once a day (with --spool only)",
    )  # fmt: skip
    group.add_argument("--slurm", action="store_true", help="Slurm's jobs and nodes: on one host of a cluster")
    group.add_argument(
        "--slurm-interval", type=_number_from(1), default=3600, metavar="SECONDS", help="time between these (3600)"
    )

    group = parser.add_argument_group("processes that are left out")
    group.add_argument("--exclude-system-jobs", action="store_true", help="those of accounts with ids below 1000")
    group.add_argument(
        "--exclude-user", type=_names, action="extend", default=[], metavar="NAME,...", help="those of these accounts"
    )
    group.add_argument(
        "--exclude-command", type=_names, action="extend", default=[], metavar="TEXT,...",
        help="those whose command begins with one of these",
    )  # fmt: skip
    group.add_argument(
        "--min-cpu-time", type=_number_from(0), default=0, metavar="SECONDS", help="those that used less CPU time (0)"
    )

    group = parser.add_argument_group("what is read and written")
    group.add_argument("--batchless", action="store_true", help="take process groups as jobs, also below Slurm")
    group.add_argument(
        "--rollup", action=argparse.BooleanOptionalAction, default=False, help="join equal processes into one record"
    )
    group.add_argument("--no-load", action="store_true", help="leave out the state of the host and of its GPUs")
    group.add_argument("--no-gpu", action="store_true", help="do not look for GPUs")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run sonard and return its exit status."""
    if runner.is_of_old(argv):
        return runner.run(argv)
    options = parser().parse_args(argv)
    log.setup("sonard", verbose=options.verbose)
    try:
        cluster = cluster_name(options.cluster)
        host = host_name(options.host or socket.gethostname())
    except BadNameError as error:
        raise UsageError(f"--cluster, --host: {error}") from error
    selection = Selection(
        exclude_system=options.exclude_system_jobs,
        exclude_users=frozenset(options.exclude_user),
        exclude_commands=tuple(options.exclude_command),
        min_cpu_s=options.min_cpu_time,
    )
    nvml, amd = Nvml(), AmdGpus()
    sampler = Sampler(
        cluster=cluster,
        host=host,
        selection=selection,
        batchless=options.batchless,
        rollup=options.rollup,
        load=not options.no_load,
        read_gpus=GpuReading if options.no_gpu else lambda: joined([nvml.read(), amd.read()]),
    )
    output = _output(options)
    errands = Errands(
        cluster,
        host,
        output,
        cards=list if options.no_gpu else lambda: [*nvml.cards(), *amd.cards()],
        sysinfo=options.sysinfo if options.sysinfo is not None else options.spool is not None,
        slurm_interval_s=options.slurm_interval if options.slurm else None,
    )
    sonard = _Sonard(sampler, output, errands, csv=options.format == "csv")
    return sonard.run_once() if options.once else sonard.run(options.interval)


class _Sonard:
    """A sampler, how its samples are written down, and where they go."""

    def __init__(self, sampler: Sampler, output: Output, errands: Errands, *, csv: bool) -> None:
        self._sampler = sampler
        self._output = output
        self._errands = errands
        self._csv = csv
        self._told: frozenset[str] = frozenset()

    def run_once(self) -> int:
        data, error = self._sample()
        try:
            self._output.put(data)
        except BrokenPipeError:
            raise
        except OSError as lost:
            raise SonarError(f"sample lost: {lost}") from lost
        if error:
            raise error
        return 0 if self._errands.run_all() else 1

    def run(self, interval_s: int) -> int:
        """Sample until SIGTERM or SIGINT; what has begun is finished."""
        wait = wait_for_signal({signal.SIGTERM, signal.SIGINT})
        self._errands.start()
        # Thrown away: from its readings the first real sample computes the current use of the CPU.
        self._sampler.sample()
        schedule = Schedule(interval_s, wait=wait, heartbeat=notify.watchdog, heartbeat_s=notify.watchdog_period())
        notify.ready(f"sampling {self._sampler.host} of {self._sampler.cluster} each {interval_s} s")
        while schedule.wait_for_next():
            data, error = self._sample()
            if error:
                _log.error("%s", error)
            try:
                self._output.put(data)
            except BrokenPipeError:
                raise
            except OSError as lost:
                _log.error("sample lost: %s", lost)
                notify.status(f"sample lost: {lost}")
            else:
                notify.status(f"failing: {error}" if error else f"last sample: {len(data)} bytes")
        notify.stopping("asked to end")
        return 0

    def _sample(self) -> tuple[bytes, SamplingError | None]:
        """Return a sample in the chosen format; if there is none, the record that says so, and the reason."""
        began_s = time.process_time()
        try:
            sample = self._sampler.sample()
        except SamplingError as error:
            now, cluster, host = int(time.time()), self._sampler.cluster, self._sampler.host
            if self._csv:
                return tagged.error_line(str(error), time=now, host=host), error
            return envelope.error_envelope(str(error), time=now, cluster=cluster, host=host), error
        for problem in sorted(set(sample.errors) - self._told):
            _log.warning("%s, sampling without", problem)
        self._told = frozenset(sample.errors)
        data = tagged.sample_lines(sample) if self._csv else envelope.sample_envelope(sample)
        cost_ms = 1000 * (time.process_time() - began_s)
        _log.debug("%d records, %d bytes, %.1f ms of CPU time", len(sample.records), len(data), cost_ms)
        return data, None


def _output(options: argparse.Namespace) -> Output:
    if options.spool:
        return SpoolOutput(options.spool, tagged.CONTENT_TYPE if options.format == "csv" else envelope.CONTENT_TYPE)
    return FileOutput(options.output) if options.output else StandardOutput()


def _number_from(least: int) -> Callable[[str], int]:
    """Return the parser of an option that takes a whole number, `least` or more."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < least:
            raise argparse.ArgumentTypeError(f"want a whole number from {least} on, not {text!r}")
        return int(text)

    return number


def _names(text: str) -> list[str]:
    """Return the members of a list with commas. argparse's `extend` adds those of repeated options."""
    return [name for name in text.split(",") if name]

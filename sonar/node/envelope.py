"""Write a sample as one line of JSON: an envelope of `meta` and `data`, or of `meta` and `errors`.

Fields that are zero or empty are left out, except those that every reader expects: command, job, user, cores and the
index of a GPU. Memory is in KiB, times carry their offset. `num_threads` counts the threads beyond the first, and
`performance_state` is the state plus one, 0 being unknown: that is how samplers of this family send them.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sonar import __version__
from sonar.node.gpus import Gpu, GpuUse
from sonar.node.records import FORMAT_VERSION, ProcessRecord, Sample
from sonar.node.system import SystemState

__all__ = ["CONTENT_TYPE", "envelope_of", "error_envelope", "sample_envelope", "time_text"]

CONTENT_TYPE = "application/json"


def sample_envelope(sample: Sample) -> bytes:
    """Return the envelope of a sample, a line of UTF-8. A sample without records has `jobs: []`: a heartbeat."""
    attributes: dict[str, object] = {
        "time": time_text(sample.time),
        "cluster": sample.cluster,
        "node": sample.host,
    }
    if sample.system:
        attributes["system"] = _system(sample.system, sample.gpus)
    attributes["jobs"] = _jobs(sample.records)
    if sample.errors:
        attributes["errors"] = [_error(detail, sample.time, sample.cluster, sample.host) for detail in sample.errors]
    return envelope_of("sample", attributes)


def envelope_of(kind: str, attributes: Mapping[str, object]) -> bytes:
    """Return the envelope of some attributes, a line of UTF-8."""
    return _line({"meta": _meta(), "data": {"type": kind, "attributes": attributes}})


def error_envelope(detail: str, *, time: int, cluster: str, host: str) -> bytes:
    """Return the envelope that says why there is no sample, a line of UTF-8."""
    return _line({"meta": _meta(), "errors": [_error(detail, time, cluster, host)]})


def time_text(instant: int) -> str:
    """Return an instant in RFC 3339 with a numeric offset, which all generations of readers take."""
    return datetime.fromtimestamp(instant, UTC).isoformat()


def _line(envelope: Mapping[str, object]) -> bytes:
    return (
        json.dumps(envelope, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
        + b"\n"
    )


def _meta() -> dict[str, object]:
    return {
        "producer": "sonar",
        "version": FORMAT_VERSION,
        "attrs": [{"key": "sampler", "value": f"sonard {__version__}"}],
    }


def _error(detail: str, time: int, cluster: str, host: str) -> dict[str, object]:
    return {"detail": detail, "time": time_text(time), "cluster": cluster, "node": host}


def _present(**fields: object) -> dict[str, object]:
    """Return the fields that are neither zero nor empty."""
    return {name: value for name, value in fields.items() if value}


def _system(system: SystemState, gpus: Sequence[Gpu]) -> dict[str, object]:
    load1, load5, load15 = system.load
    return {
        "boot": time_text(system.boot),
        "cpus": system.cpu_s,
        **_present(
            gpus=[_gpu(gpu) for gpu in gpus],
            disks=[
                {"name": disk.name, "major": disk.major, "minor": disk.minor, "stats": disk.stats}
                for disk in system.disks
            ],
            used_memory=system.used_kib,
            load1=load1,
            load5=load5,
            load15=load15,
            runnable_entities=system.runnable,
            existing_entities=system.existing,
        ),
    }


def _gpu(gpu: Gpu) -> dict[str, object]:
    return {
        "index": gpu.index,
        **_present(
            uuid=gpu.uuid,
            failing=int(gpu.failing),
            fan=gpu.fan_pct,
            compute_mode=gpu.compute_mode.value,
            performance_state=0 if gpu.performance_state is None else gpu.performance_state + 1,
            memory=gpu.used_kib,
            ce_util=gpu.compute_pct,
            memory_util=gpu.memory_pct,
            temperature=gpu.temperature_c,
            power=gpu.power_w,
            power_limit=gpu.power_limit_w,
            ce_clock=gpu.compute_clock_mhz,
            memory_clock=gpu.memory_clock_mhz,
        ),
    }


def _jobs(records: Sequence[ProcessRecord]) -> list[dict[str, object]]:
    """Return the records grouped by job and user, in their order; each record of job 0 is a group of its own."""
    groups: dict[tuple[int, int, str, int], list[ProcessRecord]] = defaultdict(list)
    for record in records:
        groups[record.job, record.epoch, record.user, 0 if record.job else record.pid].append(record)
    return [
        {"job": job, "user": user, **_present(epoch=epoch), "processes": [_process(record) for record in group]}
        for (job, epoch, user, _pid), group in groups.items()
    ]


def _process(record: ProcessRecord) -> dict[str, object]:
    read_kib, written_kib, cancelled_kib = record.io_kib or (0, 0, 0)
    return {
        "cmd": record.cmd,
        **_present(
            pid=record.pid,
            ppid=record.ppid,
            in_container=record.in_container,
            num_threads=max(record.threads - 1, 0),
            resident_memory=record.resident_kib,
            virtual_memory=record.virtual_kib,
            cpu_avg=round(record.cpu_avg_pct, 3),
            cpu_util=round(record.cpu_util_pct, 3),
            cpu_time=record.cpu_time_s,
            data_read=read_kib,
            data_written=written_kib,
            data_cancelled=cancelled_kib,
            rolledup=record.rolledup,
            gpus=[_gpu_use(use) for use in record.gpus],
        ),
    }


def _gpu_use(use: GpuUse) -> dict[str, object]:
    return {
        "index": use.index,
        "uuid": use.uuid,
        **_present(
            gpu_util=round(use.compute_pct, 3),
            gpu_memory=use.memory_kib,
            gpu_memory_util=round(use.memory_pct, 3),
        ),
    }

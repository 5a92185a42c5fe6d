"""When hosts and their GPUs were up and down, sample by sample: the verb uptime."""

from itertools import pairwise
from typing import Any

from tests.oracle import nodes, texts
from tests.oracle.question import Asked, passes


def uptime(log: Asked) -> Any:
    question, samples = log.question, log.samples
    first, last = log.window
    cutoff = int(question.one("interval")) * 120
    found = []
    known = {host for host in {**nodes.capacities(log), **(question.nodes or {})} if log.about(host)}
    for host in sorted({sample["host"] for sample in samples} | (known if last - first > cutoff else set())):
        told = {(s["time"], -s["gpufail"]) for s in samples if s["host"] == host and passes(s, log)}
        probes = sorted(told)  # of one instant, that of a failure first
        if not probes:
            if host in known and last - first > cutoff:
                found.append((host, "host", "down", first, last))
            continue
        rows = []
        if probes[0][0] - first > cutoff:
            rows.append(("host", "down", first, probes[0][0]))
        if last - probes[-1][0] > cutoff:
            rows.append(("host", "down", probes[-1][0], last))
        runs = [[probes[0]]]
        for before, probe in pairwise(probes):
            if probe[0] - before[0] > cutoff:
                rows.append(("host", "down", before[0], probe[0]))
                runs.append([])
            runs[-1].append(probe)
        for run in runs:
            rows.append(("host", "up", run[0][0], run[-1][0]))
            since = 0
            for at in range(1, len(run) + 1):
                if at == len(run) or run[at][1] != run[since][1]:
                    until = run[min(at, len(run) - 1)][0]
                    rows.append(("gpu", "down" if run[since][1] else "up", run[since][0], until))
                    since = at
        rows.sort(key=lambda row: (row[2], row[0] == "gpu", row[3], row[1]))
        found += [(host, *row) for row in rows]
    wanted = [s for s in ("up", "down") if question.has(f"only-{s}")] or ["up", "down"]
    return [
        {"host": host, "device": device, "state": state, "start": texts.minute(begin), "end": texts.minute(until)}
        for host, device, state, begin, until in found
        if state in wanted
    ], None

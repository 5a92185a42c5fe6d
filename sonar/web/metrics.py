"""Counts for Prometheus at `/metrics`."""

from typing import TYPE_CHECKING

import sonar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from sonar.web.workers import Workers

__all__ = ["Metrics"]

_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted: requests by endpoint and status, and the tasks of the processes."""

    def __init__(self, workers: "Workers") -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram
        from prometheus_client.process_collector import ProcessCollector

        self._workers = workers
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "sonalyzed_requests", "Requests answered.", ("endpoint", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "sonalyzed_request_seconds", "Time to the end of an answer.", ("endpoint",),
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def count(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request; `endpoint` is the template of its path, of which there are few."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def collect(self) -> "Iterator[Metric]":
        """Yield what is read only when it is asked for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("sonalyzed_build", "Version of the program.", {"version": sonar.__version__})
        for name, text, values in (
            ("running", "Analyses in progress.", self._workers.running),
            ("waiting", "Analyses that wait for a slot.", self._workers.waiting),
        ):
            gauge = GaugeMetricFamily(f"sonalyzed_tasks_{name}", text, labels=("lane",))
            for lane, number in values.items():
                gauge.add_metric((lane.value,), number)
            yield gauge
        ended = CounterMetricFamily("sonalyzed_tasks", "Analyses that ended, by outcome.", labels=("outcome",))
        for outcome, number in self._workers.ended.items():
            ended.add_metric((outcome.replace(" ", "_"),), number)
        yield ended

    def text(self) -> bytes:
        """Return the text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

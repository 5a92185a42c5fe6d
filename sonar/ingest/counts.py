"""What infiltrate has done since it started, in numbers: plain ones, put into the form of Prometheus when asked."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

__all__ = ["Counts", "exposition"]

# Seconds. A durable answer takes a few milliseconds; senders give up after a minute.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Counts:
    """Requests and records, by endpoint."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by endpoint and status
        self.stored: Counter[str] = Counter()  # records, by endpoint
        self.dropped: Counter[str] = Counter()
        self.spans = [0] * (len(_BOUNDS) + 1)  # accepted uploads, by time from headers to durable
        self.total_s = 0.0

    def accepted(self, endpoint: str, stored: int, dropped: int, span_s: float) -> None:
        """Count an upload that is durable."""
        self.requests[endpoint, 200] += 1
        self.stored[endpoint] += stored
        if dropped:
            self.dropped[endpoint] += dropped
        self.spans[bisect_left(_BOUNDS, span_s)] += 1
        self.total_s += span_s

    def took(self, endpoint: str, stored: int, dropped: int) -> None:
        """Count records that came in another way than by a request."""
        self.stored[endpoint] += stored
        if dropped:
            self.dropped[endpoint] += dropped

    def refused(self, endpoint: str, status: int, dropped: int = 0) -> None:
        """Count a request that was answered with an error."""
        self.requests[endpoint, status] += 1
        if dropped:
            self.dropped[endpoint] += dropped

    def __str__(self) -> str:
        """Return the sums in one line."""
        refused = sum(number for (_, status), number in self.requests.items() if status != 200)
        return f"{self.stored.total()} records stored, {self.dropped.total()} dropped, {refused} requests refused"


def exposition(counts: Counts, gauges: Mapping[str, tuple[str, float]]) -> tuple[bytes, bytes]:
    """Return all numbers in the text format of Prometheus, and its media type.

    `gauges` are further ones, name to help and value. No label tells a user, a cluster or a host: who may look at the
    numbers need not know whom they are about.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.platform_collector import PLATFORM_COLLECTOR
    from prometheus_client.process_collector import PROCESS_COLLECTOR

    class Collector:
        def collect(self) -> "Iterator[Metric]":
            yield from _metrics(counts, gauges)

    registry = CollectorRegistry()
    for collector in (Collector(), PROCESS_COLLECTOR, PLATFORM_COLLECTOR):
        registry.register(collector)
    return generate_latest(registry), CONTENT_TYPE_LATEST.encode()


def _metrics(counts: Counts, gauges: Mapping[str, tuple[str, float]]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    requests = CounterMetricFamily("sonar_ingest_requests", "Requests answered.", labels=["endpoint", "status"])
    for (endpoint, status), number in sorted(counts.requests.items()):
        requests.add_metric([endpoint or "none", str(status)], number)
    yield requests
    for name, text, numbers in (
        ("sonar_ingest_records_stored", "Records made durable.", counts.stored),
        ("sonar_ingest_records_dropped", "Records that were bad.", counts.dropped),
    ):
        family = CounterMetricFamily(name, text, labels=["endpoint"])
        for endpoint, number in sorted(numbers.items()):
            family.add_metric([endpoint or "none"], number)
        yield family
    buckets, below = [], 0
    for bound, number in zip([*map(str, _BOUNDS), "+Inf"], counts.spans, strict=True):
        below += number
        buckets.append((bound, float(below)))
    text = "From the headers of an upload until its records were durable."
    yield HistogramMetricFamily("sonar_ingest_upload_seconds", text, buckets=buckets, sum_value=counts.total_s)
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(name, text, value=value)

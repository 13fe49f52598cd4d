"""Metrics of the service for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ServiceMetrics:
    """Metrics of one service, in their own registry.

    Label values are only names of existing parts, statuses and fixed words, so their number is limited.
    `requests` and `seconds` count all requests. The part label is empty if the request named no part or an
    unknown one.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "metricad_requests", "Requests answered.", ["part", "status"], registry=registry
        )
        self.verdicts = Counter("metricad_verdicts", "Images judged.", ["part", "verdict"], registry=registry)
        self.rejected = Counter(
            "metricad_rejected", "Requests refused, by the reason.", ["reason"], registry=registry
        )
        self.seconds = Histogram(
            "metricad_request_seconds",
            "From a request's head to the end of its answer, the upload included.",
            ["part"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("metricad_in_flight", "Requests being answered.", registry=registry)

    def page(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

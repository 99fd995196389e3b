"""What the daemon measures, for Prometheus. Labels are names of the configuration and fixed words, never ids."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from dialerd import __version__

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Fine where a freed slot should be refilled (milliseconds), coarse where something has gone wrong.
_DELAYS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
DROPPED = (
    *("background_work", "commit", "journal_step", "late_channel", "pbx_question", "put_back"),
    *("task", "webhook_delivery", "webhook_event"),
)
"""What may be given up."""
_OF_A_STANDBY = frozenset(
    f"dialerd_{name}"
    for name in (
        *("api_request_seconds", "build_info", "connections_dropped", "connections_turned_away"),
        *("event_loop_lag_seconds", "logins_failed"),
        *("sse_clients", "sse_dropped", "standby"),
    )
)
_BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Metrics:
    """All metrics of one daemon, in a registry of their own: two daemons in one process do not share them."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.families: dict[str, tuple[str, ...]] = {}
        """Every metric of ours by its name as it is scraped, with its labels."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.before_render: list[Callable[[], None]] = []
        """Set what is read off when it is asked for, and not each time that it changes."""
        self._gauge("build_info", "The version that runs; always 1.", "version").labels(__version__).set(1)
        self.standby = self._gauge("standby", "1 while another daemon dials from the store, and this one only reads.")
        self._links: dict[str, Callable[[], Mapping[str, int]]] = {}
        self._queues: dict[str, Callable[[], int]] = {}
        self.before_render.append(self._measure_queues)
        self.families["dialerd_pbx_link_total"] = ("pbx", "what")
        self.registry.register(_LinkCounters(self._links))
        self._calls()
        self._pbx()
        self._store()
        self._serving()
        self._webhooks()

    def _calls(self) -> None:
        self.calls = self._counter("calls", "Calls that ended, by how.", "outcome", "trunk", "pbx")
        self.slots_used = self._gauge("slots_used", "Call slots in use. Level: trunk, pbx, tenant.", "level", "name")
        self.slots_limit = self._gauge("slots_limit", "Call slots allowed. Level: trunk, pbx, tenant.", "level", "name")
        self.calls_per_second_limit = self._gauge(
            "calls_per_second_limit", "Calls per second allowed. Level: trunk, pbx, tenant.", "level", "name"
        )
        self.campaigns_active = self._gauge("campaigns_active", "Campaigns that are active.")
        self.dispatch_delay = self._histogram(
            "dispatch_delay_seconds", "From the moment a call was allowed to its originate.", _DELAYS
        )
        self.calls_overdue = self._counter("calls_overdue", "Calls that outlived their limit and were asked about.")
        self.contacts_added = self._counter(
            "contacts_added", "Rows of uploads. Result: added, duplicate, invalid or do_not_call.", "result"
        )

    def _pbx(self) -> None:
        self.originates = self._counter(
            "originates", "Orders to a PBX. Result: accepted, refused or in_doubt.", "pbx", "trunk", "result"
        )
        self.pbx_events = self._counter("pbx_events", "Events from a PBX that concern calls of ours.", "pbx", "event")
        self.pbx_events_unknown = self._counter(
            "pbx_events_unknown", "Events and channels of calls that are not in flight here.", "pbx"
        )
        self.late_channels = self._counter(
            "late_channels", "Channels hung up because they came after their call was given up.", "pbx"
        )
        self.pbx_link_up = self._gauge("pbx_link_up", "1 while the control link is up and logged in.", "pbx")
        self.pbx_connects = self._counter(
            "pbx_connects", "How often the control link came up: at first, or again.", "pbx"
        )

        self.trunk_state = self._gauge(
            "trunk_state", "1 for the state that a trunk is in. State: up, paused or down.", "trunk", "state"
        )
        self.trunk_suspended = self._gauge(
            "trunk_suspended", "1 while a trunk gets no calls but probes, after many failures in a row.", "trunk"
        )
        self.trunk_rate_share = self._gauge(
            "trunk_rate_share", "The share of its rate that a trunk's congestion leaves for now.", "trunk"
        )
        self.trunk_suspensions = self._counter(
            "trunk_suspensions", "How often a trunk was suspended. Seen: faults or numbers.", "trunk", "seen"
        )
        self.trunk_answer_seizure_ratio = self._gauge(
            "trunk_answer_seizure_ratio", "Of a trunk's latest 100 calls, the share that was answered.", "trunk"
        )
        self.trunk_probes = self._counter("trunk_probes", "Calls planned to try a suspended trunk.", "trunk")

    def _store(self) -> None:
        self.commit_seconds = self._histogram("commit_seconds", "Duration of one group commit of the journal.", _DELAYS)
        self.checkpoint_seconds = self._histogram(
            "checkpoint_seconds", "Duration of one checkpoint of SQLite's log, beside the writer.", _DELAYS
        )
        self.wal_pages = self._gauge("wal_pages", "Pages in SQLite's log at its last checkpoint.")
        self.commit_jobs = self._histogram("commit_jobs", "Jobs in one group commit of the journal.", _BATCHES)
        self.event_lag = self._histogram(
            "event_lag_seconds",
            "From what happened to its commit, when streams are told: the oldest event of each commit.",
            _DELAYS,
        )
        self.store_up = self._gauge("store_up", "1 while writing to the store and reading from it work.")
        self.store_up.set(1)
        self.queue_length = self._gauge(
            "queue_length", "What waits. Queue: store_writes, journal_steps or contacts_at_hand.", "queue"
        )
        self.retention_removed = self._counter(
            "retention_removed",
            "What was removed for its age. What: events, deliveries, campaigns, rows_of_campaigns.",
            "what",
        )
        for what in ("events", "deliveries", "campaigns", "rows_of_campaigns"):
            self.retention_removed.labels(what)
        self.dropped = self._counter("dropped", "What was given up, by kind; every one of them is in the log.", "what")
        for what in DROPPED:
            self.dropped.labels(what)  # at 0 from the start: a counter that is born at 1 never rose, to Prometheus

    def _serving(self) -> None:
        self.loop_lag = self._histogram("event_loop_lag_seconds", "How late the event loop ran a timer.", _DELAYS)
        self.sse_clients = self._gauge("sse_clients", "Open event streams.")
        self.sse_dropped = self._counter("sse_dropped", "Event streams closed because their client did not read.")
        self.connections_dropped = self._counter(
            "connections_dropped", "Connections closed because their client took nothing of what was sent to it."
        )
        self.connections_turned_away = self._counter(
            "connections_turned_away", "Connections closed at once, because too many were open."
        )
        self.bodies_turned_away = self._counter(
            "bodies_turned_away",
            "Requests refused because too much was on its way. Reason: memory, turn, uploads or disk.",
            "reason",
        )
        for reason in ("memory", "turn", "uploads", "disk"):
            self.bodies_turned_away.labels(reason)
        self.logins_failed = self._counter("logins_failed", "Requests with a key that is none of ours.")
        self.api_seconds = self._histogram(
            "api_request_seconds", "API requests, by route, method and status.", _DELAYS, "route", "method", "status"
        )

    def _webhooks(self) -> None:
        self.webhooks_enabled = self._gauge("webhooks_enabled", "Webhooks that are told of events.")
        self.webhooks_ill = self._gauge("webhooks_ill", "Those of them that fail whatever they are sent.")
        self.webhook_backlog = self._gauge("webhook_backlog", "Events taken for webhooks and not settled yet.")
        self.webhook_lag = self._gauge(
            "webhook_lag_seconds", "The age of the oldest event that some webhook was not told of yet."
        )
        self.webhook_attempts = self._counter(
            "webhook_attempts", "Attempts to deliver. Result: delivered, refused or unreachable.", "result"
        )
        self.webhook_seconds = self._histogram("webhook_attempt_seconds", "Duration of one attempt.", _DELAYS)
        self.webhooks_switched_off = self._counter(
            "webhooks_switched_off", "Webhooks that the daemon switched off. Reason: dead or gone.", "reason"
        )
        for reason in ("dead", "gone"):
            self.webhooks_switched_off.labels(reason)

    def observe_request(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count one API request. ``route`` is the route's template (with ``{id}``), None where none matched."""
        method = method if method in _METHODS else "other"
        self.api_seconds.labels(route or "unmatched", method, str(status)).observe(seconds)

    def watch_link(self, pbx: str, counters: Callable[[], Mapping[str, int]]) -> None:
        """Show what a PBX's driver counts by itself, by name; asked whenever the metrics are read."""
        self._links[pbx] = counters

    def watch_queue(self, queue: str, length: Callable[[], int]) -> None:
        """Show how much waits in a queue; asked whenever the metrics are read."""
        self._queues[queue] = length

    def unwatch_link(self, pbx: str) -> None:
        """A PBX has left the configuration."""
        self._links.pop(pbx, None)
        self._drop(self.pbx_link_up, pbx)

    def forget_trunk(self, trunk: str) -> None:
        """A trunk has left the configuration: show no state of it any more. What was counted stays."""
        for gauge in (self.trunk_suspended, self.trunk_rate_share, self.trunk_answer_seizure_ratio):
            self._drop(gauge, trunk)
        for state in ("up", "paused", "down"):
            self._drop(self.trunk_state, trunk, state)

    def forget_slots(self, level: str, name: str) -> None:
        """A holder of limits has left the configuration."""
        self._drop(self.slots_used, level, name)
        self._drop(self.slots_limit, level, name)

    @staticmethod
    def _drop(gauge: Gauge, *labels: str) -> None:
        with contextlib.suppress(KeyError):
            gauge.remove(*labels)

    def render(self, *, standing_by: bool = False) -> bytes:
        """Write all metrics in the text format that :data:`CONTENT_TYPE` names.

        ``standing_by``: those alone that a daemon knows which does not dial.
        """
        if standing_by:
            return generate_latest(_OfAStandby(self.registry))
        for measure in self.before_render:
            measure()
        return generate_latest(self.registry)

    def _measure_queues(self) -> None:
        for queue, length in self._queues.items():
            self.queue_length.labels(queue).set(length())

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.families[f"dialerd_{name}_total"] = labels
        return Counter(name, text, labels, namespace="dialerd", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.families[f"dialerd_{name}"] = labels
        return Gauge(name, text, labels, namespace="dialerd", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        self.families[f"dialerd_{name}"] = labels
        return Histogram(name, text, labels, namespace="dialerd", registry=self.registry, buckets=buckets)


class _OfAStandby(Collector):
    """What a daemon that does not dial knows: of its process, and of whom it serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Leave out of all metrics those of dialing."""
        for family in self._registry.collect():
            if not family.name.startswith("dialerd_") or family.name in _OF_A_STANDBY:
                yield family


class _LinkCounters(Collector):
    """What the drivers count: connections, late answers, messages that make no sense."""

    def __init__(self, links: Mapping[str, Callable[[], Mapping[str, int]]]) -> None:
        self._links = links

    def collect(self) -> Iterator[Metric]:
        """Ask every driver."""
        family = CounterMetricFamily("dialerd_pbx_link", "What a PBX's driver counts.", labels=("pbx", "what"))
        for pbx, counters in self._links.items():
            for what, count in counters().items():
                family.add_metric((pbx, what), count)
        yield family

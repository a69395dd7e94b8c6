"""`make cost`: what a month costs in Azure, beside API Management doing the same, as docs/deploying.md shows it.

The rule: every number is a price or an assumption in a table here, or worked out from those. Change them to your own and run it.
Amounts are US dollars; a month has 730 hours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

HOURS = 730.0
SECONDS = HOURS * 3600

PRICES: Mapping[str, tuple[float, str]] = {
    # Azure Functions, Flex Consumption; East US, retail price list of September 2026, second hand.
    "on demand": (0.000026, "GB-second, after 100,000 free"),
    "ready": (0.000004, "GB-second of an instance that is kept ready"),
    "ready and busy": (0.000016, "GB-second while it works"),
    "execution": (0.40 / 1e6, "execution, after 250,000 free"),
    # The rest: East US list prices as known in 2025 and 2026, not looked up again.
    "blob write": (0.0625 / 1e4, "operation, hot, zone-redundant"),
    "blob stored": (0.023, "GB-month, hot, zone-redundant"),
    "queue operation": (0.004 / 1e4, "operation"),
    "table operation": (0.00036 / 1e4, "operation"),
    "throughput unit": (0.03, "hour, Event Hubs Standard"),
    "event": (0.028 / 1e6, "event of up to 64 KB"),
    "log": (2.30, "GB into Log Analytics, after 5 free"),
    "APIM Basic v2": (150.0, "month and unit"),
    "APIM Standard v2": (700.0, "month and unit"),
    "WAF gateway": (0.443, "hour, Application Gateway WAF v2"),
    "capacity unit": (0.0144, "hour, Application Gateway WAF v2"),
    "streaming unit": (0.11, "hour, Stream Analytics"),
}
"""What Azure charges, and for what."""

BUSY_HOURS = 220.0
"""Hours of a month in which calls come: ten on each working day."""
CALL_S = 8.0
"""How long a call takes. A conversation is one call of about 1,000 tokens."""
CALL_KB = 8.0
"""What is kept of one: both bodies and the record."""
LOG_KB = 1.0
"""What an execution writes to Log Analytics: lines that warn are few, others stay out (host.json)."""
CALL_SPANS_KB = 5.0
"""What its trace takes there: the call, an attempt, publishing twice, recording; measured at the exporter."""
TIMER_SPANS_KB = 9.0
"""What the trace of a run of the timer takes."""
INSTANCE_GB = 2.0
CALLS_ON_AN_INSTANCE = 50.0
"""Of the hundred that infra/app.bicep allows: instances are not filled evenly."""
LEAST_S = 1.0
"""The shortest time that the plan bills an instance for."""
POLLS = SECONDS / 2
"""Looks into an idle queue: host.json's maxPollingInterval."""
ROLLUPS = SECONDS / 60
"""The timer runs each minute."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A load, and the parts that carry it. Zero throughput units: the storage queue carries the records."""

    name: str
    conversations: float
    gateways_ready: int
    recorders_ready: int
    throughput_units: int
    apim: str
    apim_units: int


SIZES = (
    Size(
        name="small",
        conversations=1e4,
        gateways_ready=0,
        recorders_ready=0,
        throughput_units=0,
        apim="APIM Basic v2",
        apim_units=1,
    ),
    Size(
        name="medium",
        conversations=1e5,
        gateways_ready=1,
        recorders_ready=0,
        throughput_units=0,
        apim="APIM Standard v2",
        apim_units=1,
    ),
    Size(
        name="large",
        conversations=1e7,
        gateways_ready=2,
        recorders_ready=1,
        throughput_units=2,
        apim="APIM Standard v2",
        apim_units=2,
    ),
)


def busy_instances(calls: float, seconds: float) -> float:
    """How many instances work on average in busy hours. One works while there is at least one call: calls come independently of
    each other, so none is there for e^-(calls under way) of the time."""
    under_way = calls / (BUSY_HOURS * 3600) * seconds
    return max(1 - math.exp(-under_way), under_way / CALLS_ON_AN_INSTANCE)


def recordings_of(size: Size) -> float:
    """How often the recorder is called: for opened and closed of each call, or for a second's batch of them."""
    events = 2 * size.conversations
    return min(events, BUSY_HOURS * 3600) if size.throughput_units else events


def executions_of(size: Size) -> float:
    """How often any function is called."""
    return size.conversations + recordings_of(size) + ROLLUPS


def functions(size: Size) -> float:
    """The plan: gateway, recorder and timer, each on instances of its own."""
    recordings = recordings_of(size)
    cost = over = 0.0
    for instances, ready in (
        (busy_instances(size.conversations, CALL_S), size.gateways_ready),
        (busy_instances(recordings, LEAST_S), size.recorders_ready),
    ):
        gb_s = BUSY_HOURS * 3600 * INSTANCE_GB
        cost += ready * INSTANCE_GB * SECONDS * price("ready") + min(instances, ready) * gb_s * price("ready and busy")
        over += max(instances - ready, 0) * gb_s
    over += ROLLUPS * LEAST_S * INSTANCE_GB
    return cost + max(over - 1e5, 0) * price("on demand") + max(executions_of(size) - 2.5e5, 0) * price("execution")


def storage(size: Size) -> float:
    """Archive, ledger and queue, with what is kept in the first month."""
    calls = size.conversations
    queue = 0 if size.throughput_units else 6 * calls + POLLS  # put, get and delete, of two messages
    table = 4 * calls + 100 * ROLLUPS
    kept = calls * CALL_KB / 1e6
    return (
        calls * price("blob write")
        + kept * price("blob stored")
        + queue * price("queue operation")
        + table * price("table operation")
    )


def event_hubs(size: Size) -> float:
    """The transport, where it is not the queue."""
    units = size.throughput_units
    return units * HOURS * price("throughput unit") + (2 * size.conversations * price("event") if units else 0)


def logs(kilobytes: float) -> float:
    """Log Analytics."""
    return max(kilobytes / 1e6 - 5, 0) * price("log")


def application_gateway(size: Size) -> float:
    """With a web application firewall. A capacity unit is 2,500 connections at once or 2.22 Mbit/s."""
    connections = size.conversations * CALL_S / (BUSY_HOURS * 3600)
    return HOURS * (price("WAF gateway") + math.ceil(connections / 2500) * price("capacity unit"))


def tollgate(size: Size) -> Mapping[str, float]:
    """What this template makes, by part."""
    return {
        "Functions": functions(size),
        "Storage": storage(size),
        "Event Hubs": event_hubs(size),
        "Log Analytics": logs(
            executions_of(size) * LOG_KB + size.conversations * CALL_SPANS_KB + ROLLUPS * TIMER_SPANS_KB
        ),
    }


def api_management(size: Size) -> Mapping[str, float]:
    """The reference architecture for logging Azure OpenAI, by part: what it logs goes through Log Analytics and Event Hubs."""
    units = max(size.throughput_units, 1)
    return {
        "API Management": size.apim_units * price(size.apim),
        "Application Gateway": application_gateway(size),
        "Event Hubs": units * HOURS * price("throughput unit") + size.conversations * price("event"),
        "Stream Analytics": units * HOURS * price("streaming unit"),
        "Log Analytics": logs(size.conversations * (CALL_KB + LOG_KB)),
    }


def price(name: str) -> float:
    """Of one unit, in dollars."""
    return PRICES[name][0]


def table() -> str:
    """Both, part by part, for each size: Markdown."""
    heads = [f"{size.name}: {size.conversations:,.0f}" for size in SIZES]
    lines = [f"| USD a month, for so many conversations | {' | '.join(heads)} |", "|---|--:|--:|--:|"]
    ours, theirs = [tollgate(size) for size in SIZES], [api_management(size) for size in SIZES]
    front = [application_gateway(size) for size in SIZES]
    sums = [sum(parts.values()) for parts in ours]
    lines += [_line(part, [parts[part] for parts in ours]) for part in ours[0]]
    lines.append(_line("**Tollgate**", sums))
    lines.append(
        _line("**Tollgate behind Application Gateway with WAF**", [a + b for a, b in zip(sums, front, strict=True)])
    )
    lines += [_line(part, [parts[part] for parts in theirs]) for part in theirs[0]]
    lines.append(
        _line("**API Management, as in the reference architecture**", [sum(parts.values()) for parts in theirs])
    )
    return "\n".join(lines)


def _line(name: str, amounts: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{amount:,.0f}' for amount in amounts)} |"


if __name__ == "__main__":
    print(table())

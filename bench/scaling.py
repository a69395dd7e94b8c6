"""`python -m bench.scaling`: what carries ten thousand to a billion calls a month, and what gives way first (docs/scaling.md).

The rule: every number is an assumption or a published limit in a table here, or worked out from those. Change them to your own
and run it. Utilisation is that of the busiest seconds; one means that nothing more fits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from devtools.cost import BUSY_HOURS, CALL_KB, CALL_S, Size, tollgate

STEPS = (1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
"""Calls a month."""

PEAK = 3.0
"""The busiest seconds over the average of the busy hours."""
GATEWAY_CPU_S = 0.020
"""Of one call, a stream of 120 tokens, with all that publishes it; `make bench` measures it."""
RECORDER_CPU_S, INVOCATION_CPU_S = 0.0008, 0.005
"""Of one call, opened and closed, and of an invocation of the recorder; `make bench-recorder` measures
them, the latter by calls that come alone."""
ROLLUP_CPU_S = 60e-6
"""Of one ledger entry; an hour that changed is counted afresh."""
RECORD_KB = 2.0
"""What a call's events have besides its bodies."""
SEND_S, INVOCATION_S = 0.015, 0.1
"""How long a send to the transport and an invocation of the recorder take: what comes meanwhile goes with the next, together."""
MOST_IN_MESSAGE, MOST_IN_INVOCATION = 4, 50
"""Calls: of CALL_KB in a queue's message of 48 KB, and in host.json's hundred events."""
ROLLUP_PATIENCE_S = 300.0
"""How far the usage report may be behind."""

CONCURRENCY, INSTANCES = 100, 1000
"""Calls on an instance (infra/app.bicep), and the most instances of a Flex Consumption app.
https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan"""
QUEUE_MESSAGES, ACCOUNT_REQUESTS, PARTITION_ENTITIES = 2_000, 20_000, 2_000
"""A second: of one queue, one Storage account and one table partition, at 1 KB each.
https://learn.microsoft.com/azure/storage/tables/scalability-targets"""
UNIT_KB, UNIT_EVENTS, UNITS, PARTITIONS = 1_000, 1_000, 40, 32
"""What a throughput unit takes a second, and the most units and partitions of the Standard tier.
https://learn.microsoft.com/azure/event-hubs/event-hubs-quotas"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What carries so many calls a month. Zero throughput units: the storage queue. Each app has a Storage account of its own."""

    calls: float
    apps: int
    units: int
    partitions: int

    @property
    def per_s(self) -> float:
        """Calls a second of one app, at its busiest."""
        return self.calls / self.apps / (BUSY_HOURS * 3600) * PEAK

    @property
    def gateways(self) -> int:
        """Instances of one app that serve them: by calls at once, or by CPU (one core each)."""
        return math.ceil(max(self.per_s * CALL_S / CONCURRENCY, self.per_s * GATEWAY_CPU_S))

    @property
    def sent(self) -> float:
        """Calls in one message."""
        return min(MOST_IN_MESSAGE, max(1.0, self.per_s / self.gateways * SEND_S))

    @property
    def batch(self) -> float:
        """Calls in one invocation of the recorder, and so in one transaction of the ledger."""
        if not self.units:
            return self.sent
        return min(MOST_IN_INVOCATION, max(1.0, self.per_s / self.partitions * INVOCATION_S))

    @property
    def recording_cores(self) -> float:
        """Of one app."""
        return self.per_s * (RECORDER_CPU_S + INVOCATION_CPU_S / self.batch)

    @property
    def requests_per_s(self) -> float:
        """Of one app's Storage account: the archive's writes, the ledger's transactions and marks, the queue's messages."""
        of_queue = 0 if self.units else 6 / self.sent  # put, get and delete, opened and closed
        return self.per_s * (1 + 4 / self.batch + of_queue)


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Something that has an end."""

    name: str
    used: Callable[[Plan], float]
    """The share in use; zero where the plan has no such part."""
    moved_by: str


CEILINGS = (
    Ceiling(
        name="calls at once",
        used=lambda plan: plan.gateways / INSTANCES,
        moved_by="`mostInstances` in infra/app.bicep; then another app",
    ),
    Ceiling(
        name="storage queue",
        used=lambda plan: 0.0 if plan.units else 2 * plan.per_s / plan.sent / QUEUE_MESSAGES,
        moved_by="`TOLLGATE_TRANSPORT=event-hubs`",
    ),
    Ceiling(
        name="throughput units",
        used=lambda plan: units_needed(plan) / UNITS if plan.units else 0.0,
        moved_by="`size` in infra/; beyond 40 the Premium tier",
    ),
    Ceiling(
        name="partitions",
        used=lambda plan: plan.recording_cores / plan.partitions if plan.units else 0.0,
        moved_by="the hub's partitions, when it is made; beyond 32 the Premium tier",
    ),
    Ceiling(
        name="Storage account",
        used=lambda plan: plan.requests_per_s / ACCOUNT_REQUESTS,
        moved_by="another app on another account",
    ),
    Ceiling(
        name="ledger partition",
        used=lambda plan: 2 * plan.per_s / PARTITION_ENTITIES,
        moved_by="another app: its ledger has its own hours",
    ),
    Ceiling(
        name="rollup of an hour",
        used=lambda plan: plan.per_s / PEAK * 3600 * ROLLUP_CPU_S / ROLLUP_PATIENCE_S,
        moved_by="another app, or usage that is later",
    ),
)


def units_needed(plan: Plan) -> float:
    """Throughput units of one app, by size or by number."""
    return max(
        plan.per_s * (CALL_KB + RECORD_KB) / UNIT_KB,
        2 * plan.per_s / plan.sent / UNIT_EVENTS,
    )


def planned(calls: float) -> Plan:
    """The least that carries so many calls a month with a third to spare."""
    apps = 1
    while True:
        plan = _plan(calls, apps)
        if bottleneck(plan)[1] <= 2 / 3:
            return plan
        apps += 1


def _plan(calls: float, apps: int) -> Plan:
    plan = Plan(calls=calls, apps=apps, units=0, partitions=0)
    if 2 * plan.per_s / plan.sent < QUEUE_MESSAGES / 3:
        return plan
    plan = replace(plan, units=1, partitions=4)
    while plan.partitions < PARTITIONS and plan.recording_cores > plan.partitions / 2:
        plan = replace(plan, partitions=2 * plan.partitions)
    return replace(plan, units=math.ceil(units_needed(plan) / (2 / 3)))


def bottleneck(plan: Plan) -> tuple[Ceiling, float]:
    """What gives way first, and how much of it is in use."""
    return max(((ceiling, ceiling.used(plan)) for ceiling in CEILINGS), key=lambda pair: pair[1])


def cost(plan: Plan) -> float:
    """Dollars a month, of all apps; devtools/cost.py says of what."""
    size = Size(
        name="",
        conversations=plan.calls / plan.apps,
        gateways_ready=min(2, plan.gateways - 1),
        recorders_ready=1 if plan.units else 0,
        throughput_units=plan.units,
        apim="APIM Basic v2",
        apim_units=1,
    )
    return plan.apps * sum(tollgate(size).values())


def table() -> str:
    """A step a row: Markdown."""
    heads = (
        *("calls a month", "calls/s at the peak", "at once", "apps", "gateways", "recorders", "transport"),
        *("Storage requests/s", "USD a month", "gives way first (in use)", "is moved by"),
    )
    lines = [f"| {' | '.join(heads)} |", "|" + "--:|" * 6 + "---|" + "--:|" * 2 + "---|" * 2]
    return "\n".join(lines + [_line(planned(calls)) for calls in STEPS])


def _line(plan: Plan) -> str:
    ceiling, used = bottleneck(plan)
    transport = f"{plan.units} units, {plan.partitions} partitions" if plan.units else "storage queue"
    peak = plan.per_s * plan.apps
    cells = (
        *(f"{plan.calls:,.0f}", f"{peak:,.3g}", f"{peak * CALL_S:,.0f}", str(plan.apps)),
        *(str(plan.gateways), str(math.ceil(plan.recording_cores)), transport),
        *(f"{plan.requests_per_s:,.3g}", f"{cost(plan):,.0f}", f"{ceiling.name} ({used:.2%})", ceiling.moved_by),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())

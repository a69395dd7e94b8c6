"""The request nodes: $cbs accepts every token, $management describes hubs and partitions.

https://learn.microsoft.com/azure/event-hubs/event-hubs-amqp-protocol-guide; value types as the SDK reads them.
"""

import time
from collections.abc import Mapping
from typing import Any

from devtools.eventhubs.amqp import encode_message, long, timestamp
from devtools.eventhubs.broker import Broker, Hub, Partition, Refused

REQUEST_NODES = ("$cbs", "$management")


def answer(broker: Broker, node: str, request: Mapping[str, str]) -> tuple[int, Any]:
    """The status and the value (or what went wrong) that answer a request, given as its application properties."""
    if node == "$cbs":
        return 202, None
    try:
        hub = broker.hub(request["name"])
        if request["type"] == "com.microsoft:partition":
            return 200, _describe_partition(hub, hub.partition(request["partition"]))
    except Refused as refusal:
        return 404, refusal.description
    return 200, {
        "name": hub.name,
        "type": "com.microsoft:eventhub",
        "created_at": timestamp(hub.created_ms),
        "partition_count": len(hub.partitions),
        "partition_ids": list(hub.partitions),
    }


def _describe_partition(hub: Hub, partition: Partition) -> dict[str, object]:
    last = partition.events[-1] if partition.events else None
    return {
        "name": hub.name,
        "type": "com.microsoft:partition",
        "partition": partition.id,
        "begin_sequence_number": long(0 if last else -1),
        "last_enqueued_sequence_number": long(last.sequence_number if last else -1),
        "last_enqueued_offset": last.offset if last else "-1",
        "last_enqueued_time_utc": timestamp(last.enqueued_ms if last else 0),
        "is_partition_empty": last is None,
    }


def last_enqueued(partition: Partition) -> bytes:
    """The delivery-annotations section for a receiver that tracks the last enqueued event."""
    last = partition.events[-1]
    return encode_message(
        delivery_annotations={
            b"last_enqueued_sequence_number": long(last.sequence_number),
            b"last_enqueued_offset": last.offset,
            b"last_enqueued_time_utc": timestamp(last.enqueued_ms),
            b"runtime_info_retrieval_time_utc": timestamp(time.time_ns() // 1_000_000),
        }
    )

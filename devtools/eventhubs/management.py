"""The request nodes: $cbs accepts every token, $management describes hubs and partitions.

Names and types of the answers: https://learn.microsoft.com/azure/event-hubs/event-hubs-amqp-protocol-guide and the SDK.
"""

import time

from azure.eventhub._pyamqp.message import Message
from azure.eventhub._pyamqp.types import TYPE, VALUE, AMQPTypes

from devtools.eventhubs.broker import Broker, Hub, Partition, Refused
from devtools.eventhubs.messages import Request, answer, encode_message

REQUEST_NODES = frozenset({"$cbs", "$management"})


def respond(broker: Broker, node: str, request: Request) -> bytes:
    """Answer one request to a node as an encoded message."""
    if node == "$cbs":
        return answer(request, 202, "Accepted")
    try:
        hub = broker.hub(str(request.properties["name"]))
        if request.properties["type"] == "com.microsoft:partition":
            return answer(request, 200, "OK", _partition(hub, hub.partition(str(request.properties["partition"]))))
        return answer(request, 200, "OK", _hub(hub))
    except Refused as refusal:
        return answer(request, 404, refusal.description)


def _hub(hub: Hub) -> dict[str, object]:
    return {
        "name": hub.name,
        "type": "com.microsoft:eventhub",
        "created_at": _typed(AMQPTypes.timestamp, hub.created_ms),
        "partition_count": len(hub.partitions),
        "partition_ids": _typed(AMQPTypes.array, [_typed(AMQPTypes.string, name) for name in hub.partitions]),
    }


def _partition(hub: Hub, partition: Partition) -> dict[str, object]:
    last = partition.events[-1] if partition.events else None
    return {
        "name": hub.name,
        "type": "com.microsoft:partition",
        "partition": partition.id,
        "begin_sequence_number": _typed(AMQPTypes.long, 0 if last else -1),
        "last_enqueued_sequence_number": _typed(AMQPTypes.long, last.sequence_number if last else -1),
        "last_enqueued_offset": last.offset if last else "-1",
        "last_enqueued_time_utc": _typed(AMQPTypes.timestamp, last.enqueued_ms if last else 0),
        "is_partition_empty": last is None,
    }


def last_enqueued(partition: Partition) -> bytes:
    """The delivery-annotations section of a receiver that tracks the last enqueued event."""
    last = partition.events[-1]
    return encode_message(
        Message(
            delivery_annotations={
                b"last_enqueued_sequence_number": _typed(AMQPTypes.long, last.sequence_number),
                b"last_enqueued_offset": _typed(AMQPTypes.string, last.offset),
                b"last_enqueued_time_utc": _typed(AMQPTypes.timestamp, last.enqueued_ms),
                b"runtime_info_retrieval_time_utc": _typed(AMQPTypes.timestamp, time.time_ns() // 1_000_000),
            }
        )
    )


def _typed(amqp_type: str, value: object) -> dict[str, object]:
    return {TYPE: amqp_type, VALUE: value}

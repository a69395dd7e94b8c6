"""The recorder's triggers: what a transport delivers goes to shared/recording/recorder.py. Only the transport in use has one.

Rule: a failure is raised, so that the transport delivers the message again. Messages are bytes: what the host takes for text and
is none, a compressed one, would come as something else.
"""

from typing import List  # noqa: UP035 - the runtime's indexing takes no `list[...]`

import azure.functions as func

from shared import wiring
from shared.settings import Transports

blueprint = func.Blueprint()
_settings = wiring.settings_for_bindings()


async def record_queue(message: func.QueueMessage) -> None:
    """One message of the storage-queue transport."""
    parts = await wiring.services()
    await parts.recorder.record([message.get_body()])


async def record_hub(events: List[func.EventHubEvent]) -> None:  # noqa: UP006 - as above
    """A batch of the Event Hubs transport. Its partition waits while this fails: the checkpoint must not pass it."""
    parts = await wiring.services()
    await parts.recorder.record([event.get_body() for event in events])


if _settings.transport is Transports.STORAGE_QUEUE:
    blueprint.queue_trigger(
        arg_name="message",
        queue_name=_settings.queue_name,
        connection="AzureWebJobsStorage",
        data_type=func.DataType.BINARY,
    )(record_queue)
else:
    _retried = blueprint.retry(
        strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:02", maximum_interval="00:05:00"
    )
    _retried(
        blueprint.event_hub_message_trigger(
            arg_name="events",
            event_hub_name=_settings.event_hub_name,
            connection="TOLLGATE_EVENT_HUB",
            cardinality=func.Cardinality.MANY,
            data_type=func.DataType.BINARY,
        )(record_hub)
    )

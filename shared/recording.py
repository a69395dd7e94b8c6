"""The recorder: messages in, sinks written.

Rule: what cannot be an event is set aside and never stops the rest; what cannot be kept right now raises, so that the
trigger delivers it again. Both are safe because sinks take an event any number of times.
"""

import logging
from collections.abc import Sequence

from shared.core.events import Event, Undecodable, decode, unpack
from shared.quarantine import Quarantine
from shared.sinks import Sink

_log = logging.getLogger(__name__)


async def record(messages: Sequence[bytes], sinks: Sequence[Sink], quarantine: Quarantine) -> None:
    """Keeps the calls in `messages`. Every sink is tried before the failures of any are raised, as an ExceptionGroup."""
    events: list[Event] = []
    for message in messages:
        for line in unpack(message):
            try:
                events.append(decode(line))
            except Undecodable as reason:
                await quarantine.put(line, str(reason))
                _log.warning("event quarantined", extra={"reason": str(reason), "bytes": len(line)})
    failures = []
    for sink in sinks:
        try:
            await sink.write(events)
        except Exception as failure:  # noqa: BLE001 - a sink that is down must not stop the others; raised below
            failures.append(failure)
    if failures:
        raise ExceptionGroup("some sinks could not keep the calls", failures)

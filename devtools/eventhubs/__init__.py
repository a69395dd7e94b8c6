"""A local stand-in for Azure Event Hubs that the official SDK talks to over AMQP."""

from devtools.eventhubs.broker import Refused, StoredEvent
from devtools.eventhubs.faults import Faults
from devtools.eventhubs.server import EventHubsServer

__all__ = ["EventHubsServer", "Faults", "Refused", "StoredEvent"]

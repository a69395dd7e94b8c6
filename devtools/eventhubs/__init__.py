"""A local stand-in for Azure Event Hubs that the official SDK talks to over AMQP."""

from devtools.eventhubs.broker import Faults, Refused, StoredEvent
from devtools.eventhubs.server import EventHubsServer

__all__ = ["EventHubsServer", "Faults", "Refused", "StoredEvent"]

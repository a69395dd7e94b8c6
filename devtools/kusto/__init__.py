"""A local stand-in for Azure Data Explorer that the official Kusto clients talk to."""

from devtools.kusto.server import Faults, KustoServer
from devtools.kusto.store import KustoError

__all__ = ["Faults", "KustoError", "KustoServer"]

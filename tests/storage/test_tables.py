"""Table Storage as an edge: what breaks is an outage, and never a defect of the SDK's."""

import asyncio

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.data.tables.aio import TableServiceClient

from devtools.azurite import Ports, connection_string
from shared.storage.entities import TableTransport

BROKEN_OFF = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"


async def _break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(BROKEN_OFF)
    await writer.drain()
    writer.close()


async def test_a_response_that_breaks_off_is_an_outage() -> None:
    server = await asyncio.start_server(_break_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    storage = connection_string(Ports(blob=port, queue=port, table=port))
    async with (
        server,
        TableServiceClient.from_connection_string(storage, transport=TableTransport(), retry_total=0) as tables,
    ):
        with pytest.raises(ServiceResponseError):
            await tables.get_table_client("calls").create_entity({"PartitionKey": "a", "RowKey": "b"})

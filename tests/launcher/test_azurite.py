"""Azurite as the tests and `make run` use it: the real one."""

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError
from azure.data.tables import TableClient, TableServiceClient
from azure.storage.blob import BlobClient, BlobServiceClient
from azure.storage.queue import QueueClient

from devtools.azurite import Azurite, Ports, PortTakenError


def _blobs(azurite: Azurite) -> BlobServiceClient:
    return BlobServiceClient.from_connection_string(azurite.connection_string)


def test_serves_on_ports_it_chose_itself_and_ends_with_its_context() -> None:
    with Azurite.start() as azurite, _blobs(azurite) as client:
        client.create_container("first")
        assert [container.name for container in client.list_containers()] == ["first"]
    assert azurite.process.poll() is not None


@pytest.mark.parametrize("end", [Azurite.stop, Azurite.kill], ids=["stopped", "killed"])
def test_what_it_acknowledged_is_there_after_a_new_start_on_the_same_ports(
    end: Callable[[Azurite], None], tmp_path: Path
) -> None:
    with Azurite.start(tmp_path / "data") as azurite:
        blob = BlobClient.from_connection_string(azurite.connection_string, "kept", "blob")
        table = TableClient.from_connection_string(azurite.connection_string, "kept")
        queue = QueueClient.from_connection_string(azurite.connection_string, "kept")
        with blob, table, queue:
            with _blobs(azurite) as blobs:
                blobs.create_container("kept")
            table.create_table()
            queue.create_queue()
            blob.upload_blob(b"bytes")
            table.create_entity({"PartitionKey": "p", "RowKey": "r", "Tokens": 7})
            queue.send_message("message")
            end(azurite)
            azurite.start_again()
            assert blob.download_blob().readall() == b"bytes"
            assert table.get_entity("p", "r")["Tokens"] == 7
            assert [message.content for message in queue.receive_messages()] == ["message"]


def test_what_it_acknowledged_under_load_is_there_after_a_crash(tmp_path: Path) -> None:
    """What `make chaos` counts on; a save of all for each write would take too long there."""
    with Azurite.start(tmp_path / "data", crashes=True) as azurite:
        acknowledged: list[str] = []
        service = TableServiceClient.from_connection_string(azurite.connection_string, retry_total=0)
        with service, service.create_table("kept") as table, ThreadPoolExecutor() as threads:

            def write(start: int) -> None:
                with contextlib.suppress(AzureError):
                    for number in range(start, start + 1000):
                        table.create_entity({"PartitionKey": "p", "RowKey": str(number)})
                        acknowledged.append(str(number))

            writing = [threads.submit(write, start) for start in range(0, 4000, 1000)]
            while len(acknowledged) < 100:
                time.sleep(0.001)
            azurite.kill()
            wait(writing)
            azurite.start_again()
            there = {entity["RowKey"] for entity in table.list_entities()}
    assert there.issuperset(acknowledged)
    assert len(there) <= len(acknowledged) + 4, "one more for each thread, at the most"


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            Azurite.start(ports=Ports(queue=port))
    assert caught.value.port == port

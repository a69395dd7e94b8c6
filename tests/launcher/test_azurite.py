"""Azurite as the tests and `make run` use it: the real one."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from azure.data.tables import TableClient
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


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            Azurite.start(ports=Ports(queue=port))
    assert caught.value.port == port

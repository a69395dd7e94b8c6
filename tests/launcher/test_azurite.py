"""Azurite as the tests and `make run` use it: the real one."""

import socket
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from devtools.azurite import Azurite, Ports, PortTakenError


def _blobs(azurite: Azurite) -> BlobServiceClient:
    return BlobServiceClient.from_connection_string(azurite.connection_string)


def test_serves_on_ports_it_chose_itself_and_ends_with_its_context() -> None:
    with Azurite.start() as azurite, _blobs(azurite) as client:
        client.create_container("first")
        assert [container.name for container in client.list_containers()] == ["first"]
    assert azurite.process.poll() is not None


def test_starts_again_on_the_same_ports_and_data(tmp_path: Path) -> None:
    with Azurite.start(tmp_path / "data") as azurite, _blobs(azurite) as client:
        client.create_container("kept").upload_blob("b", b"bytes")
        azurite.stop()
        azurite.start_again()
        assert client.get_blob_client("kept", "b").download_blob().readall() == b"bytes"


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            Azurite.start(ports=Ports(queue=port))
    assert caught.value.port == port

"""HTTP written by hand, for requests that no HTTP library would send."""

import socket
from dataclasses import dataclass, field

import httptools


@dataclass
class Answer:
    """One response. It is filled in as its bytes come."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class _Parser:
    """What httptools tells, as answers."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.whole: list[Answer] = []
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answers[-1].headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].body += body

    def on_message_complete(self) -> None:
        if self.answers[-1].status >= 200:
            self.whole.append(self.answers[-1])


def request(method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    """The bytes of a request, with no more headers than are given."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body


def exchange(port: int, sent: bytes, *, most: int = 100, timeout: float = 10) -> list[Answer]:
    """Sends bytes to 127.0.0.1 and reads what comes back: so many final answers, or until the other side closes.

    Interim answers (100) are left out. Raises TimeoutError where nothing comes for so many seconds.
    """
    read = _Parser()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        try:
            connection.sendall(sent)
            while len(read.whole) < most and (received := connection.recv(65536)):
                read.parser.feed_data(received)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it had seen enough
    return [answer for answer in read.answers if answer.status >= 200]

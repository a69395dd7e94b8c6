"""The load generator: `python -m bench.load` reads a Load from standard input and prints a Measured, both JSON.

The rule: it is bounded by its number of calls, and costs less than anything it measures, which `cpu_s` shows. It is a
process of its own, so that its own work stands in nobody's way but the machine's.
"""

import asyncio
import re
import sys
import time
from collections.abc import Mapping

import httptools
import msgspec

_OK = 200
_CALL_TIMEOUT_S = 60.0
_READ_BYTES = 65_536
_CONTENT = re.compile(rb'"content": ?"[^"]')
"""A token in a stream; what comes before the first is the role, with empty content."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Calls to make: POST `body` to http://127.0.0.1:`port``path`, `calls` times over `connections`."""

    port: int
    path: str
    headers: Mapping[str, str]
    body: bytes
    connections: int
    calls: int
    ramp_s: float = 0.0


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of times in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a Load. Times from the first byte sent; those of failed calls are left out."""

    calls: int
    failed: int
    first_failure: str | None
    seconds: float
    cpu_s: float
    """The load generator's own; near `seconds`, it is what limits."""
    response_bytes: int
    """The longest body."""
    latency_ms: Percentiles | None
    """Until the last byte."""
    first_byte_ms: Percentiles | None
    first_token_ms: Percentiles | None
    longest_gap_ms: Percentiles | None
    """The longest silence between two reads of one body."""


class _Call:
    """One exchange, as httptools' parser tells of it."""

    def __init__(self) -> None:
        self.began = self.heard = time.perf_counter()
        self.first_byte: float | None = None
        self.first_token: float | None = None
        self.longest_gap = 0.0
        self.bytes = 0
        self.is_complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        now = time.perf_counter()
        self.bytes += len(body)
        if self.first_byte is None:
            self.first_byte = now
        else:
            self.longest_gap = max(self.longest_gap, now - self.heard)
        self.heard = now
        if self.first_token is None and _CONTENT.search(body):
            self.first_token = now

    def on_message_complete(self) -> None:
        self.heard = time.perf_counter()
        self.is_complete = True


class _Run:
    """All calls of one Load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._left = load.calls
        self.done: list[_Call] = []
        self.failures: list[str] = []
        lines = {"host": f"127.0.0.1:{load.port}", "content-length": str(len(load.body)), **load.headers}
        head = f"POST {load.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = head.encode() + b"\r\n" + load.body

    async def connection(self, number: int) -> None:
        """Calls for as long as there are some left; a connection that breaks is opened again."""
        await asyncio.sleep(self._load.ramp_s * number / self._load.connections)
        while self._left > 0:
            try:
                await self._calls_on_one()
            except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
                self.failures.append(repr(error))

    async def _calls_on_one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._load.port)
        try:
            keep_alive = True
            while keep_alive and self._left > 0:
                self._left -= 1
                async with asyncio.timeout(_CALL_TIMEOUT_S):
                    keep_alive = await self._call(reader, writer)
        finally:
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        call = _Call()
        writer.write(self._request)
        last = b""
        while not call.is_complete:
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the connection ended within an answer")
            call.parser.feed_data(data)
            last = data
        if call.parser.get_status_code() == _OK:
            self.done.append(call)
        else:
            self.failures.append(f"{call.parser.get_status_code()}: {last.rpartition(b'\r\n\r\n')[2][-300:]!r}")
        return bool(call.parser.should_keep_alive())


async def measure(load: Load) -> Measured:
    """Makes the calls."""
    run = _Run(load)
    began, cpu_began = time.perf_counter(), time.process_time()
    try:
        await asyncio.gather(*(run.connection(number) for number in range(load.connections)))
    except OSError as error:
        run.failures.append(repr(error))
    done = run.done
    return Measured(
        calls=len(done),
        failed=len(run.failures),
        first_failure=run.failures[0] if run.failures else None,
        seconds=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu_began,
        response_bytes=max((call.bytes for call in done), default=0),
        latency_ms=_percentiles([call.heard - call.began for call in done]),
        first_byte_ms=_percentiles([call.first_byte - call.began for call in done if call.first_byte]),
        first_token_ms=_percentiles([call.first_token - call.began for call in done if call.first_token]),
        longest_gap_ms=_percentiles([call.longest_gap for call in done]),
    )


def _percentiles(seconds: list[float]) -> Percentiles | None:
    """Each by nearest rank; None of nothing."""
    if not seconds:
        return None
    ms = sorted(1000 * each for each in seconds)

    def rank(share: float) -> float:
        return round(ms[min(len(ms) - 1, int(share * len(ms)))], 3)

    return Percentiles(p50=rank(0.50), p95=rank(0.95), p99=rank(0.99), max=round(ms[-1], 3))


def main() -> None:
    """Reads, calls, prints."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(load))))


if __name__ == "__main__":
    main()

"""Whatever a client sends: no defect of ours shows, no key gets anywhere, and what was not forwarded is nobody's usage."""

import contextlib
import hashlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables.aio import TableClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from devtools.simulator.account import fingerprint
from shared.core.api.operations import CATALOGUE
from shared.core.call_record import Outcome
from shared.core.headers import CREDENTIALS
from shared.core.money.ledger import UsageEntry
from shared.sinks.ledger import Ledger
from tests.e2e.conftest import SELDOM
from tests.e2e.raw_http import Answer, exchange, request
from tests.stack import ADMIN_KEY, APP, MODELS, UPSTREAM_KEY, Stack, running

CHAT = b"/v1/chat/completions"
GOOD = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
LIMIT = 1_000_000
GIGABYTE = 1 << 30
ABSURD_WAITS: dict[str, int | str] = {
    "negative": "-1",
    "zero": "0",
    "not a number": "NaN",
    "infinite": "inf",
    "thirty thousand years": 10**12,
    "endless digits": "9" * 400,
    "hexadecimal": "0x10",
    "words": "soon",
    "nothing": "",
    "a date long gone": "Thu, 01 Jan 1970 00:00:00 GMT",
    "a date far off": "Fri, 31 Dec 9999 23:59:59 GMT",
    "a date that is none": "Fri, 99 Foo 2026 99:99:99 GMT",
}
LEAK = re.compile(rb"Traceback|\.py\b|site-packages|/shared/|" + re.escape(str(APP).encode()))


@pytest.fixture(scope="module")
async def stack(anyio_backend: str, azurite: Azurite) -> AsyncIterator[Stack]:
    """An app of its own, that forwards what it can: every call that reaches its upstream is one of ours."""
    models = (*MODELS, *(f"wait-{index}" for index in range(len(ABSURD_WAITS))))
    document = {"deployments": [{"name": model, "model": model, "upstream": "simulator"} for model in models]}
    environment = {
        "TOLLGATE_ROLLUP_SCHEDULE": SELDOM,
        "TOLLGATE_UNKNOWN_OPERATIONS": "forward",
        "TOLLGATE_MAX_REQUEST_BYTES": str(LIMIT),
        "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": str(2 * GIGABYTE),  # so that the host leaves it to us
    }
    with Simulator.start() as simulator:
        async with running(azurite, simulator, "hostile", document, **environment) as started:
            yield started


def ask(
    stack: Stack,
    *,
    method: str = "POST",
    target: bytes = CHAT,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = GOOD,
) -> Answer:
    """Sends one well-formed request, with the client's key; `headers` come last."""
    own = [(b"Host", b"gateway.example"), (b"Api-Key", stack.key().encode()), (b"Connection", b"close")]
    length = [(b"Content-Length", str(len(body)).encode())]
    sent = request(method, target, [*own, *length, *(headers or [])], body)
    most = 2 if method == "HEAD" else 1  # whose answer has a length and no body: it ends with the connection
    [answer] = exchange(stack.host.port, sent, most=most)
    return answer


def is_told_well(answer: Answer, method: str = "POST") -> None:
    """Holds an answer to what every answer of this API is."""
    assert answer.status != 500, answer.body
    assert not LEAK.search(answer.body)
    for secret in (UPSTREAM_KEY, ADMIN_KEY):
        assert secret.encode() not in answer.body
    if answer.status >= 400 and method != "HEAD":
        assert answer.header("content-type") == "application/json"
        assert json.loads(answer.body)["error"]["message"]


FUZZ = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
WORDS = sorted({word for operation in CATALOGUE for word in operation.path.split("/") if "{" not in word})
ODD_SEGMENTS = (
    *(".", "..", "%2e%2e", "%2E.", "%2f", "..%2f..%2fmanage", "%5c..%5c", "\\..\\", "%00", "a%00b", "%0d%0aX-A:%20b", "%ff"),
    *("%c0%ae%c0%ae", "%E2%80%AE", "%ud800", "%", "%zz", ";x=1", "*", "~", "'--", "{}", "$where", "__proto__", "", " ".strip()),
    *("x" * 300, "%41" * 2000, "file-abc123XYZ", "resp_0123456789", "gpt-4o", "deployments", "manage", "admin", "tg-00000000-x"),
)  # fmt: skip
SEGMENTS = st.sampled_from(WORDS) | st.sampled_from(ODD_SEGMENTS) | st.from_regex(r"[!-~]{1,12}", fullmatch=True)
PREFIXES = st.sampled_from(["/v1/", "/openai/", "/openai/v1/", "/openai/deployments/", "/V1/"])
NAMES = st.sampled_from(
    ["api-version", "API%2dVersion", "api-key", "code", "after", "limit", "include[]", "", "%00", "x"]
)
VALUES = st.sampled_from(["", "1", "-1", "2024-10-21", "%0d%0a", "%ff", "..%2f", "tg-secret", "=", "%", "y" * 3000])
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
ODD_HEADERS = st.sampled_from(
    [
        (b"X-Forwarded-For", b"1.2.3.4, ::1, [::1]:80, evil"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Forwarded-Proto", b"gopher"),
        (b"Forwarded", b"for=evil"),
        (b"X-Original-URL", b"/manage/clients"),
        (b"Connection", b"api-key, authorization, x-forwarded-for"),
        (b"X-MS-Invocation-Id", b"00000000-0000-0000-0000-000000000000"),
        (b"X-MS-Spillover-Deployment", b"someone-elses"),
        (b"X-MS-Client-Principal", b"eyJhdXRoX3R5cCI6ImFhZCJ9"),
        (b"X-MS-Client-Principal-Id", b"admin"),
        (b"Upgrade", b"websocket"),
        (b"Upgrade", b"h2c"),
        (b"Expect", b"100-continue"),
        (b"Expect", b"200-maybe"),
        (b"TE", b"trailers, deflate;q=0.5"),
        (b"Trailer", b"Api-Key"),
        (b"Authorization", b"Bearer tg-00000000-" + b"x" * 43),
        (b"Authorization", b"Basic " + b"A" * 5000),
        (b"Authorization", b"Bearer \xff\xfe"),
        (b"Authorization", b"Bearer eyJhbGciOiJub25lIn0.e30."),
        (b"Cookie", b"session=secret"),
        (b"Content-Type", b"text/plain"),
        (b"Content-Type", b"multipart/form-data; boundary=" + b"(" * 70),
        (b"Content-Type", b'multipart/form-data; boundary="'),
        (b"Content-Type", b"\xff"),
        (b"Content-Encoding", b"gzip"),
        (b"Accept-Encoding", b"gzip;q=0, br, \xe9"),
        (b"Accept", b"../../etc/passwd"),
        (b"Traceparent", b"00-" + b"0" * 32 + b"-x-y"),
        (b"X-Odd", b"\xe9\xff"),
        (b"X-Empty", b""),
        (b"X-Long", b"x" * 30_000),
        (b"OpenAI-Organization", b"org-\x80"),
    ]
)
ANY_HEADERS = st.tuples(
    st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,30}", fullmatch=True).filter(
        lambda name: name.lower() not in (b"content-length", b"transfer-encoding", b"connection", b"host", b"api-key")
    ),
    st.lists(st.integers(0x20, 0xFF).filter(lambda byte: byte != 0x7F), max_size=40).map(bytes),  # what HTTP allows
)
ODD_JSON = st.sampled_from(
    [
        *(b"null", b"true", b"0", b"-1", b"1e999", b"9" * 5000, b"0.1e-400", b'""', b"[]", b"{}", b"NaN", b"[[[[[[]]]]]]"),
        *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff"', b'"\x00"', b'"\xef\xbf\xbe"', b'"x', b"'x'", b"[1,]"),
        *(b"[" * 100_000, b"[" * 400 + b"]" * 400, b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b'{"__proto__":{"x":1}}'),
        *(b'[{"type":"item_reference","id":"msg_0123456789abcdef0"}]', b'[{"id":7},{"type":"reasoning","id":"rs_1"},null]'),
        *(b'{"include_usage":"yes"}', b'{"include_usage":true,"include_usage":null}', b'"\\u0066ile-abc123"'),
    ]
)  # fmt: skip
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "stream",
        "stream_options",
        "store",
        "user",
        "n",
        "max_tokens",
        "input",
        "items",
        "file_ids",
        "previous_response_id",
        "mod\\u0065l",
        "x",
        "",
    ]
)
FORM = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
ODD_HEADS = st.lists(
    st.sampled_from(
        [
            *(
                b"Content-Disposition: form-data",
                b"content-disposition:",
                b"; name=model",
                b'; Name="model"',
                b'; name="file"',
            ),
            *(
                b"; name*=utf-8''model",
                b'; filename="a\\"b"',
                b'"',
                b";",
                b"\r\n",
                b"\n",
                b"\r\n ",
                b"\r",
                b"\0",
                b"\xff",
            ),
            *(b"\r\nContent-Type: text/plain; charset=utf-16", b"\r\nContent-Transfer-Encoding: base64", b"--b", b" "),
        ]
    ),
    max_size=8,
).map(b"".join)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.tuples(FIELDS, ODD_JSON), max_size=4).map(
        lambda odd: b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in odd) + b"}"
    ),
    st.tuples(FIELDS, ODD_JSON).map(lambda odd: GOOD[:-1] + b',"%b":%b}' % (odd[0].encode(), odd[1])),
    st.tuples(FIELDS, ODD_JSON).map(lambda odd: b'{"%b":%b,' % (odd[0].encode(), odd[1]) + GOOD[1:]),
    st.lists(st.tuples(FIELDS, ODD_JSON), max_size=4).map(
        lambda odd: b"".join(FORM % (name.encode(), value[:5000]) for name, value in odd) + b"--b--\r\n"
    ),
    st.lists(st.tuples(ODD_HEADS, ODD_JSON), min_size=1, max_size=3).map(
        lambda odd: b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % (head, value[:100]) for head, value in odd) + b"--b--\r\n"
    ),
    st.sampled_from([b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), GOOD + GOOD, GOOD + b"\0", b"\0" * 1000]),
)


def test_a_line_end_in_a_path_strands_no_invocation(stack: Stack) -> None:
    """One that waits for ever ends the worker process once functionTimeout is over, and nobody needs a key for that."""
    for path in (b"/v1/%0A", b"/v1/a%0D%0Ab", b"/openai/%0a", b"/manage/clients/%0A", b"/calls/%0A"):
        answer = ask(stack, method="GET", target=path, body=b"")
        assert answer.status in {400, 401, 404}
        is_told_well(answer)


@FUZZ
@given(METHODS, PREFIXES, st.lists(SEGMENTS, min_size=1, max_size=6), st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_any_url_gets_an_answer_in_openais_shape(
    stack: Stack, method: str, prefix: str, segments: list[str], query: list[tuple[str, str]]
) -> None:
    path = prefix + "/".join(segments).replace("?", "").replace("#", "")
    target = path + "?" + "&".join(f"{name}={value}" for name, value in query)
    answer = ask(stack, method=method, target=target.encode(), body=b"" if method in {"GET", "HEAD"} else GOOD)
    is_told_well(answer, method)


@FUZZ
@given(st.sampled_from([operation for operation in CATALOGUE if operation.method == "POST"]), BODIES, st.booleans())
def test_any_body_gets_an_answer_in_openais_shape(stack: Stack, operation: Any, body: bytes, is_form: bool) -> None:
    path = re.sub(r"\{.*?\}", "file-abc123XYZ", operation.path)
    types = [(b"Content-Type", b"multipart/form-data; boundary=b" if is_form else b"application/json")]
    is_told_well(ask(stack, target=b"/v1/" + path.encode(), headers=types, body=body))


@FUZZ
@given(st.sampled_from([("PUT", b"clients/odd"), ("POST", b"clients/team-a/keys")]), BODIES)
def test_any_body_of_an_administrator_is_told_what_is_wrong(stack: Stack, call: tuple[str, bytes], body: bytes) -> None:
    method, path = call
    admin = [(b"Authorization", b"Bearer " + ADMIN_KEY.encode())]
    is_told_well(ask(stack, method=method, target=b"/manage/" + path, headers=admin, body=body))


@FUZZ
@given(st.lists(ODD_HEADERS | ANY_HEADERS, min_size=1, max_size=4))
def test_any_headers_get_an_answer_in_openais_shape(stack: Stack, headers: list[tuple[bytes, bytes]]) -> None:
    is_told_well(ask(stack, headers=headers))


SMUGGLED = request(
    "POST",
    CHAT,
    [(b"Host", b"x"), (b"X-MS-Client-Request-Id", b"smuggled"), (b"Content-Length", str(len(GOOD)).encode())],
    GOOD,
)
LENGTH = b"Content-Length: %d\r\n" % len(GOOD)
SMUGGLING = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "both lengths, the other first": b"Transfer-Encoding: chunked\r\nContent-Length: 400\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": LENGTH + b"Content-Length: 0\r\n\r\n" + GOOD + SMUGGLED,
    "a list of lengths": b"Content-Length: %d, 0\r\n\r\n" % len(GOOD) + GOOD + SMUGGLED,
    "a length with a sign": b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "a length in hexadecimal": b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "an endless length": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + GOOD,
    "a coding that is none": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked, but not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space before the colon": b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n" + GOOD + SMUGGLED,
    "a folded line": b"X-A: b\r\n Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + GOOD + SMUGGLED,
    "a bare line feed in a value": LENGTH + b"X-A: b\nX-MS-Client-Request-Id: smuggled\r\n\r\n" + GOOD,
    "a bare carriage return in a value": LENGTH + b"X-A: b\rX-MS-Client-Request-Id: smuggled\r\n\r\n" + GOOD,
    "a NUL in a value": LENGTH + b"X-A: b\0X-MS-Client-Request-Id: smuggled\r\n\r\n" + GOOD,
    "a chunk size that is none": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + GOOD + SMUGGLED,
    "an endless chunk size": b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n" + GOOD,
}  # fmt: skip


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_no_second_request_hides_in_the_first(stack: Stack, rest: bytes) -> None:
    """The host's HTTP server refuses most of these before us, in plain text; none may get to an upstream as another call."""
    own = b"POST %b HTTP/1.1\r\nHost: x\r\nApi-Key: %b\r\nConnection: close\r\n" % (CHAT, stack.key().encode())
    for answer in exchange(stack.host.port, own + rest):
        assert answer.status != 500
        assert not LEAK.search(answer.body)
    assert "smuggled" not in {entry.client_request_id for entry in stack.simulator.calls()}


NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 400,
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method that is none": b"BREW /v1/models HTTP/1.1\r\n\r\n",
    "an endless URL": b"GET /v1/" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a URL that is no text": b"GET /v1/\xe4\xb8\x96\0 HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_is_refused(stack: Stack, sent: bytes) -> None:
    for answer in exchange(stack.host.port, sent):
        assert 400 <= answer.status < 500
        assert not LEAK.search(answer.body)


@pytest.mark.parametrize("index", range(len(ABSURD_WAITS)), ids=ABSURD_WAITS.keys())
def test_an_absurd_retry_after_becomes_a_sensible_one(stack: Stack, index: int) -> None:
    wait = list(ABSURD_WAITS.values())[index]
    stack.simulator.set_fault(f"wait-{index}", Fault(status=429, retry_after=wait, times=1))
    body = GOOD.replace(b"gpt-4o", b"wait-%d" % index)
    for _ in range(2):  # the second finds the deployment out, or well
        answer = ask(stack, body=body)
        is_told_well(answer)
        assert answer.status in {200, 429}
        if answer.status == 429:
            assert 1 <= int(answer.header("retry-after") or "") <= 60


@contextlib.contextmanager
def connected(stack: Stack, headers: bytes) -> Iterator[socket.socket]:
    """A request to chat completions whose body is still to be sent."""
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nApi-Key: %b\r\n%b\r\n" % (CHAT, stack.key().encode(), headers)
    with socket.create_connection(("127.0.0.1", stack.host.port), timeout=20) as connection:
        connection.sendall(head)
        yield connection


def resident_mb(pid: int) -> float:
    """What a process has in memory."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def test_a_gigabyte_is_refused_without_being_held(stack: Stack) -> None:
    ask(stack)
    pid = await stack.host.worker_pid()
    before = most = resident_mb(pid)
    piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with connected(stack, b"Transfer-Encoding: chunked\r\n") as connection:
        try:
            for _ in range(GIGABYTE >> 20):  # all of it, whatever is answered meanwhile
                connection.sendall(piece)
                most = max(most, resident_mb(pid))
            told = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            told = b""  # it would not take more
    assert most - before < 64
    assert not told or told.startswith(b"HTTP/1.1 413 ")
    assert ask(stack).status == 200


def test_a_body_that_says_that_it_is_a_gigabyte_is_not_waited_for(stack: Stack) -> None:
    with connected(stack, b"Content-Length: %d\r\n" % GIGABYTE) as connection:
        connection.sendall(b"{")
        told = connection.recv(65536)
        while not told.endswith(b"}}"):  # head and body may come apart
            more = connection.recv(65536)
            assert more, told
            told += more
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in told


def test_bodies_that_come_a_byte_at_a_time_do_not_hold_up_others(stack: Stack) -> None:
    with contextlib.ExitStack() as open_ones:
        slow = [open_ones.enter_context(connected(stack, LENGTH)) for _ in range(100)]
        slowest = 0.0
        for sent in range(10):
            for connection in slow:
                connection.sendall(GOOD[sent : sent + 1])
            began = time.monotonic()
            assert ask(stack).status == 200
            slowest = max(slowest, time.monotonic() - began)
        for connection in slow:
            connection.sendall(GOOD[10:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert slowest < 5


async def test_half_a_surrogate_pair_reaches_the_upstream_as_it_came(stack: Stack) -> None:
    body = GOOD.replace(b"hi", b"\\ud83d half an emoji")
    is_told_well(ask(stack, body=body, headers=[(b"X-MS-Client-Request-Id", b"half")]))
    [entry] = [each for each in await stack.simulator.settled() if each.client_request_id == "half"]
    assert entry.body_sha256 == hashlib.sha256(body).hexdigest()


async def test_afterwards_no_key_is_in_the_log_or_at_the_upstream(stack: Stack) -> None:
    key = stack.key().encode()
    ask(
        stack, target=CHAT + b"?api-key=" + key + b"&code=query-secret", headers=[(b"Cookie", b"session=cookie-secret")]
    )
    ask(stack, target=b"/v1/files/" + key + b"?subscription-key=query-secret", method="GET", body=b"")
    ask(stack, headers=[(b"Authorization", b"Bearer tg-00000000-" + b"x" * 43)])
    entries = await stack.simulator.settled(1)
    names = {name for entry in entries for name in entry.header_names}
    assert not names & (CREDENTIALS - {"authorization"})
    assert not [name for name in names if name.startswith(("x-forwarded-", "x-ms-client-principal"))]
    assert not names & {
        "x-ms-invocation-id",
        "x-ms-spillover-deployment",
        "forwarded",
        "x-original-url",
        "upgrade",
        "te",
    }
    assert {entry.key_fingerprint for entry in entries} == {fingerprint(UPSTREAM_KEY)}
    assert all(re.fullmatch(r"/r/default/v1(/[A-Za-z0-9_:-][A-Za-z0-9._:-]*)+", entry.path) for entry in entries)
    for secret in (stack.key(), UPSTREAM_KEY, ADMIN_KEY, "query-secret", "cookie-secret"):
        assert secret not in stack.host.log
    assert "Traceback" not in stack.host.log, stack.host.log[stack.host.log.index("Traceback") :][:4000]


async def test_afterwards_the_ledger_holds_what_was_forwarded_and_no_more(stack: Stack) -> None:
    ask(stack)
    ask(stack, body=b"{")
    forwarded = len(await stack.simulator.settled(1))
    entries: list[UsageEntry] = []
    table = TableClient.from_connection_string(stack.azurite.connection_string, f"{stack.prefix}Ledger")
    async with table:
        deadline = time.monotonic() + 30
        while True:
            hours = {row["PartitionKey"] async for row in table.list_entities(select=["PartitionKey"])} - {"dirty"}
            entries = [entry for hour in hours for entry in [each async for each in Ledger(table).entries(hour)]]
            attempts = sum(entry.attempt_count or 0 for entry in entries)
            if (attempts >= forwarded and all(entry.outcome for entry in entries)) or time.monotonic() > deadline:
                break
    assert attempts == forwarded
    assert {entry.outcome for entry in entries if not entry.attempt_count} <= {Outcome.REJECTED}
    assert all(entry.attempt_count == 1 for entry in entries if entry.outcome is not Outcome.REJECTED)

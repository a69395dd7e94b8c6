"""What upstreams are shown, with an endpoint of a managed identity that runs here and the real azure-identity."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError

from shared.core.configuration import Upstream, UpstreamAuth, UpstreamKind
from shared.credentials import Credentials, _Source
from shared.gateway.upstream import UpstreamError
from tests.entra import IdentityEndpoint
from tests.examples import NOON

AZURE = "https://cognitiveservices.azure.com"


def upstream(**fields: str) -> Upstream:
    return Upstream(name="u", kind=UpstreamKind.AZURE, url="https://u.example", auth=UpstreamAuth.IDENTITY, **fields)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityEndpoint]:
    with IdentityEndpoint.start() as started:
        for name, value in started.settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        yield started


@pytest.fixture
async def credentials() -> AsyncIterator[Credentials]:
    made = Credentials(lambda: datetime.now(UTC))
    yield made
    await made.close()


async def test_a_key_is_shown_as_it_is() -> None:
    keyed = Upstream(name="u", kind=UpstreamKind.OPENAI, url="https://u.example", key="k")
    assert await Credentials(lambda: NOON).current(keyed) == "k"


async def test_each_identity_has_a_token_for_each_scope(endpoint: IdentityEndpoint, credentials: Credentials) -> None:
    for _ in range(2):
        assert await credentials.current(upstream()) == f"token-of-system-for-{AZURE}"
        other = upstream(identity_client_id="id-1", scope="https://ai.azure.com/.default")
        assert await credentials.current(other) == "token-of-id-1-for-https://ai.azure.com"
    assert len(endpoint.asked) == 2


async def test_an_identity_that_is_refused_sends_nothing(endpoint: IdentityEndpoint, credentials: Credentials) -> None:
    endpoint.refuses = lambda query: query.get("client_id") == "stranger"
    for _ in range(2):
        with pytest.raises(UpstreamError, match=r"^no token: ") as caught:
            await credentials.current(upstream(identity_client_id="stranger"))
        assert not caught.value.sent
        assert "\n" not in caught.value.reason
    assert await credentials.current(upstream())


class Issued:
    """A credential whose answers a test decides."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.at = NOON
        self.lasts = timedelta(hours=1)
        self.refresh_after: timedelta | None = None
        self.is_away = False

    def now(self) -> datetime:
        return self.at

    async def get_token_info(self, *_scopes: str, **_options: object) -> AccessTokenInfo:
        self.asked += 1
        await self.gate.wait()
        if self.is_away:
            raise ClientAuthenticationError("away\nand more")
        refresh_on = int((self.at + self.refresh_after).timestamp()) if self.refresh_after else None
        return AccessTokenInfo(f"token-{self.asked}", int((self.at + self.lasts).timestamp()), refresh_on=refresh_on)


@pytest.fixture
def issued() -> Issued:
    return Issued()


@pytest.fixture
def source(issued: Issued) -> _Source:
    return _Source(issued, "scope", issued.now)  # type: ignore[arg-type]


async def settled() -> None:
    """Lets what is under way come to its end: none of it waits for anything outside."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_at_once_share_one_fetch(issued: Issued, source: _Source) -> None:
    issued.gate.clear()
    callers = [asyncio.create_task(source.current()) for _ in range(20)]
    await settled()
    callers[0].cancel()  # a client that hangs up
    issued.gate.set()
    assert await asyncio.gather(*callers[1:]) == ["token-1"] * 19
    assert issued.asked == 1


async def test_a_token_is_replaced_ahead_and_nobody_waits(issued: Issued, source: _Source) -> None:
    await source.current()
    issued.at += timedelta(minutes=56)
    issued.gate.clear()
    assert [await source.current() for _ in range(5)] == ["token-1"] * 5
    await settled()
    assert issued.asked == 2
    issued.gate.set()
    await settled()
    assert await source.current() == "token-2"


async def test_a_token_is_replaced_when_its_issuer_says_so(issued: Issued, source: _Source) -> None:
    issued.lasts, issued.refresh_after = timedelta(hours=24), timedelta(hours=12)
    await source.current()
    issued.at += timedelta(hours=11)
    await source.current()
    await settled()
    assert issued.asked == 1
    issued.at += timedelta(hours=2)
    await source.current()
    await settled()
    assert await source.current() == "token-2"


async def test_a_token_that_cannot_be_replaced_is_shown_while_it_holds(issued: Issued, source: _Source) -> None:
    await source.current()
    issued.is_away = True
    issued.at += timedelta(minutes=56)
    for _ in range(5):
        assert await source.current() == "token-1"
        await settled()
    assert issued.asked == 2  # not again within the pause
    issued.at += timedelta(seconds=31)
    await source.current()
    await settled()
    assert issued.asked == 3
    issued.at += timedelta(minutes=4)
    with pytest.raises(UpstreamError, match=r"^no token: ClientAuthenticationError: away$"):
        await source.current()
    issued.is_away = False
    assert await source.current() == "token-5"


async def test_an_endpoint_that_does_not_answer_is_given_up(
    issued: Issued, source: _Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.credentials._TIMEOUT_S", 0.01)
    issued.gate.clear()
    with pytest.raises(UpstreamError, match=r"^no token: TimeoutError$") as caught:
        await source.current()
    assert not caught.value.sent

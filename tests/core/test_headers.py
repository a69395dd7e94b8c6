"""Which headers travel on."""

import pytest

from shared.core.headers import CREDENTIALS, HOP_BY_HOP, RECORDED, for_client, for_record, for_upstream, get

DROPPED_ON_THE_WAY_UP = [
    *HOP_BY_HOP,
    *CREDENTIALS,
    "host",
    "content-length",
    "accept-encoding",
    "expect",
    "x-forwarded-for",
    "x-forwarded-host",
    "forwarded",
    "x-arr-ssl",
    "x-azure-socketip",
    "x-azure-fdid",
    "client-ip",
    "x-appservice-proto",
    "x-site-deployment-id",
    "x-waws-unencoded-url",
    "x-original-url",
    "was-default-hostname",
    "disguised-host",
    "max-forwards",
    "x-ms-invocation-id",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-token-aad-id-token",
    "x-ms-spillover-deployment",
]
PASSED_UP = [
    "content-type",
    "user-agent",
    "openai-organization",
    "x-stainless-lang",
    "traceparent",
    "x-ms-client-request-id",
]
DROPPED_ON_THE_WAY_DOWN = [*HOP_BY_HOP, "content-length", "date", "server", "set-cookie"]
PASSED_DOWN = ["content-type", "content-encoding", "x-request-id", "retry-after-ms", "x-ratelimit-remaining-tokens"]


@pytest.mark.parametrize("name", sorted(DROPPED_ON_THE_WAY_UP))
def test_what_ends_at_the_gateway(name: str) -> None:
    assert for_upstream(((name, "x"), ("x-kept", "1"))) == (("x-kept", "1"),)


@pytest.mark.parametrize("name", sorted(PASSED_UP))
def test_what_a_client_sends_reaches_the_upstream(name: str) -> None:
    assert for_upstream(((name, "x"),)) == ((name, "x"),)


@pytest.mark.parametrize("name", sorted(DROPPED_ON_THE_WAY_DOWN))
def test_what_an_upstream_says_to_its_neighbour_only(name: str) -> None:
    assert for_client(((name, "x"), ("x-kept", "1"))) == (("x-kept", "1"),)


@pytest.mark.parametrize("name", sorted(PASSED_DOWN))
def test_what_an_upstream_answers_reaches_the_client(name: str) -> None:
    assert for_client(((name, "x"),)) == ((name, "x"),)


@pytest.mark.parametrize("direction", [for_upstream, for_client])
def test_headers_that_connection_names_go_too(direction: object) -> None:
    assert callable(direction)
    headers = (
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("x-kept", "1"),
        ("connection", "x-other"),
        ("x-other", "2"),
    )
    assert direction(headers) == (("x-kept", "1"),)


def test_order_and_repetition_stay() -> None:
    headers = (("b", "1"), ("a", "2"), ("b", "3"), ("b", "1"))
    assert for_upstream(headers) == for_client(headers) == headers
    assert get(headers, "b") == "1"
    assert get(headers, "c") is None


def test_only_listed_response_headers_are_recorded() -> None:
    """Guards that what an upstream might say of a secret is not kept."""
    headers = tuple((name, "x") for name in [*CREDENTIALS, "set-cookie", "x-new", *RECORDED])
    assert for_record(headers).keys() == RECORDED
    assert not RECORDED & (CREDENTIALS | {"set-cookie", "www-authenticate"})

"""Which headers travel on, which are ours alone, and which are kept.

Rule: what a client sends reaches the upstream, and what the upstream answers reaches the client, but for what HTTP says
is between two neighbours (RFC 9110 §7.6.1), credentials, and what a proxy in front of us added.
"""

from collections.abc import Iterable, Mapping
from math import ceil

type Headers = tuple[tuple[str, str], ...]
"""Header lines in order; names in lower case; a name may stand more than once."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

CREDENTIALS = frozenset({"authorization", "api-key", "cookie", "ocp-apim-subscription-key", "x-functions-key"})
"""A client's own secrets. They end here."""

CREDENTIAL_PARAMETERS = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "code", "key", "subscription-key", "token"}
)
"""Under which names keys are put into queries, in lower case. Ours is not looked for there; a client may send it all the same."""

IMAGE_MODEL = "x-ms-oai-image-generation-deployment"
"""Which model draws for a response, in Azure's words; a client says it in ours."""

_OURS_IN_REQUESTS = frozenset(
    {
        "host",
        "content-length",  # the body may be rewritten
        "accept-encoding",  # chosen by what the usage reader can read
        "expect",
        "forwarded",
        "x-ms-invocation-id",  # the Functions host's
        "x-ms-spillover-deployment",  # would let a client choose another client's capacity
        "client-ip",
        "x-client-ip",
        "x-client-port",
        "x-original-url",
        "disguised-host",
        "was-default-hostname",
        "max-forwards",
    }
)
_OURS_BY_PREFIX = (
    "x-forwarded-",
    "x-tollgate-",
    "x-arr-",
    "x-azure-",  # Front Door's: its id would let others pass for it
    "x-appservice-",
    "x-site-",
    "x-waws-",
    "x-ms-client-principal",
    "x-ms-token-",
)

_OURS_IN_RESPONSES = frozenset({"content-length", "date", "server", "set-cookie"})

RECORDED = frozenset(
    {
        "apim-request-id",
        "azureml-model-group",
        "azureml-model-session",
        "ms-azureml-model-error-reason",
        "ms-azureml-model-error-statuscode",
        "azure-openai-deployment-utilization",
        "openai-model",
        "openai-organization",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "x-envoy-upstream-service-time",
        "x-ms-client-request-id",
        "x-ms-deployment-name",
        "x-ms-is-spilled-over",
        "x-ms-rai-invoked",
        "x-ms-region",
        "x-ms-request-id",
        "x-ms-retry-after-ms",
        "x-ms-spillover-error",
        "x-ms-spillover-from-deployment",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
        "x-request-id",
    }
)
"""An upstream's answers about itself: the only response headers that a call record keeps."""


def get(headers: Headers, name: str) -> str | None:
    """The first value of `name` (lower case), or None."""
    return next((value for header, value in headers if header == name), None)


def for_upstream(headers: Headers) -> Headers:
    """A client's headers as an upstream may see them; the upstream's own credential is added elsewhere."""
    dropped = HOP_BY_HOP | CREDENTIALS | _OURS_IN_REQUESTS | _named_by_connection(headers)
    return tuple(
        (name, value) for name, value in headers if name not in dropped and not name.startswith(_OURS_BY_PREFIX)
    )


def for_client(headers: Headers) -> Headers:
    """An upstream's headers as a client may see them."""
    dropped = HOP_BY_HOP | _OURS_IN_RESPONSES | _named_by_connection(headers)
    return tuple((name, value) for name, value in headers if name not in dropped)


def with_limits(headers: Headers, own: Headers) -> Headers:
    """The headers with the client's `own` rate limits, where it has any, in place of the upstream's."""
    if not own:
        return headers
    return (*((name, value) for name, value in headers if not name.startswith("x-ratelimit-")), *own)


def with_retry_after(headers: Headers, seconds: float) -> Headers:
    """The headers with another Retry-After."""
    stated = {"retry-after", "retry-after-ms", "x-ms-retry-after-ms"}
    return (*((name, value) for name, value in headers if name not in stated), ("retry-after", str(ceil(seconds))))


def for_record(headers: Headers) -> dict[str, str]:
    """The part of an upstream's headers that a call record keeps."""
    return {name: value for name, value in headers if name in RECORDED}


def _named_by_connection(headers: Headers) -> frozenset[str]:
    return frozenset(_tokens(value for name, value in headers if name == "connection"))


def _tokens(values: Iterable[str]) -> Iterable[str]:
    return (token.strip().lower() for value in values for token in value.split(","))


def is_spilled_over(recorded: Mapping[str, str]) -> bool:
    """Whether Azure served it beside the provisioned deployment that was asked, for want of capacity."""
    told = recorded.get("x-ms-is-spilled-over", "").lower()
    return told == "true" or (not told and "x-ms-spillover-from-deployment" in recorded)

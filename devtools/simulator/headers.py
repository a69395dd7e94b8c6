"""The response headers of each family, as seen on the real services."""

from devtools.simulator.faults import Fault
from devtools.simulator.routes import Route

type Headers = list[tuple[bytes, bytes]]

_REQUESTS_LIMIT, _TOKENS_LIMIT = 10_000, 2_000_000
_AZURE = [
    (b"azureml-model-session", b"d033-20251104152730"),
    (b"x-ms-rai-invoked", b"true"),
    (b"x-envoy-upstream-service-time", b"12"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"x-content-type-options", b"nosniff"),
]
_OPENAI = [
    (b"openai-organization", b"org-simulator"),
    (b"openai-version", b"2020-10-01"),
    (b"openai-processing-ms", b"12"),
    (b"x-envoy-upstream-service-time", b"14"),
    (b"cf-cache-status", b"DYNAMIC"),
]


def response_headers(
    route: Route, request_id: str, client_request_id: str | None, deployment: str, cost: int, fault: Fault
) -> Headers:
    """Returns the headers of an answer, but for the content's own.

    `cost` is what the rate limit takes off in advance: the prompt's tokens and the most that may be generated.
    """
    headers = [(b"x-request-id", request_id.encode()), *_rate_limits(cost, fault), *_retry(fault)]
    if not route.is_azure:
        return headers + _OPENAI
    headers += _AZURE
    headers.append((b"apim-request-id", request_id.encode()))
    headers.append((b"x-ms-region", route.resource.encode()))
    if client_request_id is not None:
        headers.append((b"x-ms-client-request-id", client_request_id.encode("latin-1", "replace")))
    if deployment:
        headers.append((b"x-ms-deployment-name", (fault.spillover or deployment).encode("latin-1", "replace")))
    if fault.spillover is not None:
        headers.append((b"x-ms-is-spilled-over", b"true"))
        headers.append((b"x-ms-spillover-from-deployment", deployment.encode("latin-1", "replace")))
    return headers


def _rate_limits(cost: int, fault: Fault) -> Headers:
    if fault.ratelimit == "absent":
        return []
    spent = fault.status == 429
    values = {
        b"limit-requests": _REQUESTS_LIMIT,
        b"remaining-requests": 0 if spent else _REQUESTS_LIMIT - 1,
        b"reset-requests": "6ms",
        b"limit-tokens": _TOKENS_LIMIT,
        b"remaining-tokens": 0 if spent else max(0, _TOKENS_LIMIT - cost),
        b"reset-tokens": "30ms",
    }
    return [(b"x-ratelimit-" + name, str(fault.ratelimit or value).encode()) for name, value in values.items()]


def _retry(fault: Fault) -> Headers:
    headers: Headers = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    if fault.retry_after_ms is not None:
        headers.append((b"retry-after-ms", str(fault.retry_after_ms).encode()))
        headers.append((b"x-ms-retry-after-ms", str(fault.retry_after_ms).encode()))
    return headers

"""What can go wrong with a call, and how a client is told.

GatewayError
├── BadRequest            400  the request cannot be understood
├── Unauthenticated       401  no key, or none that we know
├── PermissionDenied      403  known, but not allowed this
├── BudgetExhausted       403  the client's budget of the month does not cover this
├── NotFound              404  no such URL, model or object
├── UnknownOperation      404  the catalogue does not know it, and it is not to be forwarded
├── MethodNotAllowed      405  right URL, wrong method
├── RequestTimeout        408  the request body did not come in time
├── Conflict              409  the thing's state does not allow this
├── PreconditionFailed    412  the thing is not as If-Match or If-None-Match supposes
├── PayloadTooLarge       413  more than the configured limit
├── RateLimited           429  more requests than the client may make in a minute
├── TokenRateLimited      429  more tokens than the client may use in a minute
├── ClientGone            499  nobody is there any more to be told (as nginx has it)
├── NotSupported          501  nothing that this gateway can do
├── UpstreamFailed        502  a deployment gave no usable answer
├── NotReady              503  the gateway's own configuration or storage is at fault
└── NoDeploymentAvailable 503  every deployment that could serve the model is out

Rule: every error has OpenAI's shape (https://platform.openai.com/docs/guides/error-codes) and a message that says what
to do. Nothing secret goes into a message: clients see it as it is.
"""

from typing import ClassVar, override

import msgspec


class GatewayError(Exception):
    """The base of what a client can be told. `code` and `param` are OpenAI's fields; `retry_after_s` becomes a header."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s

    @override
    def __str__(self) -> str:
        return self.message


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class Unauthenticated(GatewayError):
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class PermissionDenied(GatewayError):
    status = 403
    type = "invalid_request_error"


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"


class UnknownOperation(GatewayError):
    status = 404
    type = "invalid_request_error"
    default_code = "unknown_url"


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_supported"


class RequestTimeout(GatewayError):
    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class Conflict(GatewayError):
    status = 409
    type = "invalid_request_error"


class PreconditionFailed(GatewayError):
    status = 412
    type = "invalid_request_error"


class PayloadTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class RateLimited(GatewayError):
    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"


class TokenRateLimited(GatewayError):
    status = 429
    type = "tokens"
    default_code = "rate_limit_exceeded"


class BudgetExhausted(GatewayError):
    status = 403
    type = "insufficient_quota"
    default_code = "insufficient_quota"


class ClientGone(GatewayError):
    status = 499
    type = "invalid_request_error"
    default_code = "client_closed_request"


class NotSupported(GatewayError):
    status = 501
    default_code = "not_supported"


class UpstreamFailed(GatewayError):
    status = 502
    default_code = "upstream_failed"


class NotReady(GatewayError):
    status = 503
    default_code = "gateway_not_ready"


class NoDeploymentAvailable(GatewayError):
    status = 503
    default_code = "no_deployment_available"


def is_rejection(error: GatewayError) -> bool:
    """Whether it is the call that is refused, and not the gateway that failed: somebody has to see that it was."""
    return error.status < 500 or isinstance(error, NotSupported)


class _Detail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Detail


def to_openai_json(error: GatewayError) -> bytes:
    """The error as OpenAI's `{"error": {"message", "type", "param", "code"}}`, UTF-8 JSON."""
    return msgspec.json.encode(_Envelope(_Detail(error.message, error.type, error.param, error.code)))

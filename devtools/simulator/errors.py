"""Errors as the providers word them.

Azure answers in two shapes: its own gateway's `{"error": {"code", "message"}}`, and the model's, which is OpenAI's.
Shapes: https://platform.openai.com/docs/guides/error-codes, https://learn.microsoft.com/azure/ai-services/openai/reference.
"""

from typing import Any

import msgspec


class ApiError(Exception):
    """A call that ends with an error status. `azure`, when given, is the code and message of Azure's gateway shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = "invalid_request_error",
        azure: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.openai_fields: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
        self.azure = azure

    def fields(self, *, is_azure: bool) -> dict[str, Any]:
        """Returns what stands in the answer under `error`."""
        if is_azure and self.azure is not None:
            return {"code": self.azure[0], "message": self.azure[1]}
        return self.openai_fields

    def body(self, *, is_azure: bool) -> bytes:
        """Returns the answer's JSON."""
        return msgspec.json.encode({"error": self.fields(is_azure=is_azure)})


_AZURE_401 = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)
_AZURE_404 = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_STATUS = {  # status -> OpenAI's type and code, Azure's code, message
    408: ("timeout", "timeout", "Timeout", "The operation was timeout."),
    409: ("conflict", "conflict", "Conflict", "The resource was changed by another request. Please retry."),
    429: (
        "requests",
        "rate_limit_exceeded",
        "429",
        "Rate limit reached: the requests have exceeded the token rate limit of this deployment. Please retry later.",
    ),
    500: ("server_error", None, "InternalServerError", "The server had an error while processing your request."),
    502: ("server_error", "bad_gateway", "BadGateway", "Bad gateway."),
    503: (
        "server_error",
        "overloaded",
        "ServiceUnavailable",
        "The engine is currently overloaded, please try again later.",
    ),
    504: ("server_error", "timeout", "GatewayTimeout", "The request timed out. Please try again."),
}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the model's server does not understand the request."""
    return ApiError(400, message, param=param, code=code)


def unauthorized() -> ApiError:
    """401: no key, or a wrong one."""
    return ApiError(401, "Incorrect API key provided.", code="invalid_api_key", azure=("401", _AZURE_401))


def unknown_url(method: str, path: str) -> ApiError:
    """404: there is no such operation; Azure also answers so when the api-version is missing."""
    return ApiError(404, f"Invalid URL ({method} {path})", azure=("404", "Resource not found"))


def no_model(model: str) -> ApiError:
    """404: no such deployment or model."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
        azure=("DeploymentNotFound", _AZURE_404),
    )


def no_object(what: str, object_id: str, param: str | None = None, code: str | None = None) -> ApiError:
    """404: this resource holds no such object."""
    return ApiError(404, f"{what} with id '{object_id}' not found.", param=param, code=code)


def status_error(status: int) -> ApiError:
    """The error that goes with a status on demand."""
    kind, code, azure_code, message = _STATUS.get(status, ("server_error", None, str(status), f"Status {status}."))
    return ApiError(status, message, code=code, kind=kind, azure=(azure_code, message))


def filtered_prompt() -> ApiError:
    """400: the content filter refused the prompt."""
    error = ApiError(400, _FILTERED, code="content_filter", param="prompt", kind=None)
    severities = {name: {"filtered": False, "severity": "safe"} for name in ("self_harm", "sexual", "violence")}
    error.openai_fields |= {
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": True, "severity": "high"},
                "jailbreak": {"filtered": False, "detected": False},
                **severities,
            },
        },
    }
    return error

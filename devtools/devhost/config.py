"""host.json and the app settings as values. The rule: only this module knows their keys and defaults.

https://learn.microsoft.com/azure/azure-functions/functions-host-json
"""

import hashlib
import json
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools import azurite

_SETTING = re.compile(r"%([^%\s]+)%")
_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)")
_DEV_STORAGE = azurite.connection_string(azurite.Ports(10000, 10001, 10002))
MAX_BODY_BYTES = 104_857_600


class ConfigError(Exception):
    """The app cannot be hosted as it is configured; the message is written for its developer."""


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """host.json `extensions.queues`; times in seconds."""

    base64: bool = True
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout_s: float = 0.0
    max_polling_interval_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class EventHubOptions:
    """host.json `extensions.eventHubs`."""

    max_batch_size: int = 100
    prefetch: int = 300
    checkpoint_every: int = 1
    from_end: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """Limits of a request (bytes, and seconds that it may stand still), and whether `/` shows a page."""

    max_body_bytes: int = MAX_BODY_BYTES
    idle_timeout_s: float = 240.0
    homepage: bool = True


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """What this host reads of host.json."""

    route_prefix: str = "api"
    function_timeout_s: float | None = 1800.0
    queues: QueueOptions = field(default_factory=QueueOptions)
    event_hubs: EventHubOptions = field(default_factory=EventHubOptions)


def read_host_json(app_dir: Path) -> HostConfig:
    """Raises ConfigError for a missing or unreadable file."""
    try:
        document = json.loads((app_dir / "host.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{app_dir / 'host.json'}: {error}") from error
    extensions = document.get("extensions", {})
    timeout = document.get("functionTimeout", "00:30:00")
    return HostConfig(
        route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
        function_timeout_s=None if timeout in ("-1", -1) else timespan(timeout),
        queues=_queue_options(extensions.get("queues", {})),
        event_hubs=_event_hub_options(extensions.get("eventHubs", {})),
    )


def read_http_options(settings: Mapping[str, str], idle_timeout_s: float) -> HttpOptions:
    """What the app settings say about HTTP. Raises ConfigError."""
    limit = settings.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT") or str(MAX_BODY_BYTES)
    if not limit.isdigit():
        raise ConfigError(f"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT {limit!r} is not a number of bytes")
    return HttpOptions(
        max_body_bytes=int(limit),
        idle_timeout_s=idle_timeout_s,
        homepage=settings.get("AzureWebJobsDisableHomepage", "").lower() != "true",
    )


def host_id(app_dir: Path, settings: Mapping[str, str]) -> str:
    """The id under which this host keeps state in storage: the setting, or one that this folder always has."""
    given = settings.get("AzureFunctionsWebHost__hostid") or settings.get("AzureFunctionsWebHost__hostId")
    return given or f"devhost-{hashlib.sha256(str(app_dir).encode()).hexdigest()[:16]}"


def _queue_options(section: Mapping[str, Any]) -> QueueOptions:
    batch_size = int(section.get("batchSize", 16))
    return QueueOptions(
        base64=str(section.get("messageEncoding", "base64")).lower() != "none",
        batch_size=batch_size,
        new_batch_threshold=int(section.get("newBatchThreshold", batch_size // 2)),
        max_dequeue_count=int(section.get("maxDequeueCount", 5)),
        visibility_timeout_s=timespan(section.get("visibilityTimeout", "00:00:00")),
        max_polling_interval_s=timespan(section.get("maxPollingInterval", "00:01:00")),
    )


def _event_hub_options(section: Mapping[str, Any]) -> EventHubOptions:
    offset = section.get("initialOffsetOptions", {}).get("type", "fromStart")
    if offset not in ("fromStart", "fromEnd"):
        raise ConfigError(f"initialOffsetOptions.type {offset!r} is not supported by this host")
    if int(section.get("minEventBatchSize", 1)) > 1:
        raise ConfigError("minEventBatchSize is not supported by this host")
    return EventHubOptions(
        max_batch_size=int(section.get("maxEventBatchSize", 100)),
        prefetch=int(section.get("prefetchCount", 300)),
        checkpoint_every=int(section.get("batchCheckpointFrequency", 1)),
        from_end=offset == "fromEnd",
    )


def timespan(text: str) -> float:
    """Seconds of a .NET TimeSpan, [d.]hh:mm:ss[.fff]. Raises ConfigError."""
    match = _TIMESPAN.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{text!r} is not a time span (hh:mm:ss)")
    days, hours, minutes, seconds = match.groups()
    return float(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def apply_settings(app_dir: Path, port: int) -> None:
    """Complete the environment of this process as `func start` does: local.settings.json gives what is not set."""
    path = app_dir / "local.settings.json"
    try:
        values = json.loads(path.read_text()).get("Values", {}) if path.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    own = {
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsScriptRoot": str(app_dir),
        "WEBSITE_HOSTNAME": f"localhost:{port}",
    }
    for name, value in {**own, **values}.items():
        os.environ.setdefault(name, str(value))


def resolve(text: str, settings: Mapping[str, str]) -> str:
    """Replace each %NAME% by that setting. Raises ConfigError when one is not set, as the real host does."""

    def value_of(match: re.Match[str]) -> str:
        try:
            return settings[match[1]]
        except KeyError:
            raise ConfigError(f"'%{match[1]}%' does not resolve to a value.") from None

    return _SETTING.sub(value_of, text)


def connection_string(name: str, settings: Mapping[str, str]) -> str:
    """The value of the connection that a binding names. Raises ConfigError when it is not set."""
    name = name or "AzureWebJobsStorage"
    value = settings.get(name) or settings.get(f"AzureWebJobs{name}")
    if not value:
        raise ConfigError(f"connection {name!r} is not set (this host needs a connection string, not an identity)")
    return _DEV_STORAGE if value.strip("; ").lower() == "usedevelopmentstorage=true" else value


class Backoff:
    """Delays that grow from `minimum` to `maximum` seconds, each random by a fifth.

    Follows RandomizedExponentialBackoffStrategy of Azure/azure-webjobs-sdk.
    """

    def __init__(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._exponent = 0

    def reset(self) -> None:
        """The next delay is the shortest again."""
        self._exponent = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        exponent, self._exponent = self._exponent, min(self._exponent + 1, 32)
        if exponent == 0:
            return min(self._minimum, self._maximum)
        growth = random.uniform(0.8, 1.2) * 2.0 ** (exponent - 1) * self._minimum
        return min(self._minimum + growth, self._maximum)

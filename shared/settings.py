"""The app settings: every name that the app reads from its environment, once, in one table.

Rule: this table, local.settings.sample.json and docs/settings.md name the same settings (a test holds them together).
Reading never fails at import and never stops at the first problem: all problems are reported together.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

_MAX_REFRESH_S = 20.0

_NOBODYS_PREFIX = "prefix-invalid"
"""Good for a queue's name, and itself no prefix that anyone could set."""


class SettingsInvalid(Exception):
    """Some settings cannot be used. `problems` says which and why, a sentence each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Transports(StrEnum):
    """What carries events from the gateway to the recorder."""

    STORAGE_QUEUE = "storage-queue"
    EVENT_HUBS = "event-hubs"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings as values."""

    storage: str
    storage_account: str
    configuration: str
    admin_key: str
    admin_role: str
    easy_auth: bool
    caller_ip_header: str
    trusted_proxies: int
    prefix: str
    refresh_s: float
    rollup_schedule: str
    incomplete_after_s: float
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    drain_timeout_s: float
    heartbeat_s: float
    deadline_s: float
    forward_unknown: bool
    transport: Transports
    event_hub: str
    event_hub_namespace: str
    event_hub_name: str
    event_hub_message_bytes: int
    claim_check_bytes: int
    replay_bytes: int
    is_gzip: bool
    durable: bool
    allow_unrecorded: bool
    allow_unchecked: bool
    output_tokens: int
    max_request_bytes: int
    kusto_uri: str
    kusto_database: str
    kusto_managed: bool
    usage_from_kusto: bool
    otlp_endpoint: str
    application_insights: str
    application_insights_identity: str
    telemetry_disabled: bool
    logs_json: bool

    @property
    def queue_name(self) -> str:
        """The queue between gateway and recorder."""
        return f"{self.prefix}-calls"


class Setting(msgspec.Struct, frozen=True):
    """One row: the app setting's name, the field it fills, its default, how its text is read, and what it is for."""

    name: str
    field: str
    default: str
    parse: Callable[[str], Any]
    help: str


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError("must be above 0")
    return number


def _positive_whole(text: str) -> int:
    if (number := int(text)) <= 0:
        raise ValueError("must be above 0")
    return number


def _refresh(text: str) -> float:
    if (number := _positive(text)) > _MAX_REFRESH_S:
        raise ValueError(f"must be at most {_MAX_REFRESH_S:.0f}: a revoked key is refused everywhere within 30 s")
    return number


def _choice(**words: bool) -> Callable[[str], bool]:
    def parse(text: str) -> bool:
        if text not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return words[text]

    return parse


def _claim_check(text: str) -> int:
    if (number := _positive_whole(text)) > 16_000_000:  # what waits to be sent is held in memory
        raise ValueError("must be at most 16000000")
    return number


def _transport(text: str) -> Transports:
    try:
        return Transports(text)
    except ValueError as error:
        raise ValueError(f"must be {' or '.join(Transports)}") from error


def _kusto_uri(text: str) -> str:
    if text and not text.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError("must begin with https:// (plain http: on this machine only)")
    return text.rstrip("/")


def _prefix(text: str) -> str:
    if not (text.isascii() and text.isalnum() and text == text.lower() and text[:1].isalpha() and len(text) <= 20):
        raise ValueError("must be 1 to 20 lower-case letters and digits, a letter first")
    return text


SETTINGS = (
    Setting("AzureWebJobsStorage", "storage", "", str, "Connection string of the Storage account that keeps everything."),
    Setting("AzureWebJobsStorage__accountName", "storage_account", "", str, "In its place, the account's name: the app's identity signs in (AZURE_CLIENT_ID names a user-assigned one)."),
    Setting("TOLLGATE_CONFIG", "configuration", "", str, "The configuration: path of a TOML or JSON file, `blob:container/name`, or the JSON itself."),
    Setting("TOLLGATE_ADMIN_KEY", "admin_key", "", str, "Key that may read every client's usage. Empty: no such key."),
    Setting("TOLLGATE_ADMIN_ROLE", "admin_role", "", str, "Role of Entra tokens that may do what the admin key may. Empty: none may."),
    Setting("TOLLGATE_EASY_AUTH", "easy_auth", "off", _choice(off=False, on=True), "Whether App Service authentication is in front, so that its X-MS-CLIENT-PRINCIPAL is believed: off or on."),
    Setting("TOLLGATE_CALLER_IP_HEADER", "caller_ip_header", "x-forwarded-for", str.lower, "Header that tells who called. Behind Front Door x-azure-socketip. Nobody may get past what writes it."),
    Setting("TOLLGATE_TRUSTED_PROXIES", "trusted_proxies", "1", _positive_whole, "Which address in that header counts, from the right: as many proxies as add to it."),
    Setting("TOLLGATE_PREFIX", "prefix", "tollgate", _prefix, "What the names of our queue, containers and tables begin with."),
    Setting("TOLLGATE_REFRESH_S", "refresh_s", "10", _refresh, "Seconds between looks for changed clients and configuration; at most 20."),
    Setting("TOLLGATE_ROLLUP_SCHEDULE", "rollup_schedule", "0 * * * * *", str, "When usage is rolled up: NCRONTAB, six fields."),
    Setting("TOLLGATE_INCOMPLETE_AFTER_S", "incomplete_after_s", "2100", _positive, "Seconds after which an open call counts as incomplete; more than a call can last."),
    Setting("TOLLGATE_CONNECT_TIMEOUT_S", "connect_timeout_s", "5", _positive, "Seconds to connect to an upstream."),
    Setting("TOLLGATE_FIRST_BYTE_TIMEOUT_S", "first_byte_timeout_s", "220", _positive, "Seconds that one deployment may take to begin an answer that is no stream; the platform cuts silent calls at 230."),
    Setting("TOLLGATE_IDLE_TIMEOUT_S", "idle_timeout_s", "900", _positive, "Seconds that an upstream may be silent before and within a stream: its client hears comments meanwhile."),
    Setting("TOLLGATE_DRAIN_TIMEOUT_S", "drain_timeout_s", "120", _positive, "Seconds to go on reading a response whose client has gone, for its usage."),
    Setting("TOLLGATE_HEARTBEAT_S", "heartbeat_s", "25", _positive, "Seconds after which a stream that is silent gets an SSE comment."),
    Setting("TOLLGATE_DEADLINE_S", "deadline_s", "1740", _positive, "Seconds that a call may take in all; less than host.json's functionTimeout."),
    Setting("TOLLGATE_UNKNOWN_OPERATIONS", "forward_unknown", "refuse", _choice(refuse=False, forward=True), "What happens to operations that the catalogue does not know: refuse or forward."),
    Setting("TOLLGATE_LIMITS_WHEN_STORAGE_DOWN", "allow_unchecked", "refuse", _choice(refuse=False, allow=True), "What happens to calls of limited clients when limits cannot be checked: refuse or allow."),
    Setting("TOLLGATE_OUTPUT_TOKENS", "output_tokens", "1024", _positive_whole, "Tokens that a call which states no maximum is taken to produce, until it has ended."),
    Setting("TOLLGATE_TRANSPORT", "transport", "storage-queue", _transport, "What carries records to the recorder: storage-queue or event-hubs."),
    Setting("TOLLGATE_EVENT_HUB", "event_hub", "", str, "Connection string of the Event Hubs namespace."),
    Setting("TOLLGATE_EVENT_HUB__fullyQualifiedNamespace", "event_hub_namespace", "", str, "In its place, the namespace's host name, NAME.servicebus.windows.net: the app's identity signs in."),
    Setting("TOLLGATE_EVENT_HUB_NAME", "event_hub_name", "calls", str, "The hub's name."),
    Setting("TOLLGATE_EVENT_HUB_MESSAGE_BYTES", "event_hub_message_bytes", "1000000", _positive_whole, "Largest event: 1000000 on the Standard tier, 250000 on Basic."),
    Setting("TOLLGATE_CLAIM_CHECK_BYTES", "claim_check_bytes", "1000000", _claim_check, "A call with larger bodies goes into the archive at once, and only its record travels; at most 16000000."),
    Setting("TOLLGATE_REPLAY_BYTES", "replay_bytes", "8000000", _positive_whole, "An upload or a file's content that is larger passes through as it comes; such an upload is not tried on another deployment."),
    Setting("TOLLGATE_GZIP", "is_gzip", "off", _choice(off=False, on=True), "Whether messages of the transport and objects of the archive are compressed: off or on. Both are read either way."),
    Setting("TOLLGATE_RECORDING", "durable", "durable", _choice(durable=True, fast=False), "durable: an answer waits for its record; fast: it does not."),
    Setting("TOLLGATE_WHEN_UNRECORDABLE", "allow_unrecorded", "refuse", _choice(refuse=False, allow=True), "What happens to calls while neither transport nor Blob takes records: refuse or allow."),
    Setting("TOLLGATE_MAX_REQUEST_BYTES", "max_request_bytes", "104000000", _positive_whole, "Largest request body; the host itself refuses 104857600 and more, less kindly."),
    Setting("TOLLGATE_KUSTO_URI", "kusto_uri", "", _kusto_uri, "Azure Data Explorer cluster that calls are ingested into, such as https://name.region.kusto.windows.net. Empty: none."),
    Setting("TOLLGATE_KUSTO_DATABASE", "kusto_database", "tollgate", str, "The cluster's database, where queries/tables.kql, views.kql and functions.kql were run."),
    Setting("TOLLGATE_KUSTO_INGESTION", "kusto_managed", "queued", _choice(queued=False, managed=True), "queued: in batches, within minutes; managed: streamed, within seconds, where the cluster allows it."),
    Setting("TOLLGATE_USAGE_FROM", "usage_from_kusto", "table", _choice(**{"table": False, "data-explorer": True}), "Where usage is read from: table, or data-explorer where one machine cannot roll up what is recorded."),
    Setting("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint", "", str, "OpenTelemetry collector that traces and metrics go to, by HTTP, such as http://collector:4318. Empty: none. The SDK's other OTEL_ settings hold too."),
    Setting("APPLICATIONINSIGHTS_CONNECTION_STRING", "application_insights", "", str, "Application Insights that traces and metrics go to. Empty: none."),
    Setting("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "application_insights_identity", "", str, "`Authorization=AAD`, with `;ClientId=` of a user-assigned one: the app's identity signs in to Application Insights. Empty: the connection string's key does."),
    Setting("OTEL_SDK_DISABLED", "telemetry_disabled", "false", lambda text: text.lower() == "true", "true: no traces and no metrics, whatever else is set."),
    Setting("TOLLGATE_LOGS", "logs_json", "text", _choice(text=False, json=True), "How log lines are written: text, or json, an object each."),
)  # fmt: skip


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; an empty value is a missing one. Raises SettingsInvalid with every problem."""
    settings, problems = read_binding_settings(environ)
    if problems:
        raise SettingsInvalid(problems)
    return settings


def read_binding_settings(environ: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings with the default for each that is wrong, and what is wrong. A wrong prefix becomes one that nobody can have:
    the default could be somebody else's."""
    values: dict[str, Any] = {}
    problems = []
    for setting in SETTINGS:
        try:
            values[setting.field] = setting.parse(environ.get(setting.name) or setting.default)
        except ValueError as error:
            problems.append(f"{setting.name} {error}. It is: {setting.help}")
            values[setting.field] = _NOBODYS_PREFIX if setting.field == "prefix" else setting.parse(setting.default)
    return Settings(**values), tuple(problems)

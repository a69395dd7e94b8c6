"""Usage and costs in the shape of OpenAI's organisation API, so that tools which read OpenAI's read ours.

    GET /v1/organization/usage/{completions, embeddings, ...}    counts by bucket of an hour or a day
    GET /v1/organization/costs                                   money by day

Rule: an endpoint is a row of ENDPOINTS. A project is a client of ours; the fields that we do not keep (users, keys) are null in
an answer and refused as a filter, for a filter that is not applied would show too much. Buckets are UTC.
https://platform.openai.com/docs/api-reference/usage
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from shared.core.errors import BadRequest, NotFound
from shared.core.money.ledger import UsageHour
from shared.core.money.prices import PriceSheet, is_batch, without_length
from shared.core.parameters import Parameters
from shared.core.reports.charges import Charge, charges_of
from shared.core.reports.usage_report import Addend, Figures, UsageQuery, beginning_of

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_USAGE = "organization.usage"


class Width(msgspec.Struct, frozen=True):
    """A bucket's length, what groups rows so, and how many are on a page."""

    length: timedelta
    time: str
    default: int
    most: int


_WIDTHS = {"1h": Width(_HOUR, "hour", 24, 168), "1d": Width(_DAY, "day", 7, 31)}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One of the API's resources."""

    result: str
    """The `object` of its results."""
    operations: frozenset[str] = frozenset()
    """Whose usage it is. Empty: that of every operation which no other endpoint has."""
    figures: Mapping[str, str] = {}
    """Its fields, and our counters. None: nothing that is metered here, so its buckets are empty."""
    groups: tuple[str, ...] = ("project_id", "user_id", "api_key_id", "model")
    widths: Mapping[str, Width] = msgspec.field(default_factory=lambda: _WIDTHS)


_TOKENS = {"input_tokens": "input_tokens", "num_model_requests": "calls"}
COSTS = Endpoint(
    result="organization.costs.result",
    groups=("project_id", "line_item", "user_id", "api_key_id", "api_source"),
    widths={"1d": Width(_DAY, "day", 7, 180)},
)
ENDPOINTS: Mapping[str, Endpoint] = {
    "usage/completions": Endpoint(
        result=f"{_USAGE}.completions.result",
        figures=_TOKENS
        | {
            "output_tokens": "output_tokens",
            "input_cached_tokens": "cached_input_tokens",
            "input_cache_write_tokens": "cache_write_input_tokens",
            "input_audio_tokens": "audio_input_tokens",
            "input_image_tokens": "image_input_tokens",
            "output_audio_tokens": "audio_output_tokens",
            "output_image_tokens": "image_output_tokens",
        },
        groups=("project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"),
    ),
    "usage/embeddings": Endpoint(
        result=f"{_USAGE}.embeddings.result", operations=frozenset({"embeddings"}), figures=_TOKENS
    ),
    "usage/moderations": Endpoint(
        result=f"{_USAGE}.moderations.result", operations=frozenset({"moderations"}), figures=_TOKENS
    ),
    "usage/images": Endpoint(
        result=f"{_USAGE}.images.result",
        operations=frozenset({"images.generate", "images.edit", "images.create_variation"}),
        figures={"images": "images", "num_model_requests": "calls"},
        groups=("project_id", "user_id", "api_key_id", "model", "size", "source"),
    ),
    "usage/audio_speeches": Endpoint(
        result=f"{_USAGE}.audio_speeches.result",
        operations=frozenset({"audio.speech"}),
        figures={"characters": "characters", "num_model_requests": "calls"},
    ),
    "usage/audio_transcriptions": Endpoint(
        result=f"{_USAGE}.audio_transcriptions.result",
        operations=frozenset({"audio.transcriptions", "audio.translations"}),
        figures={"seconds": "audio_ms", "num_model_requests": "calls"},
    ),
    **{
        f"usage/{name}": Endpoint(result=f"{_USAGE}.{name}.result", groups=("project_id",))
        for name in ("vector_stores", "code_interpreter_sessions")
    },
    **{
        f"usage/{name}": Endpoint(result=f"{_USAGE}.{name}.result")
        for name in ("file_search_calls", "web_search_calls")
    },
    "costs": COSTS,
}
_OTHERS = frozenset[str]().union(*(endpoint.operations for endpoint in ENDPOINTS.values()))
_ALWAYS_COMPLETIONS = frozenset({"chat.completions", "completions", "responses", "responses.compact"})
_SOURCES = {
    "images.generate": "image.generation",
    "images.edit": "image.edit",
    "images.create_variation": "image.variation",
}
_NOT_KEPT = ("user_ids", "api_key_ids")
_PARAMETERS = (
    "start_time", "end_time", "bucket_width", "group_by", "limit", "page", "project_ids", "models", "batch", "sizes", "sources",
    "line_items", *_NOT_KEPT,
)  # fmt: skip


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request to one endpoint."""

    endpoint: Endpoint
    width: Width
    starts: tuple[datetime, ...]
    """The beginnings of the buckets on the page."""
    next_page: str | None
    group_by: tuple[str, ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...]
    """A group, and the values that it may have."""
    query: UsageQuery
    """The rows to read."""

    @property
    def is_itemised(self) -> bool:
        """Whether line items are asked for."""
        return "line_item" in (*self.group_by, *(group for group, _ in self.filters))


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What was used in a span; instants are Unix seconds."""

    object: str = "bucket"
    start_time: int
    end_time: int
    results: list[dict[str, Any]]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    object: str = "page"
    data: list[Bucket]
    has_more: bool
    next_page: str | None


def parse(path: str, parameters: Parameters, now: datetime, client_id: str | None) -> Asked:
    """The request; `path` is the part behind `organization/`. Raises NotFound, BadRequest."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None:
        raise NotFound(f"Invalid URL (GET /v1/organization/{path})", code="unknown_url")
    parameters.only(*_PARAMETERS)
    for name in _NOT_KEPT:
        if parameters.listed(name):
            raise BadRequest(
                f"Usage is not kept by '{name.removesuffix('s')}' here; a project is a client.", param=name
            )
    width = endpoint.widths[parameters.chosen("bucket_width", tuple(endpoint.widths), "1d")]
    group_by = parameters.listed("group_by")
    if unknown := [name for name in group_by if name not in endpoint.groups]:
        raise BadRequest(
            f"Cannot group by {', '.join(unknown)}; known are {', '.join(endpoint.groups)}.", param="group_by"
        )
    starts, next_page = _buckets(parameters, width, now)
    span = (starts[0], starts[-1] + width.length) if starts else (now, now)
    projects = parameters.listed("project_ids")
    return Asked(
        endpoint=endpoint,
        width=width,
        starts=starts,
        next_page=next_page,
        group_by=group_by,
        filters=tuple(_filters(parameters)),
        query=UsageQuery(
            start=span[0],
            end=span[1],
            group_by=(width.time,),
            filters=(("client_id", projects),) if projects else (),
            client_id=client_id,
        ),
    )


def _buckets(parameters: Parameters, width: Width, now: datetime) -> tuple[tuple[datetime, ...], str | None]:
    """The beginnings of the buckets on the page, and the token of the next page."""
    start, end = _instant(parameters, "start_time", None), _instant(parameters, "end_time", now)
    limit = parameters.number("limit", least=1, most=width.most, default=width.default)
    if page := parameters.text("page"):
        number = page.removeprefix("page_")
        if not number.isascii() or not number.isdecimal() or len(number) > 11:
            raise BadRequest("'page' is not the next_page of an answer.", param="page")
        start = datetime.fromtimestamp(int(number), UTC)
    first = start.replace(minute=0, second=0, microsecond=0, hour=start.hour if width.length == _HOUR else 0)
    count = max(-(-(end - first) // width.length), 0)
    starts = tuple(first + number * width.length for number in range(min(count, limit)))
    return starts, f"page_{_unix(starts[-1] + width.length)}" if count > limit else None


def _instant(parameters: Parameters, name: str, default: datetime | None) -> datetime:
    if parameters.text(name) is None and default is None:
        raise BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    latest = _unix(datetime(9999, 1, 1, tzinfo=UTC))
    return datetime.fromtimestamp(
        parameters.number(name, least=0, most=latest, default=_unix(default) if default else 0), UTC
    )


def _filters(parameters: Parameters) -> Iterator[tuple[str, tuple[str, ...]]]:
    lists = {"model": "models", "size": "sizes", "source": "sources", "line_item": "line_items"}
    for group, name in lists.items():
        # An SDK repeats what is a list; a line item has a comma in it.
        if values := tuple(each for each in parameters.values.get(name, ()) if each):
            yield group, values
    if parameters.text("batch"):
        yield "batch", (parameters.chosen("batch", ("true", "false"), ""),)


class Buckets:
    """Adds up rows as a request asks, one by one."""

    def __init__(self, asked: Asked, prices: PriceSheet) -> None:
        self._asked = asked
        self._prices = prices
        self._sums: dict[datetime, dict[tuple[str | None, ...], _Sum]] = defaultdict(lambda: defaultdict(_Sum))

    def add(self, row: UsageHour) -> None:
        """Counts a row, where the request is about it."""
        asked = self._asked
        if not _is_of(asked.endpoint, row) or not asked.query.takes(row.key):
            return
        charges: list[Charge | None] = [None] if not asked.is_itemised else [*charges_of(self._prices, row)]
        asked_for = {"model": row.key.model}  # a model is meant by its own name, and by the one that was asked for
        for charge in charges:
            told = _told(row, charge)
            if all(told.get(group) in values or asked_for.get(group) in values for group, values in asked.filters):
                group = tuple(told.get(name) for name in asked.group_by)
                self._sums[beginning_of(row.hour)][group].add(row, charge)

    def page(self) -> Page:
        """The answer."""
        asked = self._asked
        return Page(
            data=[
                Bucket(
                    start_time=_unix(start),
                    end_time=_unix(start + asked.width.length),
                    results=[
                        self._result(group, figures)
                        for group, figures in sorted(self._sums[start].items(), key=lambda each: str(each[0]))
                    ],
                )
                for start in asked.starts
            ],
            has_more=asked.next_page is not None,
            next_page=asked.next_page,
        )

    def _result(self, group: tuple[str | None, ...], sums: "_Sum") -> dict[str, Any]:
        asked = self._asked
        told = dict(zip(asked.group_by, group, strict=True))
        if "batch" in told:
            told["batch"] = told["batch"] == "true"  # type: ignore[assignment]
        result = {"object": asked.endpoint.result, **dict.fromkeys(asked.endpoint.groups), **told}
        if asked.endpoint is COSTS:
            amount = {"value": sums.cost, "currency": self._prices.currency.lower()}
            return result | {"amount": amount, "quantity": sums.quantity, "quantity_unit": sums.unit}
        counters = sums.figures.counters
        return result | {
            name: round(counters[counter] / 1000) if counter == "audio_ms" else counters[counter]
            for name, counter in asked.endpoint.figures.items()
        }


class _Sum:
    """What one result adds up to, so far."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.cost: Decimal | None = None
        """None: nothing of it has a price."""
        self.quantity: Decimal | None = None
        """Of line items only."""
        self.unit: str | None = None

    def add(self, row: UsageHour, charge: Charge | None) -> None:
        if charge is None:
            self.figures.add(Addend.of(row))
            if row.cost or not row.unpriced_calls:
                self.cost = (self.cost or Decimal(0)) + row.cost
            return
        self.quantity = (self.quantity or Decimal(0)) + charge.quantity
        self.unit = _UNITS.get(charge.unit)
        if charge.unit_price is not None:
            self.cost = (self.cost or Decimal(0)) + charge.cost


_UNITS = {"Tokens": "tokens", "Seconds": "duration_seconds", "Images": "images", "Characters": "characters"}
"""OpenAI's words; calls and shares have none."""


def _is_of(endpoint: Endpoint, row: UsageHour) -> bool:
    """Whether a row is an endpoint's: of one of its operations, or metered and no other's."""
    operation = row.key.operation
    if endpoint is COSTS:
        return True
    if endpoint.operations or not endpoint.figures:
        return operation in endpoint.operations
    return operation in _ALWAYS_COMPLETIONS or (
        operation not in _OTHERS and (row.input_tokens > 0 or row.output_tokens > 0)
    )


def _told(row: UsageHour, charge: Charge | None) -> dict[str, str | None]:
    """What a row, or a charge of it, says of the groups of this API; nothing of users and keys."""
    key = row.key
    model = key.model_served or key.model
    tier = without_length(key.tier)
    _quality, _, size = tier.rpartition("/")
    return {
        "project_id": key.client_id,
        "model": model,
        "batch": "true" if is_batch(tier) else "false",
        "service_tier": tier or "default",
        "size": size or None,
        "source": _SOURCES.get(key.operation),
        "line_item": f"{model}, {charge.measure}{'_tokens' if charge.unit == 'Tokens' else ''}" if charge else None,
    }


def _unix(instant: datetime) -> int:
    return int(instant.timestamp())


def encode(page: Page) -> bytes:
    """The answer as JSON: money is a number there, as OpenAI's is."""
    return msgspec.json.Encoder(decimal_format="number").encode(page)

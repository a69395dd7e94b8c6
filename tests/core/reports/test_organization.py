"""OpenAI's organisation API over our usage."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.errors import BadRequest, NotFound
from shared.core.money.ledger import Span, UsageHour, UsageKey
from shared.core.money.prices import NO_PRICES, Price, sheet_of
from shared.core.parameters import Parameters
from shared.core.reports.organization import ENDPOINTS, Buckets, Page, encode, parse
from shared.core.reports.usage_report import Part, parts_of

NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
DAY = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp())
KEY = UsageKey(
    client_id="blue", cost_center="cc", operation="chat.completions", model="m", model_served="m-1", deployment="d"
)


PRICES = sheet_of((Price(model="m-1", input=Decimal("2"), output=Decimal("10")),), NO_PRICES, "EUR")


def row(hour: str = "20261121", *, calls: int = 1, tokens: int = 10, cost: str = "0.5", **fields: Any) -> UsageHour:
    key = {name: fields.pop(name) for name in list(fields) if name in UsageKey.__struct_fields__}
    return UsageHour(
        hour=hour,
        key=msgspec.structs.replace(KEY, **key),
        calls=calls,
        input_tokens=tokens,
        output_tokens=tokens // 2,
        cost=Decimal(cost),
        **fields,
    )


def answered(path: str, rows: list[UsageHour], owner: str | None = None, **parameters: Any) -> Page:
    query = Parameters.of(urlencode({"start_time": DAY, **parameters}, doseq=True))
    buckets = Buckets(parse(path, query, NOW, owner), PRICES)
    for each in rows:
        buckets.add(each)
    return buckets.page()


def results(path: str, rows: list[UsageHour], **parameters: Any) -> list[dict[str, Any]]:
    (bucket,) = answered(path, rows, **parameters).data
    return bucket.results


ROWS = [
    row(tokens=10),
    row(client_id="red", tokens=20, tier="batch"),
    row(operation="responses", model_served="m-2", tokens=40, calls=2),
    row(operation="embeddings", tokens=80),
    row(operation="batches.retrieve", tokens=160, tier="batch"),
    row(operation="files.list", tokens=0),
    row(operation="images.edit", images=3, tokens=0, tier="hd/1024x1024"),
    row(operation="audio.speech", characters=70, tokens=0),
    row(operation="audio.translations", audio_ms=2600, tokens=0),
    row(operation="moderations", tokens=0),
]

FIGURES: dict[str, tuple[str, dict[str, int]]] = {
    "chat, responses, and what no other endpoint has": (
        "usage/completions",
        {"input_tokens": 230, "output_tokens": 115, "num_model_requests": 5},
    ),
    "embeddings": ("usage/embeddings", {"input_tokens": 80, "num_model_requests": 1}),
    "images": ("usage/images", {"images": 3, "num_model_requests": 1}),
    "speech": ("usage/audio_speeches", {"characters": 70, "num_model_requests": 1}),
    "transcriptions, in seconds": ("usage/audio_transcriptions", {"seconds": 3, "num_model_requests": 1}),
    "moderations": ("usage/moderations", {"input_tokens": 0, "num_model_requests": 1}),
}


@pytest.mark.parametrize(("path", "expected"), FIGURES.values(), ids=FIGURES.keys())
def test_each_endpoint_has_the_usage_of_its_operations(path: str, expected: dict[str, int]) -> None:
    (result,) = results(path, ROWS)
    assert {name: result[name] for name in expected} == expected
    assert result["object"] == f"organization.{path.replace('/', '.')}.result"


@pytest.mark.parametrize("path", ["usage/vector_stores", "usage/code_interpreter_sessions", "usage/web_search_calls"])
def test_what_is_not_metered_has_empty_buckets(path: str) -> None:
    assert results(path, ROWS) == []


def test_no_metered_call_is_left_out() -> None:
    """Guards that every operation's tokens are in exactly one endpoint."""
    for operation in CATALOGUE:
        found = [path for path in ENDPOINTS if path != "costs" and results(path, [row(operation=operation.name)])]
        assert len(found) == 1, operation.name


def test_the_operations_of_the_endpoints_are_the_catalogues() -> None:
    known = {operation.name for operation in CATALOGUE}
    assert all(endpoint.operations <= known for endpoint in ENDPOINTS.values())


def test_results_are_grouped_as_asked_and_the_other_groups_are_null() -> None:
    grouped = results("usage/completions", ROWS, **{"group_by[]": ["model", "batch", "user_id"]})
    assert [(each["model"], each["batch"], each["input_tokens"]) for each in grouped] == [
        ("m-1", False, 10),
        ("m-1", True, 180),
        ("m-2", False, 40),
    ]
    assert {(each["project_id"], each["user_id"], each["api_key_id"]) for each in grouped} == {(None, None, None)}
    [image] = results("usage/images", ROWS, group_by="size,source")
    assert (image["size"], image["source"]) == ("1024x1024", "image.edit")


FILTERS: dict[str, tuple[dict[str, Any], str | None, int]] = {
    "projects": ({"project_ids": ["red"]}, None, 20),
    "models": ({"models[]": ["m-2", "m-3"]}, None, 40),
    "a model by the name that was asked for": ({"models": ["m"]}, None, 230),
    "batch jobs only": ({"batch": "true"}, None, 180),
    "no batch jobs": ({"batch": "false"}, None, 50),
    "a client's own": ({}, "red", 20),
    "another's, asked for by a client": ({"project_ids": ["blue"]}, "red", 0),
}


@pytest.mark.parametrize(("parameters", "owner", "tokens"), FILTERS.values(), ids=FILTERS.keys())
def test_filters_and_rights_apply(parameters: dict[str, Any], owner: str | None, tokens: int) -> None:
    """Guards that a client sees its own usage only, whatever it asks for."""
    (bucket,) = answered("usage/completions", ROWS, owner, **parameters).data
    assert sum(each["input_tokens"] for each in bucket.results) == tokens


def test_costs_are_numbers_in_the_currency() -> None:
    answer = msgspec.json.decode(encode(answered("costs", ROWS, group_by="project_id")))
    [bucket] = answer["data"]
    assert [(each["project_id"], each["amount"]) for each in bucket["results"]] == [
        ("blue", {"value": 4.5, "currency": "eur"}),
        ("red", {"value": 0.5, "currency": "eur"}),
    ]


def test_line_items_are_classes_of_tokens_with_their_quantity_and_what_has_no_price_has_no_amount() -> None:
    """Guards that unpriced usage is visible."""
    rows = [
        row(tokens=1_000_000, cost="7", cached_input_tokens=250_000),
        row(tokens=40, cost="0", unpriced_calls=1, model_served="mystery"),
    ]
    answer = msgspec.json.decode(encode(answered("costs", rows, group_by="line_item")))
    [bucket] = answer["data"]
    assert [(each["line_item"], each["amount"]["value"], each["quantity"]) for each in bucket["results"]] == [
        ("m-1, cached_input_tokens", 0.5, 250_000),
        ("m-1, input_tokens", 1.5, 750_000),
        ("m-1, output_tokens", 5, 500_000),
        ("mystery, input_tokens", None, 40),
        ("mystery, output_tokens", None, 20),
    ]
    assert {each["quantity_unit"] for each in bucket["results"]} == {"tokens"}
    [item] = results("costs", rows, line_items=["m-1, output_tokens"])
    assert (item["amount"]["value"], item["line_item"]) == (5, None)


def test_every_bucket_of_the_span_is_there_and_pages_follow_each_other() -> None:
    rows = [row("2026112103"), row("2026112107", tokens=20)]
    seen, parameters = [], {"bucket_width": "1h", "limit": 5, "start_time": DAY + 1800}
    while True:
        page = answered("usage/completions", rows, **parameters)
        seen += page.data
        if not page.has_more:
            break
        parameters["page"] = str(page.next_page)
    assert [bucket.start_time for bucket in seen] == [DAY + 3600 * hour for hour in range(13)]
    assert all(bucket.end_time - bucket.start_time == 3600 for bucket in seen)
    assert {bucket.start_time: bucket.results[0]["input_tokens"] for bucket in seen if bucket.results} == {
        DAY + 3600 * 3: 10,
        DAY + 3600 * 7: 20,
    }


def test_rows_of_days_are_read_where_buckets_are_days() -> None:
    asked = parse("usage/completions", Parameters.of(f"start_time={DAY - 86400}&limit=31"), NOW, None)
    assert list(parts_of(asked.query)) == [Part(Span.DAY, "20261120", "20261122")]


def test_a_span_that_ends_before_it_starts_has_no_buckets() -> None:
    page = answered("usage/completions", ROWS, end_time=DAY - 1)
    assert (page.data, page.has_more) == ([], False)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no start": ("usage/completions", {"start_time": ""}, "start_time"),
    "a start that is no number": ("usage/completions", {"start_time": "2026-11-21"}, "start_time"),
    "minutes": ("usage/completions", {"bucket_width": "1m"}, "bucket_width"),
    "costs by hour": ("costs", {"bucket_width": "1h"}, "bucket_width"),
    "a group of another endpoint": ("usage/embeddings", {"group_by": "batch"}, "group_by"),
    "too many buckets": ("usage/completions", {"limit": 32}, "limit"),
    "a filter by what is not kept": ("usage/completions", {"api_key_ids": "k"}, "api_key_ids"),
    "a page that is none": ("usage/completions", {"page": "page_x"}, "page"),
    "an unknown parameter": ("usage/completions", {"model": "m"}, "model"),
}


@pytest.mark.parametrize(("path", "parameters", "param"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_answered_names_its_parameter(path: str, parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answered(path, ROWS, **parameters)
    assert caught.value.param == param


@pytest.mark.parametrize("path", ["", "usage", "users", "admin_api_keys", "usage/completions/x"])
def test_the_rest_of_the_organisation_api_is_not_here(path: str) -> None:
    with pytest.raises(NotFound):
        answered(path, [])

"""The same month counted again, by other means: DuckDB, from a file of what was generated.

Rule: nothing of shared/ is used to count; only the list prices are read from the same file.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from shared.core.money.ledger import HISTOGRAMS, UsageHour, UsageKey

_PRICES = Path(__file__).parents[2] / "shared" / "usage" / "prices.json"
_KEY = UsageKey.__struct_fields__
_MILLION = 10**6

_COUNTED = """
    count(*) filter (outcome <> 'rejected') as calls,
    count(*) filter (outcome = 'completed') as completed,
    count(*) filter (outcome = 'client_closed') as client_closed,
    count(*) filter (outcome = 'upstream_error') as upstream_error,
    count(*) filter (outcome = 'rejected') as rejected,
    count(*) filter (outcome = 'incomplete') as incomplete,
    count(*) filter (outcome is null) as "open",
    coalesce(sum(attempt_count - 1), 0)::bigint as failovers,
    count(*) filter (usage_source = 'provider') as provider,
    count(*) filter (usage_source = 'drained') as drained,
    count(*) filter (usage_source = 'none') as usage_unknown,
    coalesce(sum(input_tokens), 0)::bigint as input_tokens,
    coalesce(sum(cached_input_tokens), 0)::bigint as cached_input_tokens,
    coalesce(sum(output_tokens), 0)::bigint as output_tokens,
    coalesce(sum(reasoning_tokens), 0)::bigint as reasoning_tokens,
    coalesce(sum(images), 0)::bigint as images,
    sum(request_bytes)::bigint as request_bytes,
    coalesce(sum(response_bytes), 0)::bigint as response_bytes,
    histogram(bucket(duration_ms)) as duration_ms_histogram,
    histogram(bucket(first_byte_ms)) filter (first_byte_ms is not null) as first_byte_ms_histogram
"""
_MILLIONTHS = """
    case when price.model is null then 0
         when price.image is not null then images * price.image * 1000000
         else (input_tokens - cached_input_tokens) * price.input
            + cached_input_tokens * coalesce(price.cached_input, price.input) + output_tokens * coalesce(price.output, 0)
    end
"""

type Recounted = Mapping[tuple[str, ...], Mapping[str, Any]]


def recount(file: Path) -> Recounted:
    """By period and key: every counter that is not zero, the histograms, and the money in millionths."""
    database = duckdb.connect()
    database.execute(
        "create macro bucket(v) as case when v < 32 then v else 32 + (floor(log2(v))::int - 5) * 16"
        " + (v >> (floor(log2(v))::int - 4)) - 16 end"
    )
    database.execute(
        "create table prices as select p.model, coalesce(p.tier, '') as tier, p.input::decimal(12,6) as input,"
        " p.cached_input::decimal(12,6) as cached_input, p.output::decimal(12,6) as output, p.image::decimal(12,6) as image"
        f" from (select unnest(prices) as p from read_json('{_PRICES}', maximum_object_size=4000000))"
    )
    columns = dict.fromkeys((*_KEY, "outcome", "usage_source", "hour"), "varchar") | dict.fromkeys(
        ("attempt_count", "duration_ms", "first_byte_ms", "request_bytes", "response_bytes", "input_tokens",
         "cached_input_tokens", "output_tokens", "reasoning_tokens", "images"), "bigint",
    )  # fmt: skip
    database.execute(
        f"create table calls as select * from read_json('{file}', format='newline_delimited', columns={columns})"
    )
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for length in (10, 8, 6):
        found |= _periods(database, length)
    return found


def _periods(database: duckdb.DuckDBPyConnection, length: int) -> Recounted:
    keys = ", ".join(f"coalesce({name}, '') as {name}" for name in _KEY)
    query = (
        f"with counted as (select substr(hour, 1, {length}) as period, {keys}, {_COUNTED} from calls group by all)"
        f" select counted.*, {_MILLIONTHS} as millionths,"
        " case when price.model is null then provider + drained else 0 end as unpriced_calls"
        " from counted left join prices as price on price.model = counted.model_served and price.tier = counted.tier"
    )
    result = database.execute(query)
    names = [column[0] for column in result.description]
    rows = (dict(zip(names, row, strict=True)) for row in result.fetchall())
    return {(row.pop("period"), *(row.pop(name) for name in _KEY)): _without_zeros(row) for row in rows}


def as_recounted(rows: Iterable[UsageHour]) -> Recounted:
    """The rollup's rows, to compare."""
    return {(row.hour, *(getattr(row.key, name) for name in _KEY)): _without_zeros(_figures(row)) for row in rows}


def _figures(row: UsageHour) -> dict[str, Any]:
    told = {"hour", "key", "cost", "price_version", "watermark", *HISTOGRAMS}
    figures: dict[str, Any] = {name: getattr(row, name) for name in row.__struct_fields__ if name not in told}
    figures |= {name: dict(getattr(row, name).counts) for name in HISTOGRAMS}
    return figures | {"millionths": row.cost * _MILLION}


def _without_zeros(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    plain = {name: value.normalize() if isinstance(value, Decimal) else value for name, value in figures.items()}
    return {name: value for name, value in plain.items() if value}


def differences(counted: Recounted, expected: Recounted) -> list[str]:
    """What is not the same, a sentence each."""
    found = []
    for key in sorted(counted.keys() | expected.keys()):
        if (ours := counted.get(key)) != (theirs := expected.get(key)):
            names = sorted({*(ours or {}), *(theirs or {})})
            what = [f"{name}: {(ours or {}).get(name)} is {(theirs or {}).get(name)}" for name in names]
            found.append(
                f"{key}: "
                + "; ".join(
                    each for each in what if each.split(": ")[1].partition(" is ")[0] != each.rpartition(" is ")[2]
                )
            )
    return found

"""Our tokens beside the provider's."""

from datetime import date
from typing import Any

import msgspec
import pytest

from shared.core.configuration import Configuration, parse
from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageHour, UsageKey
from shared.core.reports.reconciliation import Drift, Ours, Reconciliation, read, reconcile

CONFIGURATION = """
[[upstreams]]
name = "east"
kind = "azure-v1"
url = "$EAST"
key = "k"
[[upstreams]]
name = "west"
kind = "azure-v1"
url = "https://contoso-west.openai.azure.com"
key = "k"
[[deployments]]
name = "gpt-east"
model = "gpt-4o"
upstream = "east"
deployment = "GPT-prod"
[[deployments]]
name = "gpt-east-mini"
model = "gpt-4o-mini"
upstream = "east"
[[deployments]]
name = "gpt-west"
model = "gpt-4o"
upstream = "west"
"""
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/Contoso-East"


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return parse(CONFIGURATION, {"EAST": "https://contoso-east.openai.azure.com"})


def row(day: str, deployment: str, tokens: int, output: int = 0) -> UsageHour:
    key = UsageKey(client_id="c", cost_center="", operation="", model="", model_served="", deployment=deployment)
    return UsageHour(hour=day, key=key, input_tokens=tokens, output_tokens=output)


ROWS = [
    row("20261101", "gpt-east", 1000, 100),
    row("20261102", "gpt-east", 2000, 200),
    row("20261101", "gpt-east-mini", 500, 50),
    row("20261101", "gpt-west", 9000, 900),
    row("20261103", "gpt-east", 7000, 700),
    row("20261101", "", 3, 3),
]


def metric(name: str, deployment: str, *points: tuple[str, float | None]) -> dict[str, Any]:
    """A metric as the Azure CLI prints it."""
    return {
        "id": f"{ACCOUNT}/providers/Microsoft.Insights/metrics/{name}",
        "name": {"localizedValue": name, "value": name},
        "timeseries": [
            {
                "metadatavalues": [{"name": {"value": "modeldeploymentname"}, "value": deployment}],
                "data": [{"timeStamp": f"{at}+00:00", "total": total} for at, total in points],
            }
        ],
        "unit": "Count",
    }


METRICS = {
    "cost": 0,
    "interval": "PT12H",
    "value": [
        metric("ProcessedPromptTokens", "gpt-prod", ("2026-11-01T00:00:00", 600.0), ("2026-11-01T12:00:00", 400.0)),
        metric("ProcessedPromptTokens", "gpt-prod", ("2026-11-02T00:00:00", 1900.0), ("2026-11-02T12:00:00", None)),
        metric("GeneratedTokens", "gpt-prod", ("2026-11-01T00:00:00", 100.0), ("2026-11-02T00:00:00", 200.0)),
        metric("AzureOpenAIRequests", "gpt-prod", ("2026-11-01T00:00:00", 7.0)),
        metric("GeneratedTokens", "not-ours", ("2026-11-01T00:00:00", 5.0)),
    ],
}


def compared(configuration: Configuration, content: bytes, tolerance: float = 1) -> Reconciliation:
    theirs = read(content)
    ours = Ours(theirs, configuration)
    for each in ROWS:
        ours.add(each)
    return reconcile(theirs, ours.tokens, tolerance)


def lines(found: Reconciliation) -> list[tuple[Any, ...]]:
    return [(each.deployment, each.day.day, each.measure, each.ours, each.theirs, each.percent) for each in found.data]


def test_metrics_are_compared_by_deployment_and_day(configuration: Configuration) -> None:
    """Guards that what is on one side alone is drift, and what the file does not cover is none."""
    found = compared(configuration, msgspec.json.encode(METRICS))
    assert lines(found) == [
        ("gpt-4o-mini", 1, "input_tokens", 500, 0, None),
        ("gpt-4o-mini", 1, "output_tokens", 50, 0, None),
        ("gpt-prod", 1, "input_tokens", 1000, 1000, 0.0),
        ("gpt-prod", 1, "output_tokens", 100, 100, 0.0),
        ("gpt-prod", 2, "input_tokens", 2000, 1900, 5.2632),
        ("gpt-prod", 2, "output_tokens", 200, 200, 0.0),
        ("not-ours", 1, "output_tokens", 0, 5, -100.0),
    ]
    assert {each.account for each in found.data} == {"contoso-east"}
    assert (found.source, found.beyond) == ("metrics", 4)


def test_a_difference_within_the_tolerance_is_none(configuration: Configuration) -> None:
    found = compared(configuration, msgspec.json.encode(METRICS), tolerance=5.5)
    [drift] = [each for each in found.data if each.percent == 5.2632]
    assert drift == Drift(
        account="contoso-east", deployment="gpt-prod", day=date(2026, 11, 2), measure="input_tokens", ours=2000,
        theirs=1900, difference=100, percent=5.2632, is_within=True,
    )  # fmt: skip


COSTS: dict[str, str] = {
    "actual costs": f"""Date,ResourceId,MeterName,Quantity,UnitOfMeasure,CostInBillingCurrency
11/01/2026,{ACCOUNT},gpt-4o-1120-Inp-glbl Tokens,1.2,1K,0.003
11/01/2026,{ACCOUNT},gpt-4o-1120-cd-inp-glbl Tokens,0.3,1K,0.001
11/01/2026,{ACCOUNT},gpt-4o-1120-Outp-glbl Tokens,0.15,1K,0.001
11/01/2026,/subscriptions/s/providers/Microsoft.Storage/storageAccounts/x,Data Output,9,1 GB,1
11/01/2026,{ACCOUNT},Provisioned Managed Global Unit,1,1 Hour,1
""",
    "FOCUS": f"""\ufeffChargePeriodStart,ResourceId,SkuMeter,ConsumedQuantity,ConsumedUnit
2026-11-01T00:00:00Z,{ACCOUNT.lower()},gpt 4o Inp glbl Tokens,1500,Tokens
2026-11-01T00:00:00Z,{ACCOUNT},gpt 4o Outp glbl Tokens,0.15,1000 Tokens
""",
}


@pytest.mark.parametrize("text", COSTS.values(), ids=COSTS.keys())
def test_costs_are_compared_by_account_and_day(configuration: Configuration, text: str) -> None:
    found = compared(configuration, text.encode())
    assert lines(found) == [
        ("", 1, "input_tokens", 1500, 1500, 0.0),
        ("", 1, "output_tokens", 150, 150, 0.0),
    ]
    assert (found.source, found.beyond) == ("costs", 0)


HEADER = "Date,ResourceId,MeterName,Quantity,UnitOfMeasure"
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "JSON of something else": (b'{"data": []}', "az monitor metrics list"),
    "no metrics at all": (b'{"value": []}', "az monitor metrics list"),
    "metrics of something else": (
        msgspec.json.encode({"value": [metric("AzureOpenAIRequests", "d", ("2026-11-01T00:00:00", 1.0))]}),
        "processedprompttokens",
    ),
    "metrics of all deployments together": (
        msgspec.json.encode({"value": [metric("GeneratedTokens", "d") | {"timeseries": [{"data": []}]}]}),
        "--dimension ModelDeploymentName",
    ),
    "no column for the day": (HEADER.replace("Date", "When").encode(), "chargeperiodstart"),
    "no meter of tokens": (f"{HEADER}\n11/01/2026,{ACCOUNT},Hours,1,1 Hour".encode(), "no meter"),
    "a day that is none": (f"{HEADER}\nmonday,{ACCOUNT},x Inp Tokens,1,1K".encode(), "monday"),
    "a quantity that is none": (f"{HEADER}\n11/01/2026,{ACCOUNT},x Inp Tokens,many,1K".encode(), "many"),
    "a unit that is none of tokens": (f"{HEADER}\n11/01/2026,{ACCOUNT},x Inp Tokens,1,1 Hour".encode(), "1 Hour"),
    "neither": (b"\xff\xfe\x00", "UTF-8"),
    "nothing": (b"", "column"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_cannot_be_read_says_what_it_lacks(content: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(content)

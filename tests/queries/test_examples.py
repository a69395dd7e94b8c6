"""The shipped queries, run on calls that were really ingested: it is rows that are compared, not the absence of an error."""

import json
from datetime import datetime
from typing import Any

import pytest

from devtools.kusto import KustoServer
from tests.cluster import EXAMPLES
from tests.examples import call_id
from tests.queries.conftest import LONG, NOW

GPT, EMBEDDING = "gpt-4o-2024-11-20", "text-embedding-3-small"
DAY = datetime(NOW.year, NOW.month, NOW.day)  # noqa: DTZ001 - as DuckDB gives it
SHORT = LONG[:200]


def _id(number: int) -> str:
    return call_id(number, NOW)


EXPECTED: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "apim-messages-of-each-call": (
        "CorrelationId Input Output",
        [
            (_id(1), "Be brief. . Hello", "Hi!"),
            (_id(2), LONG, "One . Two"),
            (_id(3), "Hello", "Hey"),
            (_id(6), "Tell a story", "Once"),
        ],
    ),
    "apim-prompt-text": (
        "CorrelationId position model prompttokens prompttext",
        [
            (_id(1), 1, GPT, 10, "Hello"),
            (_id(2), 0, GPT, 8000, LONG[:100]),
            (_id(3), 0, "mystery-1", 10, "Hello"),
            (_id(4), 0, "gpt-4o", None, "Too much"),
            (_id(5), 0, "gpt-4o", None, "Anyone?"),
            (_id(6), 0, GPT, 6, "Tell a story"),
        ],
    ),
    "apim-prompt-usage": (
        "CorrelationId model prompt_tokens completion_tokens total_tokens response_choices",
        [
            (_id(1), GPT, 10, 5, 15, '{"role":"assistant","content":"Hi!"}'),
            (_id(2), GPT, 8000, 20, 8020, '{"role":"assistant","content":"One"}'),
            (_id(3), "mystery-1", 10, 5, 15, '{"role":"assistant","content":"Hey"}'),
            (_id(4), "gpt-4o", None, None, None, ""),
            (_id(5), "gpt-4o", None, None, None, ""),
            (_id(6), GPT, 6, 1, 7, '{"role":"assistant","content":"Once"}'),
        ],
    ),
    "apim-usage-by-ip": (
        "ip model sum_prompttokens sum_completiontokens sum_totaltokens",
        [
            ("198.51.100.9", "gpt-4o", 0, 0, 0),
            ("198.51.100.9", "mystery-1", 10, 5, 15),
            ("203.0.113.7", "gpt-4o", 0, 0, 0),
            ("203.0.113.7", GPT, 16, 6, 22),
            ("203.0.113.8", GPT, 8000, 20, 8020),
        ],
    ),
    "audit-by-ip": (
        "CallerIp ClientId EndUser UserAgent CallCount Refused TotalTokens",
        [
            ("203.0.113.7", "team-blue", "", "tests", 3, 0, 1007),
            ("203.0.113.7", "team-blue", "ann", "tests", 1, 0, 15),
            ("203.0.113.8", "team-blue", "ann", "tests", 1, 0, 8020),
        ],
    ),
    "audit-by-person": (
        "CallId CallerIp Outcome Status TotalTokens Question Answer",
        [
            (_id(1), "203.0.113.7", "completed", 200, 15, "Hello", "Hi!"),
            (_id(2), "203.0.113.8", "completed", 200, 8020, LONG, "One"),
        ],
    ),
    "chargeback": (
        "CostCenter ClientId ModelName CallCount InputTokens OutputTokens Cost Unpriced UsageUnknown",
        [
            ("cc-1", "team-blue", "gpt-4o", 1, 0, 0, 0.0, 1, 1),
            ("cc-1", "team-blue", GPT, 3, 8016, 26, 0.020295, 0, 0),
            ("cc-1", "team-blue", EMBEDDING, 1, 1000, 0, 0.00002, 0, 0),
            ("cc-2", "team-red", "mystery-1", 1, 10, 5, 0.0, 1, 0),
        ],
    ),
    "completeness": ("Day CallCount Rejected WithoutUsage Doubled", [(DAY, 6, 1, 1, 2)]),
    "error-budget": (
        "ModelAsked CallCount Failed Availability BudgetLeft",
        [("gpt-4o", 4, 1, 0.75, -249.0), ("mystery", 1, 0, 1.0, 1.0), (EMBEDDING, 1, 0, 1.0, 1.0)],
    ),
    "evaluation-dataset": (
        "query response context ground_truth CallId",
        [("Hello", "Hi!", "Be brief.", "", _id(1)), (LONG, "One", "", "", _id(2)), ("Hello", "Hey", "", "", _id(3))],
    ),
    "latency-percentiles": (
        "ModelName DeploymentName IsStreamCompletion CallCount FirstByteP50 FirstByteP99 DurationP95 GatewayP50",
        [
            (GPT, "east", False, 1, 140, 140, 90, 105),
            (GPT, "east", True, 1, 40, 40, 90, 5),
            ("mystery-1", "west", True, 1, 40, 40, 90, 10),
            (EMBEDDING, "east", False, 1, 40, 40, 90, 5),
        ],
    ),
    "spillover": (
        "ModelAsked FirstChoice DeploymentName SpilloverFrom CallCount SpilledOver FailedOver TotalTokens",
        [
            ("gpt-4o", "east", "east", "", 4, 0, 0, 8042),
            ("mystery", "east", "west", "west-ptu", 1, 1, 1, 15),
            (EMBEDDING, "east", "east", "", 1, 0, 0, 1000),
        ],
    ),
    "top-prompts": (
        "Prompt Asked InputTokens Example",
        [
            ("Hello", 2, 20, _id(1)),
            ("Anyone?", 1, 0, _id(5)),
            ("Tell a story", 1, 6, _id(6)),
            ("Too much", 1, 0, _id(4)),
            ("embed me", 1, 1000, _id(7)),
            (SHORT, 1, 8000, _id(2)),
        ],
    ),
    "usage-source": (
        "UsageSource OperationName CallCount TotalTokens Share",
        [
            ("estimated", "chat.completions", 1, 7, 0.1667),
            ("none", "chat.completions", 1, 0, 0.1667),
            ("provider", "chat.completions", 3, 8050, 0.5),
            ("provider", "embeddings", 1, 1000, 0.1667),
        ],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_answers_what_it_says(name: str, kusto: KustoServer) -> None:
    columns, rows = EXPECTED[name]
    (file,) = [file for file in EXAMPLES if file.stem == name]
    answer = kusto.query(file.read_text(encoding="utf-8"))
    assert [tuple(row[column] for column in columns.split()) for row in answer] == rows


def test_every_example_is_run() -> None:
    assert [file.stem for file in EXAMPLES] == sorted(EXPECTED)


# https://learn.microsoft.com/azure/azure-monitor/reference/tables/apimanagementgatewayllmlog
LLM_LOG = """ApiVersion:string _BilledSize:real CompletionTokens:int CorrelationId:string DeploymentName:string _IsBillable:string
    IsStreamCompletion:bool ModelName:string OperationName:string PromptTokens:int Region:string RequestId:string
    RequestMessages:dynamic _ResourceId:string ResponseMessages:dynamic SequenceNumber:int SourceSystem:string
    _SubscriptionId:string TenantId:string TimeGenerated:datetime TotalTokens:int Type:string"""
USAGE_RECORD = """id timestamp appId subscriptionId productName targetService model gatewayName gatewayRegion aiGatewayId
    RequestIp operationName sessionId endUserId backendId routeLocation routeName deploymentName promptTokens
    responseTokens totalTokens EventProcessedUtcTime PartitionId EventEnqueuedUtcTime"""


def test_the_llm_log_has_exactly_the_columns_of_api_management(kusto: KustoServer) -> None:
    schema = kusto.query("ApiManagementGatewayLlmLog | getschema")
    assert [f"{row['ColumnName']}:{row['ColumnType']}" for row in schema] == LLM_LOG.split()


def test_usage_records_have_the_fields_of_the_ai_hub_gateway_and_its_token_counts_as_text(kusto: KustoServer) -> None:
    schema = {row["ColumnName"]: row["ColumnType"] for row in kusto.query("UsageRecords | getschema")}
    assert list(schema) == USAGE_RECORD.split()
    assert {schema[name] for name in ("promptTokens", "responseTokens", "totalTokens")} == {"string"}
    (row,) = kusto.query(f"UsageRecords | where id == '{_id(1)}' | project promptTokens, responseTokens, totalTokens")
    assert tuple(row.values()) == ("10", "5", "15")


def test_a_call_is_a_header_and_its_messages_in_order(kusto: KustoServer) -> None:
    entries = kusto.query(
        f"ApiManagementGatewayLlmLog | where CorrelationId == '{_id(1)}' | order by SequenceNumber asc"
        " | project SequenceNumber, DeploymentName, PromptTokens, TotalTokens, RequestMessages, ResponseMessages"
    )
    assert [tuple(entry.values())[:4] for entry in entries] == [
        (0, "east", 10, 15),
        (1, "", None, None),
        (2, "", None, None),
    ]
    assert [entry["RequestMessages"] is not None for entry in entries] == [False, True, False]
    assert json.loads(entries[2]["ResponseMessages"]) == [{"role": "assistant", "content": "Hi!"}]


def test_messages_over_32_kb_come_in_pieces_that_can_be_put_together(kusto: KustoServer) -> None:
    entries = kusto.query(
        f"ApiManagementGatewayLlmLog | where CorrelationId == '{_id(2)}' | order by SequenceNumber asc"
        " | project SequenceNumber, Piece = tostring(RequestMessages), ResponseMessages"
    )
    assert [entry["SequenceNumber"] for entry in entries] == [0, 1, 2, 3]
    assert [len(entry["Piece"]) for entry in entries[1:3]] == [
        32768,
        40_000 + len('[{"role":"user","content":""}]') - 32768,
    ]
    assert json.loads(entries[1]["Piece"] + entries[2]["Piece"]) == [{"role": "user", "content": LONG}]
    assert entries[3]["ResponseMessages"] is not None


def test_the_tokens_of_a_call_stand_in_one_entry_only(kusto: KustoServer) -> None:
    """So that queries which sum over all entries are right."""
    sums = "summarize Tokens = sum(TotalTokens), Calls = countif(DeploymentName != '')"
    (of_entries,) = kusto.query(f"ApiManagementGatewayLlmLog | {sums}")
    (of_calls,) = kusto.query(f"Calls | {sums}")
    assert of_entries == of_calls


def test_hourly_usage_adds_up_to_the_calls(kusto: KustoServer) -> None:
    rows = kusto.query("UsageHourly() | order by CostCenter asc, ModelName asc")
    of = (
        "CostCenter",
        "ModelName",
        "CallCount",
        "UsageUnknown",
        "Estimated",
        "InputTokens",
        "CachedInputTokens",
        "OutputTokens",
    )
    assert [tuple(row[name] for name in of) for row in rows] == [
        ("cc-1", "gpt-4o", 1, 1, 0, 0, 0, 0),
        ("cc-1", GPT, 3, 0, 1, 8016, 4, 26),
        ("cc-1", EMBEDDING, 1, 0, 0, 1000, 0, 0),
        ("cc-2", "mystery-1", 1, 0, 0, 10, 4, 5),
    ]


def test_what_has_no_count_is_null_in_a_row(kusto: KustoServer) -> None:
    """Guards that unknown is not zero."""
    (row,) = kusto.query(f"Calls | where CallId == '{_id(5)}' | project InputTokens, TotalTokens, UsageSource")
    assert tuple(row.values()) == (None, None, "none")

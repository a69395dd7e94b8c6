"""Price files of other tools."""

import json
from datetime import date
from decimal import Decimal

import pytest

from shared.core.configuration import parse
from shared.core.money.price_imports import UnknownShape, as_toml, imported
from shared.core.money.prices import Price

DAY = date(2026, 7, 1)

LITELLM = b"""{
  "sample_spec": {"litellm_provider": "one of the providers", "input_cost_per_token": 0.0},
  "azure/gpt-4o": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 2.5e-06,
    "cache_read_input_token_cost": 1.25e-06, "output_cost_per_token": 1e-05, "input_cost_per_token_batches": 1.25e-06,
    "output_cost_per_token_batches": 5e-06, "input_cost_per_token_priority": 4.25e-06, "max_tokens": 16384,
    "input_cost_per_token_above_272k_tokens": 5e-06, "output_cost_per_token_above_272k_tokens": 1.5e-05,
    "input_cost_per_token_above_272k_tokens_priority": 8.5e-06},
  "azure/of-another": {"litellm_provider": "azure", "input_cost_per_token": 1e-06,
    "input_cost_per_token_above_200k_tokens": 2e-06},
  "azure/eu/gpt-4o": {"litellm_provider": "azure", "input_cost_per_token": 2.75e-06},
  "azure/hd/1024-x-1792/dall-e-3": {"litellm_provider": "azure", "input_cost_per_pixel": 6.539e-08},
  "azure/standard/1024-x-1024/dall-e-3": {"litellm_provider": "azure", "output_cost_per_image": 0.04},
  "azure/whisper-1": {"litellm_provider": "azure", "input_cost_per_second": 0.0001},
  "azure/tts-1": {"litellm_provider": "azure", "input_cost_per_character": 1.5e-05},
  "azure/nothing": {"litellm_provider": "azure", "max_tokens": 1},
  "gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 3e-06}
}"""

AI_HUB = json.dumps(
    [
        {
            "id": "1", "model": "gpt-4o", "deploymentName": "chat", "isActive": True, "CostPerInputUnit": 0.005,
            "CostPerOutputUnit": 0.015, "CostUnit": 1000, "BaseCost": 0, "Currency": "USD", "CalculationMethod": "tokens",
            "region": "ALL",
        },
        {
            "id": "2", "model": "gpt-4", "deploymentName": "four", "isActive": True, "CostPerInputUnit": 30,
            "CostPerOutputUnit": 60, "CostUnit": 1000000, "Currency": "EUR", "CalculationMethod": "tokens",
            "region": "westeurope",
        },
        {"id": "3", "model": "old", "isActive": False},
        {
            "id": "4", "model": "gpt-4", "deploymentName": "ptu", "CostPerInputUnit": 1, "CostUnit": 1, "BaseCost": 600,
            "CalculationMethod": "percentage",
        },
        {"id": "5", "model": "gpt-4-turbo", "BaseCost": 600, "CalculationMethod": "percentage"},
    ]
).encode()  # fmt: skip


def test_litellms_file_is_taken_over_digit_by_digit() -> None:
    found = imported(LITELLM, DAY, "azure")
    assert found.prices == (
        Price(model="gpt-4o", since=DAY, input=Decimal("2.5"), cached_input=Decimal("1.25"), output=Decimal(10)),
        Price(model="gpt-4o", tier="batch", since=DAY, input=Decimal("1.25"), output=Decimal(5)),
        Price(model="gpt-4o", tier="priority", since=DAY, input=Decimal("4.25")),
        Price(model="gpt-4o", tier="long", since=DAY, input=Decimal(5), output=Decimal(15)),
        Price(model="gpt-4o", tier="priority/long", since=DAY, input=Decimal("8.5")),
        Price(model="of-another", since=DAY, input=Decimal(1)),
        Price(model="dall-e-3", tier="hd/1024x1792", since=DAY, image=Decimal("0.12")),
        Price(model="dall-e-3", tier="standard/1024x1024", since=DAY, image=Decimal("0.04")),
        Price(model="whisper-1", since=DAY, audio_minute=Decimal("0.006")),
        Price(model="tts-1", since=DAY, characters=Decimal(15)),
    )
    assert [what.partition(":")[0] for what in found.left_out] == [
        "azure/of-another", "azure/eu/gpt-4o", "azure/nothing",
    ]  # fmt: skip
    assert imported(LITELLM, DAY, "openai").prices == (Price(model="gpt-4o", since=DAY, input=Decimal(3)),)


def test_ai_hubs_file_is_taken_over_in_its_units() -> None:
    found = imported(AI_HUB, DAY, "azure")
    four = {"since": DAY, "currency": "EUR", "region": "westeurope"}
    assert found.prices == (
        Price(model="gpt-4o", since=DAY, currency="USD", input=Decimal(5), output=Decimal(15)),
        Price(model="gpt-4", deployment="four", input=Decimal(30), output=Decimal(60), **four),
        Price(deployment="ptu", since=DAY, currency="USD", provisioned_month=Decimal(600)),
    )
    assert [what.partition(":")[0] for what in found.left_out] == ["old", "gpt-4-turbo"]
    assert "deploymentName" in found.left_out[1], "what it is a share of is not known"


def test_what_is_printed_is_a_configuration() -> None:
    for content in (LITELLM, AI_HUB):
        found = imported(content, DAY, "azure")
        assert parse(as_toml(found.prices), {}).document.prices == found.prices


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": 1}', b"\xff", b"model: gpt-4o"])
def test_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(UnknownShape, match="shape"):
        imported(content, DAY, "azure")

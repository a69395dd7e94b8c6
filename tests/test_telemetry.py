"""Telemetry: what turns it on, and that off costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import read_settings
from shared.telemetry import OFF, Exporter, exporters_of
from tests.examples import closed_record

ROOT = Path(__file__).parents[1]
OTLP = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
INSIGHTS = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=00000000-0000-0000-0000-000000000000"}
QUIET = {"APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true"}
"""The exporter tells Microsoft of itself, else."""

CASES: dict[str, tuple[dict[str, str], set[Exporter]]] = {
    "nothing is set": ({}, set()),
    "a collector": (OTLP, {Exporter.OTLP}),
    "Application Insights": (INSIGHTS, {Exporter.APPLICATION_INSIGHTS}),
    "both": (OTLP | INSIGHTS, {Exporter.OTLP, Exporter.APPLICATION_INSIGHTS}),
    "switched off": (OTLP | INSIGHTS | {"OTEL_SDK_DISABLED": "TRUE"}, set()),
}


@pytest.mark.parametrize(("environ", "exporters"), CASES.values(), ids=CASES.keys())
def test_the_standard_settings_turn_it_on(environ: dict[str, str], exporters: set[Exporter]) -> None:
    assert exporters_of(read_settings(environ)) == exporters


def test_off_keeps_nothing_and_tells_nobody() -> None:
    assert OFF.begin((("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)) is None
    OFF.ended(closed_record())
    with OFF.step("publish", parents := None) as span:  # type: ignore[arg-type]
        assert span is parents


MADE = """
import asyncio, os, sys
import function_app
from shared import wiring
from shared.core.errors import NotReady
async def make():
    try:
        parts = await wiring.services()
        print("made", type(parts.telemetry).__name__)
    except NotReady as error:
        print("not made", error)
asyncio.run(make())
print(*sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "azure.monitor"))))
"""


def made(connection: str, prefix: str, environ: dict[str, str]) -> tuple[str, str]:
    """How the parts of an app are made with these settings, and what of OpenTelemetry it then has imported."""
    done = subprocess.run(
        [sys.executable, "-c", MADE],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "AzureWebJobsStorage": connection, "TOLLGATE_PREFIX": prefix, **environ},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    how, modules = done.stdout.splitlines()[-2:]
    return how, modules


@pytest.fixture(scope="module")
def connection(azurite: object) -> str:
    return str(azurite.connection_string)  # type: ignore[attr-defined]


def test_off_imports_nothing_of_it(connection: str) -> None:
    """But for the API package, which FastAPI imports whatever we do, and which does nothing without the SDK."""
    assert made(connection, "telemetryoff", {}) == ("made Telemetry", "")


@pytest.mark.parametrize(
    ("environ", "package", "not_package"),
    [(OTLP, "opentelemetry.exporter.otlp", "azure.monitor"), (INSIGHTS | QUIET, "azure.monitor.opentelemetry", "nothing else")],
    ids=["a collector", "Application Insights"],
)  # fmt: skip
def test_each_exporter_is_made_where_it_is_named(
    connection: str, environ: dict[str, str], package: str, not_package: str
) -> None:
    how, modules = made(connection, "telemetryon", environ)
    assert how == "made OpenTelemetry"
    assert package in modules
    assert not_package not in modules

"""The unmodified openai SDK for Node through the gateway: every operation with each way to make a client.

The cases are in node/surface.mjs, which prints what came of each; here it is run once, and held against the catalogue.
"""

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from shared.core.api.operations import CATALOGUE
from tests.e2e.sdk import STYLES
from tests.stack import API_VERSION, Stack

PROGRAM = Path(__file__).parent / "node" / "surface.mjs"

EXCEPTIONS = {
    "evals.runs.update": "how older SDKs cancel a run; this one has a path of its own for that",
    "models.delete": "refused: a model is there for everybody",
    "realtime.translations.client_secrets.create": "this SDK has no method for it",
    "realtime": "GET of a WebSocket: the SDK opens it with a library of its own, and the gateway answers it with 501",
}

type Outcomes = Mapping[str, Mapping[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
async def outcomes(anyio_backend: str, stack: Stack) -> Outcomes:
    """By operation and style, what came of each case."""
    command = ["node", str(PROGRAM), stack.host.base_url, API_VERSION]
    environment = os.environ | {"GATEWAY_KEY": stack.key()}
    done = await anyio.run_process(command, env=environment, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode()
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        outcome = json.loads(line)
        found[outcome["case"].partition("/")[0]][outcome["style"]].append(outcome)
    return found


@pytest.mark.parametrize("operation", [operation.name for operation in CATALOGUE if operation.name not in EXCEPTIONS])
def test_the_sdk_gets_its_answer(outcomes: Outcomes, operation: str) -> None:
    assert set(outcomes[operation]) == set(STYLES), "not every style was tried"
    failed = [outcome for each in outcomes[operation].values() for outcome in each if not outcome["ok"]]
    assert not failed


def test_the_program_knows_no_operation_that_is_not_there(outcomes: Outcomes) -> None:
    assert set(outcomes) == {operation.name for operation in CATALOGUE} - set(EXCEPTIONS)

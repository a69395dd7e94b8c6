"""Hosts of the sample apps, and the notes that their functions leave."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.azurite import Azurite

WAIT_S = 40.0
APPS = Path(__file__).parent / "apps"


class Notes:
    """What the functions of a host have written down, one line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def read(self, **wanted: object) -> list[dict[str, Any]]:
        documents = [json.loads(line) for line in self.lines()]
        return [one for one in documents if all(one.get(key) == value for key, value in wanted.items())]

    async def wait_for[T](self, condition: Callable[["Notes"], T]) -> T:
        deadline = time.monotonic() + WAIT_S
        while not (found := condition(self)):
            assert time.monotonic() < deadline, self.lines()
            await asyncio.sleep(0.02)
        return found


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def core_tools_if_asked_for() -> None:
    if os.environ.get("TOLLGATE_HOST") == "func" and not shutil.which("func"):
        pytest.skip("TOLLGATE_HOST=func, but func is not on PATH")


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with Azurite.start() as running:
        yield running

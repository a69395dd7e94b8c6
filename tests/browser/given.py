"""What the browser's tests look at, and what they look with."""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from devtools import demo
from devtools.simulator import Simulator
from shared.core.recording.events import Body, Closed
from tests.stack import CLIENTS, upstream_of

BUDGETS = {
    "team-a": {"money_per_month": 500},
    "support-copilot": {"money_per_month": 0.01},
    "contract-review": {"tokens_per_month": 50_000_000},
}
"""Of some clients: one of them is used up."""

ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
FORMULA = '=HYPERLINK("http://example.com","click")'


def chromium() -> str:
    """The browser's path; devtools/bootstrap.sh sees to it that there is one."""
    names = (
        "chromium",
        "chromium-browser",
        "google-chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    )
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, "there is no Chromium; `devtools/bootstrap.sh --with-browser` gets one, or says how"
    return found


def document(simulator: Simulator) -> dict[str, Any]:
    """The deployments of the demo's models. Their prices are those that are shipped, which acme-legal is not among."""
    return {
        "deployments": [
            {"name": deployment, "model": name, "upstream": "simulator", "priority": priority}
            for name, model in demo.MODELS.items()
            for priority, deployment in enumerate(model.deployments)
        ],
        "upstreams": [upstream_of(simulator, "simulator", "openai")],
    }


def hostile(now: datetime) -> Iterator[Closed]:
    """Calls of a configured client, and of one whose every word is meant to become markup or a formula."""
    random = Random(1)
    for number, client_id in enumerate((CLIENTS[0], ATTACK)):
        client = demo.DemoClient(id=client_id, cost_center=FORMULA, weight=1, growth=0, models={"gpt-4o": 1})
        call = demo.call(random, now - timedelta(minutes=3 - number), client, ending="completed")
        assert isinstance(call, Closed)
        record = msgspec.structs.replace(call.record, user_agent=ATTACK, end_user=FORMULA, model=f"gpt-4o{ATTACK}")
        said = {"messages": [{"role": "user", "content": f"{client_id} asks {ATTACK}"}]}
        yield msgspec.structs.replace(call, record=record, request=Body.of(msgspec.json.encode(said)))

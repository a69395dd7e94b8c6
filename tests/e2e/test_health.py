"""What probes of a load balancer get."""

import httpx

from tests.stack import Stack


async def test_live_and_ready_without_a_key(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        live, ready = await http.get("/health"), await http.get("/health/ready")
        assert (live.status_code, live.json()) == (200, {"status": "live"})
        assert ready.status_code == 200
        report = ready.json()
        assert report["status"] in ("ready", "degraded"), "other tests of the session leave things in quarantine"
        assert report["problems"] == []
        assert report["deployments"]["all"] > 0
        assert report["backlog"]["messages"] is not None
        assert not any(key.text in ready.text for key in stack.keys.values())
        for path in ("/health", "/health/ready"):
            head = await http.head(path)
            assert (head.status_code, head.content) == (200, b"")

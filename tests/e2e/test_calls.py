"""`GET /calls/{id}`: what was said, for those who may know."""

import asyncio

import httpx

from tests.stack import ADMIN_KEY, Stack


async def test_a_call_can_be_read_by_its_client_and_the_admin_only(stack: Stack) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "for my eyes \u2028 only"}]}
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        answer = await http.post("/v1/chat/completions", json=body, headers={"api-key": stack.key("team-a")})
        path = f"/calls/{answer.headers['x-tollgate-call-id']}"
        for _ in range(100):
            mine = await http.get(path, headers={"api-key": stack.key("team-a")})
            if mine.status_code == 200:
                break
            await asyncio.sleep(0.1)
        admins = await http.get(path, headers={"api-key": ADMIN_KEY})
        others = await http.get(path, headers={"api-key": stack.key("team-b")})
        nobodys = await http.get(path)
        wrong = await http.delete(path, headers={"api-key": ADMIN_KEY})
        none = await http.get("/calls/nonsense", headers={"api-key": ADMIN_KEY})
    seen = mine.json()
    assert seen["record"]["client_id"] == "team-a"
    assert seen["request"]["text"].encode() == answer.request.content
    assert seen["response"]["text"].encode() == answer.content
    assert admins.json() == seen
    assert [each.status_code for each in (others, nobodys, wrong, none)] == [404, 401, 405, 404]

"""`GET /calls/{id}` and `GET /calls`: what was said, and which calls there were, for those who may know."""

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
    assert seen["prompt"] == [{"role": "user", "content": "for my eyes \u2028 only"}]
    assert [choice["content"] for choice in seen["completion"]] == [
        choice["message"]["content"] for choice in answer.json()["choices"]
    ]
    assert admins.json() == seen
    assert [each.status_code for each in (others, nobodys, wrong, none)] == [404, 401, 405, 404]


async def test_calls_are_found_by_their_client_and_the_admin_only(stack: Stack) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "find me"}], "user": "finder"}
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        made = [
            await http.post("/v1/chat/completions", json=body, headers={"api-key": stack.key(client_id)})
            for client_id in ("team-a", "team-b", "team-a")
        ]
        ids = [answer.headers["x-tollgate-call-id"] for answer in made]

        async def found(key: str, **parameters: str | int) -> httpx.Response:
            asked: dict[str, str | int] = {"end_user": "finder", "outcome": "completed", **parameters}
            return await http.get("/calls", params=asked, headers={"api-key": key})

        for _ in range(100):
            everyones = (await found(ADMIN_KEY)).json()
            if len(everyones["data"]) == 3:
                break
            await asyncio.sleep(0.1)
        mine = (await found(stack.key("team-a"))).json()
        others = (await found(stack.key("team-a"), client_id="team-b")).json()
        first = (await found(ADMIN_KEY, limit=2)).json()
        second = (await found(ADMIN_KEY, limit=2, after=first["last_id"])).json()
        refused = [await found("no key"), await found(ADMIN_KEY, limit=0), await found(ADMIN_KEY, colour="blue")]
    assert [each["call_id"] for each in everyones["data"]] == ids[::-1]
    assert [each["call_id"] for each in mine["data"]] == [ids[2], ids[0]]
    assert others["data"] == []
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [each["call_id"] for each in (*first["data"], *second["data"])] == ids[::-1]
    assert [answer.status_code for answer in refused] == [401, 400, 400]
    assert refused[2].json()["error"]["param"] == "colour"

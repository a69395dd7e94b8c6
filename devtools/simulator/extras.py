"""What is done with kept objects besides keeping them, and what is made and not kept.

Shapes: https://platform.openai.com/docs/api-reference/vector-stores/search, .../conversations, .../containers,
.../uploads/complete, .../runs/createThreadAndRun, .../realtime-sessions.
"""

from devtools.simulator import files
from devtools.simulator.calls import Call, Reply, new_id, to_json, unix_now
from devtools.simulator.errors import bad_request
from devtools.simulator.objects import find, make
from devtools.simulator.tokens import Json

_SECRET_LASTS_S = 600


def search(call: Call) -> Reply:
    """POST vector_stores/{id}/search: every file of the store, in the order in which they came."""
    store_id = call.ids[0]
    find(call, "vector_stores", store_id)
    query = str(call.body.get("query") or "")
    if not query:
        raise bad_request("Missing required parameter: 'query'.", "query", "missing_required_parameter")
    found = [
        {"file_id": file_id, "filename": file_id, "score": 0.5, "attributes": {}, "content": [_text(call, file_id)]}
        for file_id in call.resource.collection(f"vector_stores/{store_id}/files")
    ]
    page = {"object": "vector_store.search_results.page", "search_query": [query], "data": found}
    return Reply(body=to_json({**page, "has_more": False, "next_page": None}))


def vector_store_file_content(call: Call) -> Reply:
    """GET vector_stores/{id}/files/{id}/content: the text in parts."""
    store_id, file_id = call.ids
    find(call, f"vector_stores/{store_id}/files", file_id)
    page = {"object": "vector_store.file_content.page", "data": [_text(call, file_id)]}
    return Reply(body=to_json({**page, "has_more": False, "next_page": None}))


def _text(call: Call, file_id: str) -> Json:
    return {"type": "text", "text": call.resource.contents.get(file_id, b"").decode("utf-8", "replace")}


def container_file_content(call: Call) -> Reply:
    """GET containers/{id}/files/{id}/content: the bytes; a file that was put there by its id has that file's."""
    container_id, file_id = call.ids
    file = find(call, f"containers/{container_id}/files", file_id)
    data = call.resource.contents.get(file_id) or call.resource.contents.get(str(file.get("file_id")), b"")
    return Reply(body=data, content_type="application/octet-stream")


def create_items(call: Call) -> Reply:
    """POST conversations/{id}/items: several at once."""
    conversation_id = call.ids[0]
    find(call, "conversations", conversation_id)
    collection = f"conversations/{conversation_id}/items"
    items = [make(call, "conversations/items", collection, item) for item in call.body.get("items") or []]
    if not items:
        raise bad_request("Missing required parameter: 'items'.", "items", "missing_required_parameter")
    edges = {"first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}
    return Reply(body=to_json({"object": "list", "data": items, **edges}))


def create_thread_and_run(call: Call) -> Reply:
    """POST threads/runs."""
    thread = make(call, "threads", "threads", call.body.get("thread") or {})
    given = {name: value for name, value in call.body.items() if name != "thread"}
    run = make(call, "threads/runs", f"threads/{thread['id']}/runs", {**given, "thread_id": thread["id"]})
    return Reply(body=to_json(run))


def complete_upload(call: Call) -> Reply:
    """POST uploads/{id}/complete: the parts in the order that the request gives become a file."""
    upload = find(call, "uploads", call.ids[0])
    part_ids = [str(part_id) for part_id in call.body.get("part_ids") or []]
    for part_id in part_ids:
        find(call, f"uploads/{upload['id']}/parts", part_id)
    data = b"".join(call.resource.contents[part_id] for part_id in part_ids)
    if len(data) != upload.get("bytes"):
        raise bad_request(f"The upload was to have {upload.get('bytes')} bytes and has {len(data)}.")
    upload["status"] = "completed"
    upload["file"] = files.keep(call, data, str(upload.get("filename")), str(upload.get("purpose")))
    return Reply(body=to_json(upload))


def client_secret(call: Call) -> Reply:
    """POST realtime/client_secrets."""
    session = {"id": new_id("sess_"), "object": "realtime.session", **(call.body.get("session") or {})}
    return Reply(body=to_json({**_secret(), "session": session}))


def realtime_session(call: Call) -> Reply:
    """POST realtime/sessions: the same in the words of the beta."""
    session = {"id": new_id("sess_"), "object": "realtime.session", **call.body}
    return Reply(body=to_json({**session, "client_secret": _secret()}))


def video_content(call: Call) -> Reply:
    """GET videos/{id}/content."""
    find(call, "videos", call.ids[0])
    return Reply(body=b"\x00\x00\x00\x18ftypmp42", content_type="video/mp4")


def another_video(call: Call) -> Reply:
    """POST videos/{id}/remix, videos/edits and videos/extensions: a new one."""
    given = call.form.fields if call.form is not None else call.body
    return Reply(body=to_json(make(call, "videos", "videos", {"prompt": given.get("prompt")})))


def skill_content(call: Call) -> Reply:
    """GET skills/{id}/content, also of one version."""
    find(call, "skills", call.ids[0])
    return Reply(body=b"PK\x05\x06" + bytes(18), content_type="application/zip")


def validate_grader(call: Call) -> Reply:
    """POST fine_tuning/alpha/graders/validate."""
    return Reply(body=to_json({"grader": call.body["grader"]}))


def run_grader(call: Call) -> Reply:
    """POST fine_tuning/alpha/graders/run."""
    name = call.body["grader"]["name"]
    metadata = {"name": name, "type": call.body["grader"]["type"], "errors": {}, "execution_time": 0.1, "scores": {}}
    graded = {"reward": 1.0, "metadata": metadata, "sub_rewards": {}, "model_grader_token_usage_per_model": {}}
    return Reply(body=to_json(graded))


def _secret() -> Json:
    return {"value": new_id("ek_"), "expires_at": unix_now() + _SECRET_LASTS_S}

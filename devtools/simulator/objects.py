"""Objects kept per resource: one handler for every collection that only stores, driven by a table."""

from collections.abc import Mapping
from typing import Any

import msgspec

from devtools.simulator.calls import Call, Reply, new_id, to_json, unix_now
from devtools.simulator.errors import no_object, unknown_url
from devtools.simulator.tokens import Json


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One collection: what its objects are called and what may be done to them."""

    object: str
    prefix: str = ""
    fields: Mapping[str, Any] = {}
    """What a new object has besides the request's fields."""
    actions: Mapping[str, str] = {}
    """POST .../{id}/{action} gives the object this status."""
    is_created: bool = True
    """Objects come by POST; else another operation puts them here."""
    id_field: str = ""
    """The field of the request that is a new object's id: a file keeps its own wherever it is put."""
    children: tuple[str, ...] = ()
    """The collections of a new object that begin with one object each."""


_VECTORS = {
    "status": "completed",
    "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
}
KINDS = {
    "assistants": Kind(object="assistant", prefix="asst_", fields={"tools": []}),
    "chat/completions": Kind(object="chat.completion", is_created=False),
    "chat/completions/messages": Kind(object="chat.completion.message", is_created=False),
    "containers": Kind(object="container", prefix="cntr_", fields={"status": "running"}),
    "containers/files": Kind(
        object="container.file", prefix="cfile_", fields={"source": "user", "path": "/mnt/data/file"}
    ),
    "conversations": Kind(object="conversation", prefix="conv_"),
    "conversations/items": Kind(object="message", prefix="msg_", fields={"type": "message", "status": "completed"}),
    "evals": Kind(object="eval", prefix="eval_"),
    "evals/runs": Kind(
        object="eval.run",
        prefix="evalrun_",
        fields={"status": "queued"},
        actions={"cancel": "canceled"},
        children=("output_items",),
    ),
    "evals/runs/output_items": Kind(
        object="eval.run.output_item", prefix="outputitem_", fields={"status": "pass"}, is_created=False
    ),
    "fine_tuning/jobs": Kind(
        object="fine_tuning.job",
        prefix="ftjob-",
        fields={"status": "queued", "fine_tuned_model": None, "trained_tokens": None},
        actions={"cancel": "cancelled", "pause": "paused", "resume": "running"},
        children=("checkpoints", "events"),
    ),
    "fine_tuning/jobs/checkpoints": Kind(
        object="fine_tuning.job.checkpoint", prefix="ftckpt_", fields={"step_number": 1}, is_created=False
    ),
    "fine_tuning/jobs/events": Kind(
        object="fine_tuning.job.event",
        prefix="ftevent-",
        fields={"level": "info", "message": "Queued"},
        is_created=False,
    ),
    "threads": Kind(object="thread", prefix="thread_"),
    "threads/messages": Kind(object="thread.message", prefix="msg_", fields={"status": "completed"}),
    "threads/runs": Kind(
        object="thread.run",
        prefix="run_",
        fields={"status": "completed", "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}},
        actions={"cancel": "cancelled", "submit_tool_outputs": "completed"},
        children=("steps",),
    ),
    "threads/runs/steps": Kind(
        object="thread.run.step", prefix="step_", fields={"status": "completed"}, is_created=False
    ),
    "uploads": Kind(
        object="upload",
        prefix="upload_",
        fields={"status": "pending"},
        actions={"cancel": "cancelled"},
    ),
    "skills": Kind(
        object="skill",
        prefix="skill_",
        fields={"name": "a-skill", "description": "Does it.", "default_version": "1", "latest_version": "1"},
    ),
    "skills/versions": Kind(
        object="skill.version",
        prefix="skillver_",
        fields={"name": "a-skill", "description": "Does it.", "version": "1", "skill_id": ""},
    ),
    "videos": Kind(
        object="video",
        prefix="video_",
        fields={"model": "sora-2", "status": "completed", "progress": 100, "seconds": "4", "size": "720x1280"},
    ),
    "uploads/parts": Kind(object="upload.part", prefix="part_"),
    "vector_stores": Kind(object="vector_store", prefix="vs_", fields=_VECTORS),
    "vector_stores/files": Kind(
        object="vector_store.file", prefix="file-", fields={"status": "completed"}, id_field="file_id"
    ),
    "vector_stores/file_batches": Kind(
        object="vector_store.file_batch",
        prefix="vsfb_",
        fields=_VECTORS,
        actions={"cancel": "cancelled"},
        children=("files",),
    ),
    "vector_stores/file_batches/files": Kind(
        object="vector_store.file", prefix="file-", fields={"status": "completed"}, is_created=False
    ),
}
_TWO_WORDS = ("fine_tuning/jobs", "chat/completions")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a path leads: a collection, one object of it, or something to do to that object."""

    kind_name: str
    collection: str
    object_id: str | None
    action: str | None

    @property
    def kind(self) -> Kind:
        """The collection's row in the table."""
        return KINDS[self.kind_name]


def locate(path: str) -> Place | None:
    """Returns the place of a path such as `threads/thread_1/runs/run_1/cancel`, None when the table has no row."""
    head = next((words for words in _TWO_WORDS if f"{path}/".startswith(f"{words}/")), path.split("/", 1)[0])
    parts = [head, *path[len(head) + 1 :].split("/")] if len(path) > len(head) else [head]
    action = parts.pop() if len(parts) % 2 and len(parts) > 1 and "/".join(parts[::2]) not in KINDS else None
    names = parts[::2]
    kind = KINDS.get("/".join(names))
    if kind is None or (action is not None and action not in kind.actions):
        return None
    object_id = parts[-1] if len(parts) % 2 == 0 else None
    collection = "/".join(parts[:-1] if object_id is not None else parts)
    return Place(kind_name="/".join(names), collection=collection, object_id=object_id, action=action)


def page(objects: list[Json], query: Mapping[str, str]) -> Json:
    """Returns the list object with what `after`, `limit` and `order` ask for; the newest comes first by default."""
    ordered = objects if query.get("order") == "asc" else objects[::-1]
    ids = [item["id"] for item in ordered]
    begin = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    end = begin + int(query.get("limit", "20"))
    data = ordered[begin:end]
    edges = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **edges, "has_more": end < len(ordered)}


def handle(call: Call) -> Reply:
    """Creates, lists, retrieves, changes, acts on or deletes an object, as method and path say."""
    place = locate(call.path)
    if place is None:
        raise unknown_url(call.method, call.path)
    _check_parent(call, place)
    stored = call.resource.collection(place.collection)
    if place.object_id is None:
        if call.method == "GET":
            return Reply(body=to_json(page(list(stored.values()), call.route.query)))
        if call.method != "POST" or not place.kind.is_created:
            raise unknown_url(call.method, call.path)
        return Reply(body=to_json(_create(call, place)))
    found = stored.get(place.object_id)
    if found is None:
        raise no_object(place.kind.object.capitalize(), place.object_id)
    if call.method == "DELETE":
        del stored[place.object_id]
        gone = {"id": place.object_id, "object": f"{place.kind.object}.deleted", "deleted": True}
        return Reply(body=to_json(gone))
    if call.method == "POST":
        found |= call.body if place.action is None else {"status": place.kind.actions[place.action]}
    return Reply(body=to_json(found))


def _check_parent(call: Call, place: Place) -> None:
    parent, _, _ = place.collection.rpartition("/")
    if parent and place.kind_name not in _TWO_WORDS:
        collection, _, object_id = parent.rpartition("/")
        if object_id not in call.resource.collection(collection):
            raise no_object(collection, object_id)


def _create(call: Call, place: Place) -> Json:
    given = call.form.fields if call.form is not None else call.body
    made = make(call, place.kind_name, place.collection, given)
    if call.form is not None and call.form.files:
        call.resource.contents[made["id"]] = call.form.files[0].data
    return made


def make(call: Call, kind_name: str, collection: str, given: Mapping[str, Any]) -> Json:
    """Puts a new object into a collection, and into those of its own what it begins with. Returns it."""
    kind = KINDS[kind_name]
    made = {**kind.fields, **given, "id": given.get(kind.id_field) or new_id(kind.prefix), "object": kind.object}
    made["created_at"] = unix_now()
    call.resource.collection(collection)[made["id"]] = made
    for child in kind.children:
        make(call, f"{kind_name}/{child}", f"{collection}/{made['id']}/{child}", {})
    return made


def find(call: Call, collection: str, object_id: str) -> Json:
    """Returns an object; raises `ApiError` (404) where there is none."""
    found = call.resource.collection(collection).get(object_id)
    if found is None:
        raise no_object(collection, object_id)
    return found

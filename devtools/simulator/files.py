"""Files and batch jobs of one resource. A batch runs its lines through the same handlers that answer calls.

Shapes: https://platform.openai.com/docs/api-reference/files, .../batch.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from devtools.simulator.calls import Call, Reply, Stream, new_id, to_json, unix_now
from devtools.simulator.errors import ApiError, bad_request, no_object, unknown_url
from devtools.simulator.objects import page
from devtools.simulator.tokens import Json, Totals

type Handler = Callable[[Call], Reply | Stream]


def upload(call: Call) -> Reply:
    """POST files."""
    if call.form is None or not call.form.files:
        raise bad_request("'file' is a required property", "file")
    sent = call.form.files[0]
    return Reply(body=to_json(keep(call, sent.data, sent.filename, call.form.fields.get("purpose", "assistants"))))


def list_files(call: Call) -> Reply:
    """GET files."""
    wanted = call.route.query.get("purpose")
    files = [file for file in call.resource.collection("files").values() if wanted in (None, file["purpose"])]
    return Reply(body=to_json(page(files, call.route.query)))


def retrieve_file(call: Call) -> Reply:
    """GET files/{id}."""
    return Reply(body=to_json(_file(call, call.ids[0])))


def content(call: Call) -> Reply:
    """GET files/{id}/content."""
    file = _file(call, call.ids[0])
    return Reply(body=call.resource.contents[file["id"]], content_type="application/octet-stream")


def delete_file(call: Call) -> Reply:
    """DELETE files/{id}."""
    file = _file(call, call.ids[0])
    del call.resource.collection("files")[file["id"]]
    del call.resource.contents[file["id"]]
    return Reply(body=to_json({"id": file["id"], "object": "file", "deleted": True}))


def _file(call: Call, file_id: str) -> Json:
    file = call.resource.collection("files").get(file_id)
    if file is None:
        raise no_object("File", file_id, "id")
    return file


def keep(call: Call, data: bytes, filename: str, purpose: str) -> Json:
    """Puts a new file among those of the resource. Returns it."""
    file: Json = {
        "id": new_id("file-"),
        "object": "file",
        "bytes": len(data),
        "created_at": unix_now(),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }
    call.resource.collection("files")[file["id"]] = file
    call.resource.contents[file["id"]] = data
    return file


class Batches:
    """Batch jobs. `handlers` answers a line, by its URL without prefix."""

    def __init__(self, handlers: dict[str, tuple[str, Handler]]) -> None:
        self._handlers = handlers

    def create(self, call: Call) -> Reply:
        """POST batches; the input file must be on the same resource."""
        file = _file(call, str(call.body.get("input_file_id")))
        lines = [line for line in call.resource.contents[file["id"]].splitlines() if line.strip()]
        batch: Json = {
            "id": new_id("batch_"),
            "object": "batch",
            "endpoint": call.body.get("endpoint"),
            "errors": None,
            "input_file_id": file["id"],
            "completion_window": call.body.get("completion_window", "24h"),
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": unix_now(),
            "expires_at": unix_now() + 86_400,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": call.body.get("metadata"),
        }
        call.resource.collection("batches")[batch["id"]] = batch
        call.resource.jobs[batch["id"]] = time.monotonic()
        return Reply(body=to_json(batch))

    def list_all(self, call: Call) -> Reply:
        """GET batches."""
        batches = [self._advance(call, batch) for batch in call.resource.collection("batches").values()]
        return Reply(body=to_json(page(batches, call.route.query)))

    def retrieve(self, call: Call) -> Reply:
        """GET batches/{id}; this is when time passes for it."""
        return Reply(body=to_json(self._advance(call, self._find(call))))

    def cancel(self, call: Call) -> Reply:
        """POST batches/{id}/cancel."""
        batch = self._advance(call, self._find(call))
        if batch["status"] != "completed":
            batch |= {"status": "cancelled", "cancelled_at": unix_now()}
        return Reply(body=to_json(batch))

    @staticmethod
    def _find(call: Call) -> Json:
        batch = call.resource.collection("batches").get(call.ids[0])
        if batch is None:
            raise no_object("Batch", call.ids[0], "batch_id")
        return batch

    def _advance(self, call: Call, batch: Json) -> Json:
        if batch["status"] in ("completed", "cancelled"):
            return batch
        whole = call.settings.batch_ms / 1000
        progress = (time.monotonic() - call.resource.jobs[batch["id"]]) / whole if whole else 1.0
        if progress < 1:
            steps = ("validating", "in_progress", "finalizing")
            batch["status"] = steps[int(progress * 3)]
        else:
            self._complete(call, batch)
        return batch

    def _complete(self, call: Call, batch: Json) -> None:
        lines = call.resource.contents.get(batch["input_file_id"], b"").splitlines()
        results = [self._run(call, line) for line in lines if line.strip()]
        good = [result for result in results if result["response"]["status_code"] == 200]
        bad = [result for result in results if result["response"]["status_code"] != 200]
        for field, part in (("output_file_id", good), ("error_file_id", bad)):
            if part:
                data = b"\n".join(map(to_json, part)) + b"\n"
                batch[field] = keep(call, data, f"{batch['id']}_{field[:-3]}.jsonl", "batch_output")["id"]
        counts = {"total": len(results), "completed": len(good), "failed": len(bad)}
        batch |= {"status": "completed", "completed_at": unix_now(), "request_counts": counts}
        batch["usage"] = _total([result["response"]["body"].get("usage") or {} for result in good])

    def _run(self, call: Call, line: bytes) -> Json:
        """The result of one line."""
        custom_id, status = None, 200
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            custom_id = request.get("custom_id")
            body = msgspec.json.decode(self._answer(call, request).body)
        except msgspec.DecodeError:
            status, body = 400, {"error": bad_request("This line is not parseable as valid JSON.").openai_fields}
        except ApiError as error:
            status, body = error.status, {"error": error.fields(is_azure=call.route.is_azure)}
        response = {"status_code": status, "request_id": new_id("req_"), "body": body}
        return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": None}

    def _answer(self, call: Call, request: Json) -> Reply:
        path = str(request.get("url", "")).split("/v1/")[-1].strip("/")
        if path not in self._handlers:
            raise unknown_url("POST", path)
        operation, handler = self._handlers[path]
        # The line is no call of its own: what it does must not show in the account's entry of whoever polls.
        entry = msgspec.structs.replace(call.entry, operation=operation)
        body = {**(request.get("body") or {}), "stream": False}
        line = msgspec.structs.replace(call, method="POST", path=path, body=body, form=None, entry=entry)
        reply = handler(line)
        assert isinstance(reply, Reply)
        return reply


def _total(usages: list[Json]) -> Json:
    """Returns the sum over all lines, in the shape of the Responses API whatever the lines' own is."""
    read = [Totals.read(usage) for usage in usages]
    spent_in, spent_out = sum(usage.input for usage in read), sum(usage.output for usage in read)
    return {
        "input_tokens": spent_in,
        "input_tokens_details": {"cached_tokens": sum(usage.cached for usage in read)},
        "output_tokens": spent_out,
        "output_tokens_details": {"reasoning_tokens": sum(usage.reasoning for usage in read)},
        "total_tokens": spent_in + spent_out,
    }

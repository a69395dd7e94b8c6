"""Calls on stored objects go to the upstream that holds them, for the client that owns them.

Rule: the resource, not the deployment, holds an object. What belongs to another client is not found, wherever its id stands.
An item that is sent along whole is looked at for whose it is, and may go anywhere; so is what stands in a file, whose lines
a batch may make requests of.
"""

from shared.core.api.operations import Form
from shared.core.api.references import (
    StoredObject,
    ids_in,
    ids_in_form,
    ids_in_path,
    is_conversation,
    items_missing_in,
    items_named_in,
    items_told_in,
    may_be_id,
)
from shared.core.calls import Call
from shared.core.configuration import Client, Pool, Target
from shared.core.errors import BadRequest, NotFound
from shared.gateway.objects import Objects

_MOST_NAMED = 4000
"""Objects, each of which is a look into a table: as many items as the longest conversation has."""
_LONGEST_ID = 6 * 256
"""Bytes, with its quotes, where each letter is written as an escape."""


async def upstream_of(call: Call, objects: Objects) -> str | None:
    """The upstream that holds what the call speaks of; None where it speaks of nothing that is stored.

    Raises NotFound for an object that is not the client's, BadRequest where the objects live apart.
    """
    upstreams = set()
    for object_id in _in_path(call):
        upstreams.add((await own_object(call.client, object_id, objects)).upstream)
    named, items = _named(call)
    missing = items_missing_in(call.fields.get("input", b"")) if items else frozenset()
    for stored in await objects.find_all(named | items):
        own = _own(stored, call.client)
        if own.object_id in named | missing:
            upstreams.add(own.upstream)
    if call.route.operation.lines:
        in_lines = {_own(stored, call.client).upstream for stored in await objects.find_all(_in_lines(call.body))}
        upstreams |= in_lines if len(in_lines) == 1 else set()
    if len(upstreams) > 1:
        raise BadRequest("The objects that this request names are on different upstreams and cannot be used together.")
    return upstreams.pop() if upstreams else None


def _in_path(call: Call) -> frozenset[str]:
    """The ids in a call's path that decide whose it is: the first, or any where it is not known what they are."""
    if call.route.operation.form is Form.ANY:
        return ids_in_path(call.route.path)
    return frozenset({call.route.object_id} if call.route.object_id is not None else ())


def _named(call: Call) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of objects in a call's body, and those of items. Raises BadRequest where they are too many to look up."""
    operation = call.route.operation
    named = ids_in_form(call.body) if operation.form is Form.MULTIPART else ids_in(call.body)
    items = items_named_in(call.body) - named if operation.has_items else frozenset()
    if len(named) + len(items) > _MOST_NAMED:
        raise BadRequest(f"This request names {len(named) + len(items)} stored objects; {_MOST_NAMED} are the most.")
    return named, items


def _in_lines(content: bytes) -> frozenset[str]:
    """The ids of objects, and what may be ids of items, in a file. Raises BadRequest where they are too many to look up."""
    found = ids_in(content) | items_named_in(content)
    if len(found) > _MOST_NAMED:
        raise BadRequest(f"This file names more than {_MOST_NAMED} stored objects: split it.")
    return found


class PassingIds:
    """Reads along with a file that passes through, for objects of other clients."""

    def __init__(self, client: Client, objects: Objects) -> None:
        self._client = client
        self._objects = objects
        self._found: frozenset[str] = frozenset()
        self._rest = b""

    async def feed(self, chunk: bytes) -> None:
        """Call it before the chunk is passed on. Raises NotFound, BadRequest, NotReady."""
        window = self._rest + chunk
        new = _in_lines(window) - self._found
        self._found |= new
        if len(self._found) > _MOST_NAMED:
            raise BadRequest(f"This file names more than {_MOST_NAMED} stored objects: split it.")
        for stored in await self._objects.find_all(new):
            _own(stored, self._client)
        self._rest = window[-_LONGEST_ID:]


def on_upstream(pool: Pool, upstream: str | None) -> Pool:
    """The part of the pool that is on that upstream; all of it where that is None. Raises BadRequest where there is none."""
    if upstream is None:
        return pool
    there = tuple(target for target in pool.targets if target.upstream.name == upstream)
    if not there:
        raise BadRequest(
            f"The model '{pool.model.name}' is not deployed where the objects that this request names are.",
            param="model",
        )
    return Pool(pool.model, there)


async def remember(call: Call, target: Target, answer: bytes, objects: Objects) -> None:
    """Notes the objects that an answer, decoded, speaks of as the client's.

    Not those that the client named: they are its own already, or not its to claim.
    """
    has_items = call.route.operation.has_items
    found = ids_in(answer) | items_told_in(answer) if has_items else ids_in(answer)
    if not found:
        return
    named = ids_in(call.body) | items_named_in(call.body) if has_items else ids_in(call.body)
    await objects.register(
        (
            StoredObject(object_id=each, client_id=call.client.id, upstream=target.upstream.name)
            for each in found - named
        ),
        in_conversation=any(map(is_conversation, (*found, *named, call.route.object_id or ""))),
    )


async def own_object(client: Client, object_id: str, objects: Objects) -> StoredObject:
    """An object of the client's. Raises NotFound."""
    stored = await objects.find(object_id) if may_be_id(object_id) else None
    if stored is None:
        raise _not_found(object_id)
    return _own(stored, client)


def _own(stored: StoredObject, client: Client) -> StoredObject:
    if stored.client_id != client.id:
        raise _not_found(stored.object_id)
    return stored


def _not_found(object_id: str) -> NotFound:
    return NotFound(f"No object with the id '{object_id}' was found.")

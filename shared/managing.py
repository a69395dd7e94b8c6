"""Managing clients and their keys: what an administrator may ask for, and what is answered.

Rule: a key's text leaves once, in the answer that made it; hashes and upstreams' keys never do. What the configuration
document says is not written to: the table's word is put over it (see shared/core/clients/directory.py).
"""

import logging
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from azure.core.exceptions import AzureError, HttpResponseError

from shared.clients.clients_table import Directory
from shared.core.clients.claims import clash
from shared.core.clients.directory import KeyView, Source, StoredKey, clients_of, keys_of, view_of
from shared.core.clients.keys import MintedKey, adopt
from shared.core.configuration import Client, Configuration
from shared.core.document_problems import explained
from shared.core.errors import BadRequest, Conflict, GatewayError, NotFound, NotReady, PreconditionFailed
from shared.core.json_text import NOT_READABLE
from shared.core.routing.selection import name_of
from shared.gateway.health_board import HealthBoard, HealthView

_log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SETTING = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_MAX_DOCUMENT_CHARS = 30_000
"""A string of an entity holds 32 Ki characters
(https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model)."""
_MASK = "***"
_STALE = {400, 404, 409, 412}
"""No such entity, one already, another version; 400: the ETag is none of the table's."""


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """A client, who says so, and its keys. `client` is what PUT takes."""

    client: dict[str, Any]
    source: Source
    etag: str | None
    keys: tuple[KeyView, ...]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new key is to be. `key`: the text of one that was made elsewhere and is to be kept; empty: a fresh one."""

    key: Annotated[str, msgspec.Meta(pattern="^[!-~]*$", max_length=500)] = ""
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made: the only time that its text is shown."""

    id: str
    client_id: str
    key: str
    created_at: datetime
    expires_at: datetime | None
    note: str


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, where it runs, and how it is as this process knows it."""

    name: str
    model: str
    aliases: tuple[str, ...]
    upstream: str
    kind: str
    url: str
    deployment: str
    priority: int
    weight: int
    strategy: str
    health: HealthView | None
    """None: this process has not asked it yet."""


class Management:
    """One per process."""

    def __init__(
        self, directory: Directory, board: HealthBoard, now: Callable[[], datetime], mint: Callable[[], MintedKey]
    ) -> None:
        self._directory = directory
        self._board = board
        self._now = now
        self._mint = mint

    async def clients(self) -> tuple[ClientView, ...]:
        """Every client, by id. Raises NotReady where the table cannot be read, as all here do."""
        await self._directory.refresh()
        return tuple(self._view(id_) for id_ in sorted(clients_of(self._configuration, self._directory.stored)))

    async def client(self, client_id: str) -> ClientView:
        """One client. Raises NotFound."""
        await self._directory.refresh()
        return self._view(client_id)

    async def put_client(
        self, client_id: str, body: bytes, *, if_match: str | None = None, if_none_match: str | None = None
    ) -> tuple[ClientView, bool]:
        """The client as it now is, and whether it is new. Raises BadRequest, Conflict, PreconditionFailed."""
        client = _client(client_id, body)
        await self._directory.refresh()
        known = clients_of(self._configuration, self._directory.stored)
        if problem := clash(client, known.values()):
            raise Conflict(problem)
        is_new = client_id not in known
        if if_none_match is not None and not is_new:
            raise PreconditionFailed(f"The client '{client_id}' exists already. To change it, leave If-None-Match out.")
        try:
            await self._directory.put_client(client, etag=if_match, create=if_none_match is not None)
        except AzureError as error:
            raise _unwritten(client_id, error) from error
        _log.info("client written", extra={"client_id": client_id, "is_new": is_new})
        return self._view(client_id), is_new

    async def delete_client(self, client_id: str, *, if_match: str | None = None) -> None:
        """Deletes what the table says of a client, with its keys unless the configuration has the client too.

        Raises NotFound; Conflict where only the configuration has it; PreconditionFailed.
        """
        await self._directory.refresh()
        view = self._view(client_id)
        if view.source is Source.CONFIGURATION:
            raise Conflict(f"The client '{client_id}' stands in the configuration document: take it out there.")
        stays = self._configuration is not None and client_id in self._configuration.clients_by_id
        key_ids = () if stays else tuple(key.id for key in view.keys)  # a revocation has to outlive the table's client
        try:
            await self._directory.delete_client(client_id, key_ids, etag=if_match)
        except AzureError as error:
            raise _unwritten(client_id, error) from error
        _log.info("client deleted", extra={"client_id": client_id})

    async def create_key(self, client_id: str, body: bytes) -> NewKey:
        """A new key of a client, or one of its that another gateway made. Raises NotFound, BadRequest, Conflict."""
        asked = _key_request(body)
        now = self._now()
        if asked.expires_at is not None and asked.expires_at <= now:
            raise BadRequest("expires_at has passed: name an instant to come.", param="expires_at")
        await self._directory.refresh()
        self._view(client_id)
        minted = self._adopted(asked.key) if asked.key else self._fresh()
        key = StoredKey(
            id=minted.hash.id,
            client_id=client_id,
            salt=minted.hash.salt,
            hash=minted.hash.hash,
            created_at=now,
            expires_at=asked.expires_at,
            note=asked.note,
        )
        await self._put_key(key)
        _log.info("key created", extra={"client_id": client_id, "key_id": key.id})
        return NewKey(
            id=key.id,
            client_id=client_id,
            key=minted.text,
            created_at=now,
            expires_at=key.expires_at,
            note=key.note,
        )

    def _fresh(self) -> MintedKey:
        known = keys_of(self._configuration, self._directory.stored)
        while (minted := self._mint()).hash.id in known:
            pass
        return minted

    def _adopted(self, text: str) -> MintedKey:
        try:
            kept = adopt(text, bytes.fromhex(self._mint().hash.salt))
        except ValueError as error:
            raise BadRequest(f"key: {error}; let a fresh one be made.", param="key") from error
        if kept.id in keys_of(self._configuration, self._directory.stored):
            raise Conflict(f"There is a key '{kept.id}' already, which is this one or is looked up as it would be.")
        return MintedKey(text=text, hash=kept)

    async def revoke_key(self, client_id: str, key_id: str) -> KeyView:
        """Revokes a key, for good; a revoked one stays as it is. Raises NotFound."""
        await self._directory.refresh()
        self._view(client_id)
        key = keys_of(self._configuration, self._directory.stored).get(key_id)
        if key is None or key.client_id != client_id:
            raise NotFound(f"The client '{client_id}' has no key '{key_id}'.", param="key_id")
        if key.revoked_at is None:
            key = msgspec.structs.replace(key, revoked_at=self._now())
            await self._put_key(key)
            _log.info("key revoked", extra={"client_id": client_id, "key_id": key_id})
        return view_of(key, self._directory.stored, self._now())

    def configuration(self) -> dict[str, Any]:
        """The document in force with every default filled in. Keys are masked, unless they are references to settings."""
        document: dict[str, Any] = msgspec.to_builtins(self._valid().document)
        for upstream in document["upstreams"]:
            if upstream["key"] and not _SETTING.fullmatch(upstream["key"]):
                upstream["key"] = _MASK
        for client in document["clients"]:
            client["keys"] = [key["id"] for key in client["keys"]]
        return {"status": self._directory.source.status, "configuration": document}

    def deployments(self) -> tuple[DeploymentView, ...]:
        """Every deployment, by model and priority."""
        pools = {pool.model.name: pool for pool in self._valid().pools.values()}
        return tuple(
            DeploymentView(
                name=target.deployment.name,
                model=target.deployment.model,
                aliases=pool.model.aliases,
                upstream=target.upstream.name,
                kind=target.upstream.kind,
                url=target.upstream.url,
                deployment=target.deployment.deployment,
                priority=target.deployment.priority,
                weight=target.deployment.weight,
                strategy=pool.model.strategy,
                health=self._board.view(name_of(target)),
            )
            for _, pool in sorted(pools.items())
            for target in sorted(pool.targets, key=lambda each: each.deployment.priority)
        )

    @property
    def _configuration(self) -> Configuration | None:
        return self._directory.source.current

    def _valid(self) -> Configuration:
        if self._configuration is None:
            raise NotReady("There is no valid configuration; /health/ready says why.")
        return self._configuration

    def _view(self, client_id: str) -> ClientView:
        stored = self._directory.stored
        client = clients_of(self._configuration, stored).get(client_id)
        if client is None:
            raise NotFound(f"There is no client '{client_id}'.", param="client_id")
        kept = stored.clients.get(client_id)
        fields: dict[str, Any] = msgspec.to_builtins(client)
        del fields["keys"]
        keys = (key for key in keys_of(self._configuration, stored).values() if key.client_id == client_id)
        return ClientView(
            client=fields,
            source=Source.TABLE if kept else Source.CONFIGURATION,
            etag=kept.etag if kept else None,
            keys=tuple(view_of(key, stored, self._now()) for key in keys),
        )

    async def _put_key(self, key: StoredKey) -> None:
        _check_id(key.client_id)
        try:
            await self._directory.put_key(key)
        except AzureError as error:
            raise _unwritten(key.client_id, error) from error


def _client(client_id: str, body: bytes) -> Client:
    _check_id(client_id)
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except NOT_READABLE as error:
        raise BadRequest(f"The body is not a JSON object: {error}") from error
    if "keys" in fields:
        raise BadRequest("Keys are not written: make one with POST /manage/clients/{id}/keys.", param="keys")
    if bytes(fields.setdefault("id", msgspec.Raw(msgspec.json.encode(client_id)))) != msgspec.json.encode(client_id):
        raise BadRequest(f"The id in the body is not '{client_id}', as in the path: leave it out.", param="id")
    client = _decoded(msgspec.json.encode(fields), Client)
    if len(msgspec.json.encode(client).decode()) > _MAX_DOCUMENT_CHARS:
        raise BadRequest(f"A client is at most {_MAX_DOCUMENT_CHARS} characters of JSON.")
    return client


def _key_request(body: bytes) -> KeyRequest:
    return _decoded(body, KeyRequest) if body.strip() else KeyRequest()


def _decoded[T: msgspec.Struct](body: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        place, message = explained(error, type_)
        param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
        raise BadRequest(message, param=param or None) from error
    except NOT_READABLE as error:
        raise BadRequest(f"The body is not a JSON object: {error}") from error


def _check_id(client_id: str) -> None:
    """Raises BadRequest for an id that cannot name an entity, as one of the configuration may be."""
    if not _ID.fullmatch(client_id):
        raise BadRequest(
            "A client's id is 1 to 100 letters, digits and . _ @ -, a letter or digit first.", param="client_id"
        )


def _unwritten(client_id: str, error: AzureError) -> GatewayError:
    """Why a write failed: by its status, as a transaction's error has no class of its own."""
    if isinstance(error, HttpResponseError) and error.status_code in _STALE:
        return PreconditionFailed(f"The client '{client_id}' was changed meanwhile: read it again, and send its ETag.")
    return NotReady("The clients table cannot be written to, so nothing is sure to have changed; try again later.")

"""What a client may do.

Rule: a model that a client may not use does not exist for it; an operation that it may not use is refused by name.
"""

from collections.abc import Mapping

import msgspec

from shared.core.api.operations import Form, Operation
from shared.core.calls import Call, field, models_named
from shared.core.clients.networks import is_within
from shared.core.configuration import Client, Pool
from shared.core.errors import BadRequest, NotFound, NotSupported, PermissionDenied, UnknownOperation


def check(client: Client, operation: Operation, *, forward_unknown: bool) -> None:
    """Raises PermissionDenied for an operation that is not among the client's, NotSupported for one that cannot be served,
    UnknownOperation for one that no row of the catalogue knows, unless those are forwarded."""
    if operation.refusal:
        raise NotSupported(operation.refusal)
    if operation.form is Form.ANY and not forward_unknown:
        raise UnknownOperation(
            f"Invalid URL ({operation.method} {operation.path}): Tollgate does not know this operation."
        )
    allowed = client.operations
    if allowed is not None and not any(_covers(name, operation.name) for name in allowed):
        raise PermissionDenied(f"This key may not use '{operation.name}'.", code="operation_not_allowed")


def check_network(client: Client, caller_ip: str | None) -> None:
    """Raises PermissionDenied for a call from outside the client's networks."""
    if client.networks is not None and not is_within(caller_ip, client.networks):
        raise PermissionDenied("This client may not call from where you are.", code="network_not_allowed")


def pool_of(client: Client, pools: Mapping[str, Pool], model: str) -> Pool:
    """The pool that serves what the client calls `model`. Raises NotFound, also where it may not use it."""
    pool = pools.get(model)
    if pool is None or not _may_use(client, pool):
        raise NotFound(
            f"The model '{model}' does not exist or you do not have access to it.",
            code="model_not_found",
            param="model",
        )
    return pool


class Names(msgspec.Struct, frozen=True):
    """What upstreams call the models that a client may use."""

    client: Client
    pools: Mapping[str, Pool]

    def upstreams(self, model: str) -> frozenset[str]:
        """Those that have a model. Raises NotFound where the client may not use it."""
        return frozenset(target.upstream.name for target in pool_of(self.client, self.pools, model).targets)

    def on(self, upstream: str, model: str) -> str:
        """The upstream's name for a model. Raises NotFound; BadRequest where the upstream does not have it."""
        targets = pool_of(self.client, self.pools, model).targets
        there = (target.deployment.deployment for target in targets if target.upstream.name == upstream)
        if (name := next(there, None)) is None:
            raise BadRequest(f"The model '{model}' is not deployed where this request has to go.", param="model")
        return name


def with_models(pool: Pool, call: Call) -> Pool:
    """The part of the pool that has every model which the call names elsewhere than at its top. Raises NotFound, BadRequest."""
    named = models_named(call)
    if not named or call.names is None:
        return pool
    having = frozenset.intersection(*map(call.names.upstreams, sorted(named)))
    there = tuple(target for target in pool.targets if target.upstream.name in having)
    if not there:
        what = ", ".join(sorted(named))
        raise BadRequest(
            f"No upstream that this request could go to has all the models that it names: {what}.", param="model"
        )
    return Pool(pool.model, there)


def check_purpose(call: Call) -> None:
    """Raises BadRequest for a batch file that would come in parts, where it cannot be told which models it names."""
    is_batch = call.route.operation.in_parts and field(call.fields, "purpose", str) == "batch"
    if is_batch and call.client.models is not None:
        raise BadRequest(
            "Send a batch file in one piece to POST files: its models have to be checked.", param="purpose"
        )


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model as `GET /v1/models` shows it. When it was made and by whom is the upstream's business."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "tollgate"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/models`."""

    object: str = "list"
    data: tuple[ModelObject, ...]


def models_of(client: Client, pools: Mapping[str, Pool]) -> ModelList:
    """The models that the client may use, by every name they have."""
    names = sorted(name for name, pool in pools.items() if _may_use(client, pool))
    return ModelList(data=tuple(ModelObject(id=name) for name in names))


def _may_use(client: Client, pool: Pool) -> bool:
    """By any of the model's names."""
    return client.models is None or not {pool.model.name, *pool.model.aliases}.isdisjoint(client.models)


def _covers(allowed: str, name: str) -> bool:
    return name == allowed or name.startswith(f"{allowed}.")

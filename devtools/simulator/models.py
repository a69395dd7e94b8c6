"""The list of models. Azure adds what it says of its own."""

from devtools.simulator.calls import MODELS, Call, Reply, to_json
from devtools.simulator.errors import no_model
from devtools.simulator.tokens import Json

_CREATED = 1_732_000_000


def list_models(call: Call) -> Reply:
    """GET models."""
    known = [name for name in MODELS if name not in call.settings.missing_models]
    return Reply(body=to_json({"object": "list", "data": [_model(call, name) for name in known]}))


def retrieve_model(call: Call) -> Reply:
    """GET models/{id}; 404 only for those that are missing by setting, because any name may be asked for."""
    if call.ids[0] in call.settings.missing_models:
        raise no_model(call.ids[0])
    return Reply(body=to_json(_model(call, call.ids[0])))


def _model(call: Call, name: str) -> Json:
    model: Json = {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}
    if call.route.is_azure:
        model |= {"status": "succeeded", "lifecycle_status": "generally-available"}
    return model

"""Embeddings and moderations: one vector or verdict for each input, decided by seed, model and text.

Shapes: https://platform.openai.com/docs/api-reference/embeddings, .../moderations.
"""

import base64
import hashlib
import math
from array import array
from functools import lru_cache

import msgspec

from devtools.simulator.calls import Call, Reply, new_id, to_json
from devtools.simulator.errors import bad_request
from devtools.simulator.tokens import Json, count

_MOST_DIMENSIONS = {"text-embedding-3-large": 3072}
_USUAL_DIMENSIONS = 1536
_CATEGORY_NAMES = (
    "harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm self-harm/instructions "
    "self-harm/intent sexual sexual/minors violence violence/graphic"
)
_CATEGORIES = _CATEGORY_NAMES.split()


def embeddings(call: Call) -> Reply:
    """POST embeddings: of a text, of token ids, or of a list of either."""
    inputs = _inputs(call.body.get("input"))
    most = _MOST_DIMENSIONS.get(call.model, _USUAL_DIMENSIONS)
    dimensions = call.body.get("dimensions") or most
    if not isinstance(dimensions, int) or not 1 <= dimensions <= most:
        raise bad_request(f"'dimensions' must be a whole number from 1 to {most}.", "dimensions")
    is_base64 = call.body.get("encoding_format") == "base64"
    used = sum(map(count, inputs))
    usage = {"prompt_tokens": used, "total_tokens": used}
    fields: Json = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": _vector(call.key(text), dimensions, is_base64)}
            for at, text in enumerate(inputs)
        ],
        "model": call.model,
        "usage": usage,
    }
    if call.fault.no_usage:
        del fields["usage"]
    return Reply(body=to_json(fields), model=call.model, meter=lambda _: usage)


def _inputs(value: object) -> list[object]:
    match value:
        case str() if value:
            return [value]
        case [int(), *_]:
            return [value]
        case list() if value:
            return value
    raise bad_request("'$.input' is invalid. Please check the API reference.", "input")


@lru_cache(maxsize=512)
def _vector(key: bytes, dimensions: int, is_base64: bool) -> msgspec.Raw:
    """A vector of length one, as the JSON that stands for it."""
    raw = array("h", hashlib.shake_256(key).digest(2 * dimensions))
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    vector = array("f", (value / length for value in raw))
    return msgspec.Raw(to_json(base64.b64encode(vector.tobytes()).decode() if is_base64 else vector.tolist()))


def moderations(call: Call) -> Reply:
    """POST moderations: flags what says `violence`."""
    given = call.body.get("input")
    results = [_verdict(call, text) for text in (given if isinstance(given, list) else [given])]
    fields = {"id": new_id("modr-"), "model": "omni-moderation-latest", "results": results}
    return Reply(body=to_json(fields), model="omni-moderation-latest", meter=lambda _: None)


def _verdict(call: Call, text: object) -> Json:
    flagged = b"violence" in to_json(text)
    noise = call.key(text)
    scores = {name: round(noise[at] / 25500, 6) for at, name in enumerate(_CATEGORIES)}
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == "violence" for name in _CATEGORIES},
        "category_scores": {**scores, "violence": 0.97} if flagged else scores,
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }

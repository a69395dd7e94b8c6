"""Images (https://platform.openai.com/docs/api-reference/images and .../images-streaming).

Rule: images are counted in the answer itself, because not every model says what else it used.
"""

import msgspec

from shared.core.usage.reading import Part, TokenUsage
from shared.core.usage.wire import NOTHING, Message, Usage, word

_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})


class _Images(Message):
    data: tuple[msgspec.Raw, ...] | None = None
    usage: Usage | None = None
    quality: msgspec.Raw = NOTHING
    size: msgspec.Raw = NOTHING


_decoder = msgspec.json.Decoder(_Images)


def parse_images(data: bytes) -> Part:
    """Images, or one event of their stream. Raises msgspec.DecodeError for what is not that."""
    found = _decoder.decode(data)
    made = 1 if found.type in _COMPLETED else len(found.data or ()) or None
    usage = found.usage.read() if found.usage else TokenUsage() if made else None
    error, refused = found.failure
    return Part(
        usage=msgspec.structs.replace(usage, images=made) if usage else None,
        tier="/".join(filter(None, (word(found.quality), word(found.size)))) or None,
        error=error,
        content_filter=refused,
        done=found.type in _COMPLETED or error is not None,
    )

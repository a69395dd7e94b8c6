"""What was said in a call, by both sides, in words.

Rule: the bodies are the truth; this is what can be read of them. Where they were not kept there are no words.
"""

import msgspec

from shared.core.api.completion_text import ChoiceText, completion_text
from shared.core.api.operations import CATALOGUE, Form, Operation
from shared.core.api.prompt_text import Message, prompt_text
from shared.core.recording.archive import ArchivedCall

_OPERATIONS = {operation.name: operation for operation in CATALOGUE}
_UNKNOWN = Operation(name="unknown", method="", path="", form=Form.ANY)


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of the request, in order, and each choice of the answer."""

    prompt: tuple[Message, ...]
    completion: tuple[ChoiceText, ...]


def has_words(operation: str) -> bool:
    """Whether the bodies of such a call may say something: files, of any size, are passed over."""
    return not _OPERATIONS.get(operation, _UNKNOWN).is_content


def conversation(call: ArchivedCall) -> Conversation:
    """What the bodies of a call say."""
    operation = _OPERATIONS.get(call.record.operation, _UNKNOWN)
    return Conversation(
        prompt=prompt_text(operation, call.request),
        completion=completion_text(operation, call.response, call.record.response_encoding).choices,
    )

"""Audio: transcriptions and translations in, speech out (https://platform.openai.com/docs/api-reference/audio).

Rule: what is billed by time is in milliseconds, what is billed by text is in characters of the request. A transcript as
plain text, SRT or VTT, and speech as bytes, tell nothing.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from shared.core.usage.reading import Part, TokenUsage
from shared.core.usage.wire import Message, Usage, milliseconds


class _Audio(Message):
    usage: Usage | None = None
    duration: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    """Seconds, of a verbose transcript."""


_decoder = msgspec.json.Decoder(_Audio)


def parse_transcription(data: bytes) -> Part:
    """A transcript or one event of its stream. Raises msgspec.DecodeError for what is not that."""
    return _part(_decoder.decode(data), "transcript.text.done")


def parse_speech(data: bytes) -> Part:
    """One event of a stream of speech. Raises msgspec.DecodeError for what is not that."""
    return _part(_decoder.decode(data), "speech.audio.done")


def spoken_characters(fields: Mapping[str, msgspec.Raw]) -> TokenUsage | None:
    """What a request for speech uses, whatever the answer is: the characters of its `input`. None where that is no text."""
    try:
        return TokenUsage(characters=len(msgspec.json.decode(fields["input"], type=str)))
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _part(found: _Audio, last: str) -> Part:
    error, refused = found.failure
    return Part(usage=_usage(found), error=error, content_filter=refused, done=found.type == last or error is not None)


def _usage(found: _Audio) -> TokenUsage | None:
    usage = found.usage.read() if found.usage else None
    if found.duration is None or (usage and usage.audio_ms is not None):  # what is billed comes first
        return usage
    return msgspec.structs.replace(usage or TokenUsage(), audio_ms=milliseconds(found.duration))

"""What an answer says about itself: what was used, the model that served, why it stopped. A module per family of operations.

Rule: unknown is not zero, and nothing counts twice. A quantity that nobody gave is None and stays None. A JSON body is read
as a stream of one part, so there is one reader per operation, not two; only the operation that makes something counts it,
and looking at it again does not.
"""

from shared.core.usage.audio import parse_speech, parse_transcription, spoken_characters
from shared.core.usage.bounds import (
    Asked,
    most_of_input,
    most_of_pictures,
    most_of_sound,
    most_of_speech,
    most_of_text,
)
from shared.core.usage.chat import parse_chat
from shared.core.usage.images import parse_images
from shared.core.usage.objects import parse_object
from shared.core.usage.reading import Part, Reading, TokenUsage
from shared.core.usage.responses import parse_response

__all__ = [
    "Asked",
    "Part",
    "Reading",
    "TokenUsage",
    "most_of_input",
    "most_of_pictures",
    "most_of_sound",
    "most_of_speech",
    "most_of_text",
    "parse_chat",
    "parse_images",
    "parse_object",
    "parse_response",
    "parse_speech",
    "parse_transcription",
    "spoken_characters",
]

"""What reads bodies reads any body: a reader of ours that raises would lose the record of a call."""

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.core.completion_text import completion_text
from shared.core.operations import CATALOGUE
from shared.core.prompt_text import prompt_text
from shared.core.tap import StreamTap, read_body
from shared.core.usage import parse_object

VOCABULARY = """
type id model choices index message delta content text refusal role tool_calls function name arguments custom input
usage prompt_tokens input_tokens output_tokens input_tokens_details error code innererror content_filter_result
content_filter_results filtered prompt_filter_results content_filters response status output output_index item
summary messages prompt instructions image_url url data file audio input_image input_audio function_call reasoning
function_call_output response.completed response.output_text.delta response.output_item.added duration seconds
transcript.text.done assistant user
"""
WORDS = st.sampled_from(VOCABULARY.split())
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)
BODIES = st.dictionaries(WORDS, JSON, max_size=6).map(msgspec.json.encode) | JSON.map(msgspec.json.encode) | st.binary()
READERS = {operation.parse: operation for operation in CATALOGUE if operation.parse is not parse_object}
OBJECTS = next(operation for operation in CATALOGUE if operation.parse is parse_object)


@settings(deadline=None)
@given(st.lists(BODIES, max_size=4))
@example([b'{"messages":[{"role":"user","tool_calls":[1,{"function":"x"},{"function":{"name":[]}}]}]}'])
@example([b'{"messages":[{"role":"user","tool_calls":7}]}'])
@example([b'{"usage":{"prompt_tokens":1e999,"seconds":-1}}'])
@example([b'{"error":"\xff"}'])
def test_any_body_can_be_read(parts: list[bytes]) -> None:
    stream = b"".join(b"data: %b\n\n" % part for part in parts)
    for operation in (OBJECTS, *READERS.values()):
        for body in (*parts, stream, stream[:-3]):
            for encoding in (None, "gzip"):
                read_body(operation, body, encoding)
                completion_text(operation, body, encoding)
            prompt_text(operation, body)
        tap = StreamTap(operation, drop_usage_chunk=False)
        assert tap.feed(stream) + tap.end() == stream

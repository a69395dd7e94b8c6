"""What reads bodies reads any body: a reader of ours that raises would lose the record of a call."""

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.core.api.completion_text import completion_text
from shared.core.api.named_models import LineReader, lines_renamed, renamed
from shared.core.api.operations import CATALOGUE
from shared.core.api.prompt_text import prompt_text
from shared.core.api.tap import StreamTap, read_body
from shared.core.errors import BadRequest
from shared.core.usage import bounds, parse_object

VOCABULARY = """
type id model choices index message delta content text refusal role tool_calls function name arguments custom input
usage prompt_tokens input_tokens output_tokens input_tokens_details error code innererror content_filter_result
content_filter_results filtered prompt_filter_results content_filters response status output output_index item
summary messages prompt instructions image_url url data file audio input_image input_audio function_call reasoning
function_call_output response.completed response.output_text.delta response.output_item.added duration seconds
transcript.text.done assistant user model session data_source testing_criteria grader graders body custom_id
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
DEEP = b"[" * 5000 + b"]" * 5000
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


PATHS = tuple({path for operation in CATALOGUE for path in operation.models})


@settings(deadline=None)
@given(st.lists(BODIES, max_size=4), st.integers(1, 50))
@example([b'{"model":"a","x":%b,"model":"b"}' % DEEP], 7)
@example([b'{"body":{"model":"a","x":%b,"mod\\u0065l":"b"}}' % DEEP], 7)
@example([b'{"session":{"model":"\\ud800"}}', b'{"body":{"model":"\xff"}}', b"{" * 10_000], 3)
def test_models_are_looked_for_in_any_body(parts: list[bytes], size: int) -> None:
    """And what is read in one piece, and line by line as it passes, is the same."""
    whole: list[str] = []
    for part in parts:
        assert renamed(part, PATHS, str) == part or b"model" in part or b"\\u" in part
        assert bounds.text_tokens(part) <= len(part)
        bounds.most_of_text(bounds.Asked(text=part))
    content = b"\n".join(parts)
    lines_renamed(content, lambda name: whole.append(name) or name)  # type: ignore[func-returns-value]
    passing: list[str] = []
    reader = LineReader(lambda name: passing.append(name) or name)  # type: ignore[func-returns-value]
    try:
        for start in range(0, len(content), size):
            reader.feed(content[start : start + size])
        reader.end()
    except BadRequest:  # a name that stands twice cannot be put right as it passes
        assert passing == whole[: len(passing)]
        return
    assert passing == whole

"""What the answers of several families have in common on the wire: usage, errors, content filter results.

Rule: what only annotates an answer is read leniently, or its shape would cost us the usage that stands beside it.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from shared.core.usage.reading import TokenUsage

type Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a ledger can hold."""


class InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


class Usage(msgspec.Struct):
    """Usage as all but chat completions write it. Transcriptions say `input_token_details`, the others `input_tokens_details`."""

    input_tokens: Count | None = None
    input_tokens_details: InputDetails | None = None
    input_token_details: InputDetails | None = None
    output_tokens: Count | None = None
    output_tokens_details: OutputDetails | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None

    def read(self) -> TokenUsage:
        inputs = self.input_tokens_details or self.input_token_details
        usage = token_usage(self.input_tokens, inputs, self.output_tokens, self.output_tokens_details)
        return usage if self.seconds is None else msgspec.structs.replace(usage, audio_ms=milliseconds(self.seconds))


def token_usage(
    input_tokens: int | None, inputs: InputDetails | None, output_tokens: int | None, outputs: OutputDetails | None
) -> TokenUsage:
    """The usage that two counts and their details are."""
    inputs, outputs = inputs or InputDetails(), outputs or OutputDetails()
    return TokenUsage(
        input_tokens=input_tokens,
        cached_input_tokens=inputs.cached_tokens,
        cache_write_input_tokens=inputs.cache_write_tokens,
        audio_input_tokens=inputs.audio_tokens,
        image_input_tokens=inputs.image_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
        audio_output_tokens=outputs.audio_tokens,
        image_output_tokens=outputs.image_tokens,
    )


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


NOTHING = msgspec.Raw(b"null")
"""A field that is not there."""


def word(raw: msgspec.Raw) -> str | None:
    """A field that is a text, if it is one."""
    try:
        return _word_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


class _Verdict(msgspec.Struct):
    filtered: bool = False


type _Verdicts = dict[str, _Verdict | tuple[_Verdict, ...]]
"""By category; a blocklist has a verdict of its own for each list, in older api-versions."""


class Message(msgspec.Struct):
    """What any answer or event may be: an error, wrapped as in an answer with a status, or flat and of type `error`."""

    type: str | None = None
    code: str | int | None = None
    error: msgspec.Raw = NOTHING

    @property
    def failure(self) -> tuple[str | None, tuple[str, ...]]:
        """The code or type of the error, and which filters refused the prompt. (None, ()) where there is none."""
        code, refused = error_in(self.error)
        return (str(self.code or code or "error") if self.type == "error" else code), refused


class _InnerError(msgspec.Struct):
    content_filter_result: msgspec.Raw = NOTHING


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    innererror: _InnerError | None = None


class _Annotation(msgspec.Struct):
    """What a filter says of a prompt or a completion: chat completions name it by place, the Responses API by `source_type`."""

    source_type: str = "prompt"
    content_filter_results: msgspec.Raw = NOTHING


_verdicts_decoder: msgspec.json.Decoder[_Verdicts] = msgspec.json.Decoder(_Verdicts)
_annotations_decoder = msgspec.json.Decoder(tuple[_Annotation, ...])
_word_decoder = msgspec.json.Decoder(str)
_error_decoder = msgspec.json.Decoder(_Error)


def filtered(raw: msgspec.Raw, source: str) -> tuple[str, ...]:
    """The categories in `content_filter_results` that held something back, each as `source.category`."""
    data = bytes(raw)
    if b"true" not in data:  # nearly every chunk says that nothing was: not worth reading
        return ()
    try:
        verdicts = _verdicts_decoder.decode(data)
    except msgspec.DecodeError:
        return ()
    return tuple(f"{source}.{category}" for category, verdict in verdicts.items() if _is_filtered(verdict))


def annotated(raw: msgspec.Raw) -> tuple[str, ...]:
    """The same of a list of annotations: `prompt_filter_results`, or `content_filters` of the Responses API."""
    data = bytes(raw)
    if b"true" not in data:
        return ()
    try:
        annotations = _annotations_decoder.decode(data)
    except msgspec.DecodeError:
        return ()
    found: Iterable[str] = (
        name for each in annotations for name in filtered(each.content_filter_results, each.source_type)
    )
    return tuple(dict.fromkeys(found))


def error_in(raw: msgspec.Raw) -> tuple[str | None, tuple[str, ...]]:
    """What an `error` field says: its code, or type, and which filters refused the prompt. (None, ()) where it is null."""
    data = b"null" if raw is NOTHING else bytes(raw)
    if data == b"null":
        return None, ()
    try:
        error = _error_decoder.decode(data)
    except msgspec.DecodeError:
        return "error", ()  # a text, say
    inner = error.innererror or _InnerError()
    return str(error.code or error.type or "error"), filtered(inner.content_filter_result, "prompt")


def _is_filtered(verdict: _Verdict | tuple[_Verdict, ...]) -> bool:
    return verdict.filtered if isinstance(verdict, _Verdict) else any(each.filtered for each in verdict)

"""Images and audio: real containers of nothing, with the usage that is billed for them.

Shapes: https://platform.openai.com/docs/api-reference/images, .../audio. Image output tokens by size and quality:
https://platform.openai.com/docs/guides/image-generation#cost-and-latency.
"""

import base64
from collections.abc import Iterator

from devtools.simulator.answers import compose
from devtools.simulator.calls import Call, Event, Reply, Stream, to_json, unix_now
from devtools.simulator.errors import bad_request
from devtools.simulator.multipart import Form
from devtools.simulator.tokens import Json, count_text

_PNG = (  # one transparent pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
_IMAGE_TOKENS = {
    "1024x1024": {"low": 272, "medium": 1056, "high": 4160},
    "1024x1536": {"low": 408, "medium": 1584, "high": 6240},
    "1536x1024": {"low": 400, "medium": 1568, "high": 6208},
}
_PICTURE_TOKENS = 194
"""What one input picture costs."""
_BYTES_PER_SECOND = 32_000
"""The simulator takes any sound for 16 kHz, 16 bit, mono."""
_AUDIO_TOKENS_PER_SECOND = 10
_SPEECH_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "pcm": "audio/pcm",
}
_SPEECH_CHUNKS, _SPEECH_CHUNK_BYTES = 8, 4096


def images(call: Call) -> Reply | Stream:
    """POST images/generations, and images/edits and images/variations with pictures in a form."""
    given: Json = {**call.form.fields} if call.form is not None else call.body
    prompt = str(given.get("prompt") or "")
    if not prompt and not call.path.endswith("variations"):
        raise bad_request("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
    wanted = int(given.get("n") or 1)
    if not call.model.startswith("gpt-image"):
        return _untokened_images(call, given, prompt, wanted)
    size = given["size"] if given.get("size") in _IMAGE_TOKENS else "1024x1024"
    quality = given["quality"] if given.get("quality") in ("low", "medium", "high") else "medium"
    pictures = len(call.form.files) if call.form is not None else 0
    usage = _image_usage(count_text(prompt), pictures, wanted * _IMAGE_TOKENS[size][quality])
    shown = {"size": size, "quality": quality, "background": "opaque", "output_format": "png", "created_at": unix_now()}
    if call.is_stream:
        events = _image_events("image_edit" if pictures else "image_generation", shown, usage)
        return Stream(events=events, model=call.model, meter=lambda _: usage, error_name="error")
    fields = {**shown, "created": shown.pop("created_at"), "data": [{"b64_json": _PNG}] * wanted}
    del fields["created_at"]
    if not call.fault.no_usage:
        fields["usage"] = usage
    return Reply(body=to_json(fields), model=call.model, meter=lambda _: usage)


def _untokened_images(call: Call, given: Json, prompt: str, wanted: int) -> Reply:
    """DALL-E bills by picture; its answer has no usage, so the account counts pictures."""
    one: Json = {"revised_prompt": f"{prompt}, in daylight"}
    if given.get("response_format") == "b64_json":
        one["b64_json"] = _PNG
    else:
        one["url"] = f"https://images.simulator.invalid/{call.key(prompt).hex()}.png"
    counted = {
        "images": wanted,
        "size": given.get("size") or "1024x1024",
        "quality": given.get("quality") or "standard",
    }
    body = to_json({"created": unix_now(), "data": [one] * wanted})
    return Reply(body=body, model=call.model, meter=lambda _: counted)


def _image_usage(text: int, pictures: int, output: int) -> Json:
    seen = pictures * _PICTURE_TOKENS
    return {
        "input_tokens": text + seen,
        "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens": output,
        "total_tokens": text + seen + output,
    }


def _image_events(name: str, shown: Json, usage: Json) -> Iterator[Event]:
    partial, done = f"{name}.partial_image", f"{name}.completed"
    yield Event(to_json({"type": partial, "partial_image_index": 0, "b64_json": _PNG, **shown}), 0, partial)
    yield Event(to_json({"type": done, "b64_json": _PNG, **shown, "usage": usage}), 0, done)


def transcriptions(call: Call) -> Reply | Stream:
    """POST audio/transcriptions and audio/translations. Whisper bills seconds, the others tokens."""
    if call.form is None or not call.form.files:
        raise bad_request("'file' is a required property", "file")
    data = call.form.files[0].data
    seconds = max(1, round(len(data) / _BYTES_PER_SECOND))
    answer = compose(
        call.ask(call.key("").hex() + str(len(data)), None, reasons=False, length=4 + 3 * min(seconds, 100))
    )
    text = answer.texts[0].strip()
    usage = _transcript_usage(call, seconds, answer.tokens.output)
    wanted = call.form.fields.get("response_format", "json")
    if call.is_stream and not call.model.startswith("whisper"):
        return Stream(
            events=_transcript_events(answer.choices[0], text, usage), model=call.model, meter=lambda _: usage
        )
    if wanted not in ("json", "verbose_json", "diarized_json"):
        return Reply(
            body=_captions(wanted, text, seconds), content_type="text/plain", model=call.model, meter=lambda _: usage
        )
    fields: Json = {"text": text}
    if wanted == "verbose_json":
        fields |= _verbose(call.form, call.path.rpartition("/")[2], text, seconds)
    if not call.fault.no_usage:
        fields["usage"] = usage
    return Reply(body=to_json(fields), model=call.model, tokens=answer.tokens.output, meter=lambda _: usage)


def _transcript_usage(call: Call, seconds: int, output: int) -> Json:
    if call.model.startswith("whisper"):
        return {"type": "duration", "seconds": seconds}
    text = count_text(call.form.fields.get("prompt", "")) if call.form is not None else 0
    heard = seconds * _AUDIO_TOKENS_PER_SECOND
    return {
        "type": "tokens",
        "input_tokens": text + heard,
        "input_token_details": {"text_tokens": text, "audio_tokens": heard},
        "output_tokens": output,
        "total_tokens": text + heard + output,
    }


def _transcript_events(pieces: tuple[str, ...], text: str, usage: Json) -> Iterator[Event]:
    delta, done = "transcript.text.delta", "transcript.text.done"
    for said, piece in enumerate(pieces, start=1):
        yield Event(to_json({"type": delta, "delta": piece}), said, delta)
    yield Event(to_json({"type": done, "text": text, "usage": usage}), len(pieces), done)


def _captions(wanted: str, text: str, seconds: int) -> bytes:
    if wanted == "srt":
        return f"1\n00:00:00,000 --> 00:00:{seconds % 60:02},000\n{text}\n".encode()
    if wanted == "vtt":
        return f"WEBVTT\n\n00:00:00.000 --> 00:00:{seconds % 60:02}.000\n{text}\n".encode()
    return text.encode() + b"\n"


def _verbose(form: Form, operation: str, text: str, seconds: int) -> Json:
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": float(seconds),
        "text": text,
        "tokens": [50364],
        "temperature": 0.0,
    }
    scores = {"avg_logprob": -0.2, "compression_ratio": 1.1, "no_speech_prob": 0.01}
    return {
        "task": "translate" if operation == "translations" else "transcribe",
        "language": form.fields.get("language", "english"),
        "duration": float(seconds),
        "segments": [{**segment, **scores}],
    }


def speech(call: Call) -> Reply | Stream:
    """POST audio/speech: bytes in chunks, or events when `stream_format` is `sse`; only those say what was used."""
    text = str(call.body.get("input") or "")
    if not text:
        raise bad_request("'input' is a required property", "input")
    read, spoken = count_text(text), 2 * count_text(text)
    usage = {"input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken}
    sound = call.key(text) * (_SPEECH_CHUNK_BYTES // 32)
    if call.body.get("stream_format") == "sse":
        return Stream(events=_speech_events(sound, usage), model=call.model, meter=lambda _: usage)
    chunks = [Event(sound) for _ in range(_SPEECH_CHUNKS)]
    content_type = _SPEECH_TYPES.get(call.body.get("response_format") or "mp3", "audio/mpeg")
    return Stream(events=chunks, content_type=content_type, model=call.model, meter=lambda _: usage)


def _speech_events(sound: bytes, usage: Json) -> Iterator[Event]:
    delta, done = "speech.audio.delta", "speech.audio.done"
    encoded = base64.b64encode(sound).decode()
    for _ in range(_SPEECH_CHUNKS):
        yield Event(to_json({"type": delta, "audio": encoded}), 0, delta)
    yield Event(to_json({"type": done, "usage": usage}), 0, done)

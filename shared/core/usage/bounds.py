"""What a call may use at most, as far as its request tells: what is reserved until it has ended and told the truth.

Rule: an upper bound where one can be had without a tokenizer, in a few microseconds. It holds for what people write in any
script, escaped or not, for code, numbers, and Base64 (tests/core/usage/test_bounds.py counts). It does not for gibberish of
small letters (twice as many tokens at the worst), for what only the upstream sees (a conversation that it keeps, files by
their id, what tools fetch), and for models that count more for a picture than PICTURE_TOKENS. What a call used beyond it is
owed by the calls that follow.
"""

import re
from string import ascii_lowercase

import msgspec

from shared.core.usage.reading import TokenUsage

PICTURE_TOKENS = 4_000
"""For one picture that is shown. The most by the documented formulas is 3,779 (gpt-4.1-nano), but for gpt-4o-mini's 48,169:
https://platform.openai.com/docs/guides/images-vision#calculating-costs."""
_DRAWN_TOKENS = 6_240
"""For one picture that is made: 1024 x 1536 in high quality."""
_SOUND_BYTES_PER_TOKEN = 100
"""A second of sound is ten tokens, and a thousand bytes at the least: speech at 8 kbit/s. So a byte is a millisecond too."""

_SMALL_LETTERS = ascii_lowercase.encode()
_LETTERS_PER_TOKEN = 3
_PICTURES_INSIDE = re.compile(rb"data:image/[a-z0-9.+-]{1,20};base64,[A-Za-z0-9+/=_-]*+")
_SOUND_INSIDE = re.compile(rb'"data"\s*:\s*"[A-Za-z0-9+/=_-]*+"')
_PICTURES_NAMED = re.compile(rb'"image_url"\s*:')


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request says how much it may use."""

    text: bytes
    """A JSON body, or the prompt of a form."""
    form_bytes: int = 0
    """The size of a form."""
    files: int = 0
    """In a form."""
    choices: int = 1
    """How many answers it asks for."""
    output: int = 0
    """The most tokens of output, in all."""


def text_tokens(text: bytes) -> int:
    """The most tokens that a text is: one for each byte, but three small letters of ASCII share one."""
    small = len(text) - len(text.translate(None, _SMALL_LETTERS))
    return len(text) - small + -(-small // _LETTERS_PER_TOKEN)


def most_of_text(asked: Asked) -> TokenUsage:
    """What is read and written, with the pictures and the sound that stand in a JSON body."""
    (text, pictures), sound = _shown(asked.text), 0
    if has_sound := b"audio" in text:
        sound = sum(map(len, _SOUND_INSIDE.findall(text)))
        text = _SOUND_INSIDE.sub(b"", text)
    heard = -(-sound // _SOUND_BYTES_PER_TOKEN)
    return TokenUsage(
        input_tokens=text_tokens(text) + pictures * PICTURE_TOKENS + heard,
        audio_input_tokens=heard,
        output_tokens=asked.output,
        audio_output_tokens=asked.output if has_sound else None,
    )


def _shown(text: bytes) -> tuple[bytes, int]:
    """A JSON body without the pictures in it, and how many it shows, these and others."""
    if b"image" not in text:
        return text, 0
    pictures = max(len(_PICTURES_NAMED.findall(text)), text.count(b'"input_image"'))
    return _PICTURES_INSIDE.sub(b"", text), pictures


def most_of_input(asked: Asked) -> TokenUsage:
    """What is read only: embeddings, moderations."""
    return TokenUsage(input_tokens=text_tokens(asked.text))


def most_of_pictures(asked: Asked) -> TokenUsage:
    """Pictures made, of a prompt and of other pictures."""
    text, pictures = _shown(asked.text)
    return TokenUsage(
        input_tokens=text_tokens(text) + (asked.files + pictures) * PICTURE_TOKENS,
        output_tokens=asked.choices * _DRAWN_TOKENS,
        images=asked.choices,
    )


def most_of_sound(asked: Asked) -> TokenUsage:
    """Sound that is listened to."""
    heard = -(-asked.form_bytes // _SOUND_BYTES_PER_TOKEN)
    return TokenUsage(
        input_tokens=text_tokens(asked.text) + heard,
        audio_input_tokens=heard,
        output_tokens=asked.output,
        audio_ms=asked.form_bytes,
    )


def most_of_speech(asked: Asked) -> TokenUsage:
    """Text that is spoken."""
    return TokenUsage(
        input_tokens=text_tokens(asked.text),
        output_tokens=asked.output,
        audio_output_tokens=asked.output,
        characters=len(asked.text),
    )

"""What is reserved for a call is no less than what it may use."""

import base64
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.core.calls import most_of
from shared.core.money.prices import Price
from shared.core.money.pricing import most as most_money
from shared.core.usage import TokenUsage
from shared.core.usage.bounds import PICTURE_TOKENS, text_tokens
from shared.gateway import estimating
from tests.examples import call, inbound

DICE = random.Random(7)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def some(alphabet: str, length: int = 2000) -> str:
    return "".join(DICE.choices(alphabet, k=length))


TEXTS = {
    "English": "The gateway authenticates each client, chooses a deployment, and moves bytes; it reads no more. " * 10,
    "odd words": " ".join(DICE.choices(["xylophone", "quay", "zephyr", "rhythmic", "kumquat", "jejune"], k=300)),
    "German": "Die Straßenbahnhaltestelle wurde kürzlich für Rollstuhlfahrer geöffnet, größtenteils kostenlos. " * 10,
    "Russian": "Искусственный интеллект меняет мир, способ работы и повседневную жизнь. " * 10,
    "Greek": "η τεχνητή νοημοσύνη αλλάζει τον κόσμο και τον τρόπο που εργαζόμαστε. " * 10,
    "Chinese": "人工智能正在改变世界的工作方式和生活方式。许多人对此感到兴奋。" * 10,
    "rare Chinese": "".join(chr(DICE.randrange(0x4E00, 0x9FFF)) for _ in range(1000)),
    "rarest Chinese": "".join(chr(DICE.randrange(0x20000, 0x2A6DF)) for _ in range(300)),
    "Japanese": "今日はとても天気が良いので、散歩に行きたいと思います。カタカナも少し。" * 10,
    "Korean": "안녕하세요 오늘 날씨가 매우 좋습니다 산책을 가고 싶습니다." * 10,
    "Arabic": "الذكاء الاصطناعي يغير العالم وطريقة عملنا وحياتنا اليومية." * 10,
    "Hindi": "कृत्रिम बुद्धिमत्ता दुनिया को बदल रही है और हमारे जीवन को भी।" * 10,
    "Thai": "ปัญญาประดิษฐ์กำลังเปลี่ยนแปลงโลกและวิถีชีวิตของเรา" * 10,
    "Amharic": "ሰላም እንዴት ነህ ዛሬ አየሩ ጥሩ ነው" * 10,
    "emoji": "😀🚀🎉🤖👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "any character": "".join(chr(DICE.randrange(0xA0, 0xD7FF)) for _ in range(1000)),
    "Base64": base64.b64encode(DICE.randbytes(3000)).decode(),
    "hexadecimal": DICE.randbytes(1500).hex(),
    "digits": some("0123456789"),
    "digits apart": " ".join(some("0123456789")),
    "letters apart": " ".join(some(LETTERS)),
    "letters, small and large": some(LETTERS + LETTERS.upper()),
    "punctuation": some("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"),
    "Python": Path(estimating.__file__).read_text(),
    "minified JavaScript": "function a(b,c){return b?c[b]:null}var d={e:1,f:[2,3]};for(var g in d)a(g,d);" * 20,
    "JSON": json.dumps([{"id": number, "name": f"n{number}", "v": number * 1.37} for number in range(100)]),
    "CSV": "\n".join(f"{number},{DICE.random():.6f},{DICE.choice('AB')}" for number in range(200)),
}


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as it is"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_script_has_more_tokens_than_are_reserved(text: str, *, escaped: bool) -> None:
    """Held against both vocabularies."""
    body = json.dumps(text, ensure_ascii=escaped).encode()
    for vocabulary in ("o200k_base", "cl100k_base"):
        assert estimating._count([text], vocabulary) <= text_tokens(body)


def test_prose_reserves_at_most_two_and_a_half_times_what_it_is() -> None:
    """A bound that refuses what would fit is of no use either."""
    assert text_tokens(TEXTS["English"].encode()) <= 2.5 * estimating._count([TEXTS["English"]], "o200k_base")


def test_gibberish_of_small_letters_is_the_known_exception() -> None:
    text = some(LETTERS)
    assert text_tokens(text.encode()) < estimating._count([text], "cl100k_base") <= 2 * text_tokens(text.encode())


def most(path: str, body: bytes, content_type: str = "application/json") -> TokenUsage:
    return most_of(call(body, inbound(f"/v1/{path}", content_type=content_type)), 1000)


def chat(*parts: dict[str, Any], **fields: Any) -> TokenUsage:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}], **fields}
    return most("chat/completions", json.dumps(body).encode())


def test_output_is_the_stated_maximum_or_the_default_for_each_choice() -> None:
    assert chat().output_tokens == 1000
    assert chat(n=3).output_tokens == 3000
    assert chat(n=3, max_tokens=50).output_tokens == 150
    assert chat(max_tokens=-5, n=-1).output_tokens == 0, "nonsense is not a credit"
    assert chat(max_tokens=50, max_output_tokens=1).output_tokens == 50, "the upstream may know one name only"


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": "a", "n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b", "c"], "n": 2}, 6),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": []}, 1),
    ],
)
def test_every_text_that_is_written_counts(fields: dict[str, Any], texts: int) -> None:
    body = {"model": "m", "max_tokens": 50, **fields}
    assert most("completions", json.dumps(body).encode()).output_tokens == 50 * texts


PICTURE = base64.b64encode(DICE.randbytes(300_000)).decode()
SHOWN: dict[str, tuple[dict[str, Any], int]] = {
    "inside": ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}, 1),
    "by address": ({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}, 1),
    "inside, in the words of Responses": ({"type": "input_image", "image_url": f"data:image/jpeg;base64,{PICTURE}"}, 1),
    "by id, in the words of Responses": ({"type": "input_image", "file_id": "file-1234567A"}, 1),
}


@pytest.mark.parametrize(("part", "pictures"), SHOWN.values(), ids=SHOWN.keys())
def test_a_picture_counts_as_one_however_large(part: dict[str, Any], pictures: int) -> None:
    text = 500
    tokens = chat(part, part).input_tokens or 0
    assert 2 * pictures * PICTURE_TOKENS < tokens < 2 * pictures * PICTURE_TOKENS + text


def test_sound_counts_by_its_length() -> None:
    sound = base64.b64encode(DICE.randbytes(60_000)).decode()  # a minute at the least rate
    usage = chat({"type": "input_audio", "input_audio": {"data": sound, "format": "mp3"}})
    assert 800 <= (usage.audio_input_tokens or 0) <= 802
    assert usage.audio_output_tokens == usage.output_tokens


def form(**fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + "x" * 60_000 + "\r\n--b--\r\n"
    return ("".join(parts) + file).encode()


FORM = "multipart/form-data; boundary=b"


def test_what_is_billed_by_another_measure_is_reserved_in_it() -> None:
    drawn = most("images/generations", b'{"model":"dall-e-3","prompt":"a pier","n":3}')
    edited = most("images/edits", form(model="gpt-image-1", prompt="night", n="2"), FORM)
    in_json = {"model": "gpt-image-1", "prompt": "night", "images": [{"image_url": f"data:image/png;base64,{PICTURE}"}]}
    edited_in_json = most("images/edits", json.dumps(in_json).encode())
    heard = most("audio/transcriptions", form(model="whisper-1"), FORM)
    spoken = most("audio/speech", b'{"model":"tts-1","input":"Mind the gap","voice":"alloy"}')
    assert (drawn.images, edited.images) == (3, 2)
    assert (edited.input_tokens or 0) >= PICTURE_TOKENS
    assert PICTURE_TOKENS < (edited_in_json.input_tokens or 0) < 2 * PICTURE_TOKENS
    assert (heard.audio_ms or 0) >= 60_000
    assert (spoken.characters or 0) >= len("Mind the gap")
    assert most("embeddings", b'{"model":"m","input":"x"}').output_tokens is None

    price = Price(model="m", image=Decimal("0.04"), audio_minute=Decimal("0.006"), characters=Decimal(15))
    assert most_money(price, drawn) == Decimal("0.12")
    assert most_money(price, heard) >= Decimal("0.006")
    assert most_money(price, spoken) >= Decimal("0.00018")


def test_every_measure_that_is_priced_is_bounded_by_some_operation() -> None:
    """Guards that a class of usage that gets a price gets a bound too."""
    bounded = {
        "input_tokens",
        "output_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "images",
        "audio_ms",
        "characters",
    }
    parts = {
        "cached_input_tokens",
        "cache_write_input_tokens",
        "image_input_tokens",
        "reasoning_tokens",
        "image_output_tokens",
    }
    assert {each.name for each in msgspec.structs.fields(TokenUsage)} == bounded | parts

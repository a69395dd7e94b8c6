"""Images, audio and moderations."""

import pytest

SOUND = ("talk.wav", b"\0" * 96_000)


async def test_images_of_gpt_image_are_billed_in_tokens_by_size_and_quality(client, azure):
    for sdk in (client, azure):
        made = await sdk.images.generate(model="gpt-image-1", prompt="a gate", n=2, size="1024x1536", quality="high")
        assert len(made.data) == 2
        assert made.data[0].b64_json
        assert (made.size, made.quality) == ("1024x1536", "high")
        assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 2 * 6240)


async def test_images_of_dalle_have_no_usage_but_the_account_counts_them(client, simulator):
    made = await client.images.generate(model="dall-e-3", prompt="a gate")
    assert made.data[0].url.startswith("https://")
    assert made.usage is None
    assert (await simulator.settled())[0].usage == {"images": 1, "size": "1024x1024", "quality": "standard"}


async def test_image_edits_bill_the_pictures_they_look_at(client):
    pictures = [("a.png", b"1", "image/png"), ("b.png", b"2", "image/png")]
    made = await client.images.edit(model="gpt-image-1", image=pictures, prompt="a gate")
    assert made.usage.input_tokens_details.image_tokens == 2 * 194


async def test_images_can_be_streamed(client):
    stream = await client.images.generate(model="gpt-image-1", prompt="a gate", stream=True, partial_images=1)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].usage.output_tokens == 1056


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK says so of translations
async def test_whisper_bills_seconds(client, azure):
    for sdk in (client, azure):
        made = await sdk.audio.transcriptions.create(model="whisper-1", file=SOUND)
        assert (made.usage.type, made.usage.seconds) == ("duration", 3)
        verbose = await sdk.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format="verbose_json")
        assert (verbose.text, verbose.duration) == (made.text, 3)
        assert verbose.segments[0].end == 3
        translated = await sdk.audio.translations.create(model="whisper-1", file=SOUND)
        assert translated.text == made.text


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
async def test_transcripts_as_text_have_no_usage_but_the_account_knows_it(client, simulator, wanted):
    text = await client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format=wanted)
    assert isinstance(text, str)
    assert (await simulator.settled())[0].usage == {"type": "duration", "seconds": 3}


async def test_other_transcriptions_bill_tokens_and_stream(client):
    made = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND)
    assert (made.usage.type, made.usage.input_token_details.audio_tokens) == ("tokens", 30)
    stream = await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "transcript.text.done"
    assert (events[-1].text, events[-1].usage.model_dump()) == (made.text, made.usage.model_dump())


async def test_speech_is_bytes_and_events_say_what_it_cost(client, azure, wire):
    for sdk in (client, azure):
        async with sdk.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="alloy", input="Hello there", response_format="wav"
        ) as response:
            assert response.headers["content-type"] == "audio/wav"
            assert len(await response.read()) == 8 * 4096
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello there", "stream_format": "sse"}
    events = (await wire.post("/v1/audio/speech", json=body)).text
    assert '"usage":{"input_tokens":3,"output_tokens":6,"total_tokens":9}' in events


async def test_moderations_flag_violence(client):
    made = await client.moderations.create(input=["peace", "violence"])
    assert [result.flagged for result in made.results] == [False, True]
    assert made.results[1].categories.violence

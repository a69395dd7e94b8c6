"""What a request said."""

import base64
import json
from typing import Any

import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.api.prompt_text import Message, prompt_text

OPERATIONS = {operation.name: operation for operation in CATALOGUE}
DATA = base64.b64encode(b"x" * 100).decode()

PROMPTS: dict[str, tuple[str, Any, list[tuple[str, str]]]] = {
    "messages": (
        "chat.completions",
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "grüß\u2028dich"}]},
        [("system", "Be brief."), ("user", "grüß\u2028dich")],
    ),
    "pictures and sound": (
        "chat.completions",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is "},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
                        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}"}},
                        {"type": "file", "file": {"file_id": "file-1"}},
                        {"type": "image_url", "image_url": None},
                    ],
                }
            ]
        },
        [
            (
                "user",
                "What is [image 100 bytes][image https://example.com/a.png][audio 100 bytes][file 100 bytes]"
                "[file file-1][image without data]",
            )
        ],
    ),
    "tools": (
        "chat.completions",
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "function": {"name": "find", "arguments": '{"q":1}'}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "found"},
            ]
        },
        [("assistant", '[calls find({"q":1})]'), ("tool", "found")],
    ),
    "a completion": ("completions", {"prompt": "Once"}, [("user", "Once")]),
    "completions": ("completions", {"prompt": ["Once", "Twice"]}, [("user", "Once"), ("user", "Twice")]),
    "tokens": ("completions", {"prompt": [1, 2, 3]}, [("user", "[3 tokens]")]),
    "lists of tokens": ("embeddings", {"input": [[1, 2], [3]]}, [("user", "[2 tokens]"), ("user", "[1 tokens]")]),
    "embeddings": ("embeddings", {"input": ["a", "b"]}, [("user", "a"), ("user", "b")]),
    "a response": (
        "responses",
        {"input": "hi", "instructions": "Be brief."},
        [("system", "Be brief."), ("user", "hi")],
    ),
    "items": (
        "responses",
        {
            "input": [
                {"role": "developer", "content": "Be brief."},
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "See "},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"},
                        {"type": "input_file", "file_data": DATA},
                        {"type": "input_file", "file_id": "file-1"},
                    ],
                },
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": DATA},
                {"type": "function_call", "call_id": "1", "name": "find", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "found"},
                {"type": "item_reference", "id": "msg_1"},
            ]
        },
        [
            ("developer", "Be brief."),
            ("user", "See [image 100 bytes][file 100 bytes][file file-1]"),
            ("assistant", "[reasoning]hm"),
            ("assistant", "[calls find({})]"),
            ("tool", "found"),
            ("user", "[item_reference]"),
        ],
    ),
    "an image": ("images.generate", {"prompt": "a gate"}, [("user", "a gate")]),
    "speech": (
        "audio.speech",
        {"input": "Hello", "instructions": "Softly."},
        [("system", "Softly."), ("user", "Hello")],
    ),
    "moderations": (
        "moderations",
        {"input": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://e.com/a"}}]},
        [("user", "a"), ("user", "[image https://e.com/a]")],
    ),
    "nothing said": ("chat.completions", {"messages": []}, []),
    "null": ("responses", {"input": None}, []),
    "of another shape": ("chat.completions", {"messages": 7}, [("user", "[int]")]),
    "no words in it": ("files.list", {"prompt": "a"}, []),
}


@pytest.mark.parametrize(("operation", "body", "messages"), PROMPTS.values(), ids=PROMPTS.keys())
def test_what_a_request_says(operation: str, body: Any, messages: list[tuple[str, str]]) -> None:
    assert prompt_text(OPERATIONS[operation], json.dumps(body).encode()) == tuple(Message(*each) for each in messages)


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="talk.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"\x00\r\n--\xff\r\n\r\n\r\n--b--\r\n"
)


def test_a_form_says_its_prompt_and_how_large_its_files_are() -> None:
    assert prompt_text(OPERATIONS["audio.transcriptions"], FORM) == (
        Message("user", "Grüße"),
        Message("user", "[audio talk.wav 10 bytes]"),
    )
    as_bytes = FORM.replace(b"audio/wav", b"application/octet-stream")
    assert prompt_text(OPERATIONS["audio.transcriptions"], as_bytes)[1].content == "[file talk.wav 10 bytes]"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"messages":[{"role":"\xff"}]}', b'{"input":' + b"[" * 99_999])
@pytest.mark.parametrize("operation", ["chat.completions", "audio.transcriptions"])
def test_a_request_that_cannot_be_read_says_nothing(operation: str, body: bytes) -> None:
    assert prompt_text(OPERATIONS[operation], body) == ()

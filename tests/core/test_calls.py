"""From a client's request to an upstream's, in every pair of styles."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.api.upstream_requests import upstream_request
from shared.core.configuration import UpstreamKind
from shared.core.errors import BadRequest
from shared.core.headers import Headers, get
from tests.examples import call, inbound, target

OPENAI, AZURE, AZURE_V1 = UpstreamKind.OPENAI, UpstreamKind.AZURE, UpstreamKind.AZURE_V1

PATHS = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/deployments/gpt-4o/chat/completions",
    "azure-v1": "/openai/v1/chat/completions",
}
HOST = "https://contoso.example"
URLS = {
    # client, its query, upstream -> URL
    ("openai", "", OPENAI): f"{HOST}/chat/completions",
    ("openai", "", AZURE): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ("openai", "", AZURE_V1): f"{HOST}/openai/v1/chat/completions",
    (
        "openai",
        "api-version=2099-01-01",
        AZURE,
    ): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ("openai", "a=1&b=%20", OPENAI): f"{HOST}/chat/completions?a=1&b=%20",
    ("azure", "api-version=2024-06-01", OPENAI): f"{HOST}/chat/completions",
    (
        "azure",
        "api-version=2024-06-01",
        AZURE,
    ): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-06-01",
    ("azure", "api-version=2024-06-01", AZURE_V1): f"{HOST}/openai/v1/chat/completions",
    ("azure", "", AZURE): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ("azure", "api-version=", AZURE): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ("azure", "x=1&api-version=v&y=2", AZURE): f"{HOST}/openai/deployments/dep/chat/completions?api-version=v&x=1&y=2",
    ("azure", "API%2DVersion=v", AZURE): f"{HOST}/openai/deployments/dep/chat/completions?api-version=v",
    ("openai", "x=1&api-key=tg-k&Api%2DKey=k&code=c&subscription-key=k&codec=y", OPENAI): (
        f"{HOST}/chat/completions?x=1&codec=y"
    ),
    ("azure-v1", "", OPENAI): f"{HOST}/chat/completions",
    (
        "azure-v1",
        "api-version=preview",
        AZURE,
    ): f"{HOST}/openai/deployments/dep/chat/completions?api-version=2024-10-21",
    ("azure-v1", "", AZURE_V1): f"{HOST}/openai/v1/chat/completions",
}

BODY = b'{"model":"gpt-4o","messages":[]}'


@pytest.mark.parametrize(("case", "url"), URLS.items(), ids=map(str, URLS))
def test_the_url_is_written_in_the_upstreams_way(case: tuple[str, str, UpstreamKind], url: str) -> None:
    style, query, kind = case
    request = upstream_request(call(BODY, inbound(PATHS[style], query)), target(kind, "dep"), "upstream-key")
    assert (request.method, request.url) == ("POST", url)


def test_a_deployments_name_is_percent_encoded_for_the_upstream() -> None:
    request = upstream_request(call(BODY), target(AZURE, "my model/v2?ü"), "upstream-key")
    assert "/openai/deployments/my%20model%2Fv2%3F%C3%BC/chat/completions?" in request.url


@pytest.mark.parametrize("style", PATHS)
def test_a_model_in_the_path_wins_over_the_body(style: str) -> None:
    made = call(b'{"model":"other"}', inbound(PATHS[style]))
    assert made.model == ("gpt-4o" if style == "azure" else "other")


CREDENTIALS = {
    OPENAI: (("authorization", "Bearer upstream-key"),),
    AZURE: (("api-key", "upstream-key"),),
    AZURE_V1: (("api-key", "upstream-key"),),
}
SECRETS = {
    "authorization": "Bearer tg-secret",
    "api-key": "tg-secret",
    "cookie": "tg-secret",
    "ocp-apim-subscription-key": "tg-secret",
    "x-functions-key": "tg-secret",
    "proxy-authorization": "tg-secret",
    "x-ms-token-aad-access-token": "tg-secret",
    "x-ms-client-principal": "tg-secret",
    "x-ms-spillover-deployment": "tg-secret",
}


@pytest.mark.parametrize(("kind", "credential"), CREDENTIALS.items())
def test_the_upstream_gets_its_own_credential_and_none_of_the_clients(kind: UpstreamKind, credential: Headers) -> None:
    """Guards that a client's secrets end at the gateway."""
    request = upstream_request(call(BODY, inbound(PATHS["azure"], **SECRETS)), target(kind), "upstream-key")
    assert [line for line in request.headers if line[0] in {"authorization", "api-key"}] == list(credential)
    assert "tg-secret" not in str(request)


def test_other_headers_reach_the_upstream_as_they_came() -> None:
    request = upstream_request(
        call(BODY, inbound(openai_organization="org", x_custom="1", host="ours")), target(), "upstream-key"
    )
    assert get(request.headers, "openai-organization") == "org"
    assert get(request.headers, "x-custom") == "1"
    assert get(request.headers, "host") is None


ENCODINGS = {
    "offered": ("gzip, deflate, br", b"{}", "gzip"),
    "not offered": ("br", b"{}", "identity"),
    "nothing said": ("", b"{}", "identity"),
    "an event is to be taken out": ("gzip", b'{"stream":true}', "identity"),
    "the client wants its usage itself": ("gzip", b'{"stream":true,"stream_options":{"include_usage":true}}', "gzip"),
}


@pytest.mark.parametrize(("offered", "body", "asked"), ENCODINGS.values(), ids=ENCODINGS.keys())
def test_an_encoding_is_asked_for_only_where_usage_can_be_read_in_it(offered: str, body: bytes, asked: str) -> None:
    request = upstream_request(call(body, inbound(PATHS["azure"], accept_encoding=offered)), target(), "upstream-key")
    assert [value for name, value in request.headers if name == "accept-encoding"] == [asked]


UNCHANGED = {
    "the model has the same name there": (OPENAI, b' { "model" : "gpt-4o" , "n" : 1.0 }\n', "gpt-4o"),
    "Azure names the model in the URL": (AZURE, b' { "model" : "gpt-4o" }', "dep"),
    "the client asked for usage": (
        OPENAI,
        b'{"model": "gpt-4o", "stream": true, "stream_options": {"include_usage": true}}',
        "gpt-4o",
    ),
    "not a stream": (AZURE, b'{"model": "gpt-4o", "stream": false}', "dep"),
    "stream null": (AZURE, b'{"model": "gpt-4o", "stream": null}', "dep"),
}


@pytest.mark.parametrize(("kind", "body", "deployment"), UNCHANGED.values(), ids=UNCHANGED.keys())
def test_a_body_that_needs_no_change_is_passed_on_byte_for_byte(
    kind: UpstreamKind, body: bytes, deployment: str
) -> None:
    request = upstream_request(call(body), target(kind, deployment), "upstream-key")
    assert request.body == body
    assert not request.asks_usage


CHANGED = {
    "the model, where it stands": (
        b'{"messages":[{"role":"user"}], "model":"gpt-4o", "user":"u"}',
        b'{"messages":[{"role":"user"}],"model":"dep","user":"u"}',
    ),
    "numbers keep their spelling": (
        b'{"model":"gpt-4o","temperature":1.0,"top_p":1e0,"x":1e400,"y":123456789012345678901234567890,"z":-0.0}',
        b'{"model":"dep","temperature":1.0,"top_p":1e0,"x":1e400,"y":123456789012345678901234567890,"z":-0.0}',
    ),
    "texts keep their escapes": (
        '{"model":"gpt-4o","a":"\\u00fc\\/ü"}'.encode(),
        '{"model":"dep","a":"\\u00fc\\/ü"}'.encode(),
    ),
    "what nobody knows stays": (
        b'{"model":"gpt-4o","new_field":{"model":"gpt-4o","b":[ 1 ,2]},"null":null}',
        b'{"model":"dep","new_field":{"model":"gpt-4o","b":[ 1 ,2]},"null":null}',
    ),
}


@pytest.mark.parametrize("kind", [OPENAI, AZURE_V1])
@pytest.mark.parametrize(("body", "expected"), CHANGED.values(), ids=CHANGED.keys())
def test_only_the_model_is_replaced(body: bytes, expected: bytes, kind: UpstreamKind) -> None:
    assert upstream_request(call(body), target(kind, "dep"), "upstream-key").body == expected


def test_a_model_from_the_path_is_added_where_the_upstream_reads_it_in_the_body() -> None:
    request = upstream_request(call(b'{"n":1}', inbound(PATHS["azure"])), target(OPENAI, "dep"), "upstream-key")
    assert request.body == b'{"n":1,"model":"dep"}'


OUR_FIELDS = {
    *("model", "stream", "stream_options", "store", "user", "safety_identifier"),
    *("n", "max_tokens", "max_completion_tokens", "max_output_tokens"),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in OUR_FIELDS), VALUES, max_size=5))
def test_every_other_field_survives_a_change_in_its_place(fields: dict[str, Any]) -> None:
    sent = fields | {"model": "gpt-4o", "stream": None, "user": "u"}
    request = upstream_request(call(json.dumps(sent).encode()), target(OPENAI, "dep"), "upstream-key")
    assert list(json.loads(request.body).items()) == list((sent | {"model": "dep"}).items())


STREAM = b'{"model":"gpt-4o","stream":true}'
ASKS = {
    "OpenAI": ("openai", "", OPENAI, "", True),
    "Azure v1": ("openai", "", AZURE_V1, "", True),
    "the first api-version that knows it": ("azure", "api-version=2024-09-01-preview", AZURE, "", True),
    "a later one": ("azure", "api-version=2025-04-01-preview", AZURE, "", True),
    "an earlier one": ("azure", "api-version=2024-08-01-preview", AZURE, "", False),
    "the upstream's own, known": ("openai", "", AZURE, "2024-10-21", True),
    "the upstream's own, too early": ("openai", "", AZURE, "2024-06-01", False),
    "the client's does not matter to OpenAI": ("azure", "api-version=2024-02-01", OPENAI, "", True),
}


@pytest.mark.parametrize(("style", "query", "kind", "own", "asks"), ASKS.values(), ids=ASKS.keys())
def test_usage_is_asked_for_where_the_upstream_can_tell_it(
    style: str, query: str, kind: UpstreamKind, own: str, *, asks: bool
) -> None:
    extra = {"api_version": own} if own else {}
    request = upstream_request(call(STREAM, inbound(PATHS[style], query)), target(kind, **extra), "upstream-key")
    assert request.asks_usage is asks
    assert json.loads(request.body).get("stream_options") == ({"include_usage": True} if asks else None)


OPTIONS = {
    "none": (b"", b'{"include_usage":true}'),
    "null": (b',"stream_options":null', b'{"include_usage":true}'),
    "refused": (b',"stream_options":{"include_usage":false}', b'{"include_usage":true}'),
    "others stay": (
        b',"stream_options":{"include_obfuscation":false,"x":1.0}',
        b'{"include_obfuscation":false,"x":1.0,"include_usage":true}',
    ),
}


@pytest.mark.parametrize(("options", "expected"), OPTIONS.values(), ids=OPTIONS.keys())
def test_the_clients_stream_options_stay(options: bytes, expected: bytes) -> None:
    request = upstream_request(call(STREAM[:-1] + options + b"}"), target(AZURE), "upstream-key")
    assert request.asks_usage
    assert request.body == b'{"model":"gpt-4o","stream":true,"stream_options":' + expected + b"}"


@pytest.mark.parametrize("value", [b"true", b"false", b"null"])
def test_usage_is_the_clients_only_where_it_asked_for_it(value: bytes) -> None:
    body = b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":' + value + b"}}"
    assert call(body).wants_usage is (value == b"true")


END_USERS = {
    "user": (b'"user":"u"', "u"),
    "safety_identifier": (b'"safety_identifier":"s"', "s"),
    "both": (b'"user":"u","safety_identifier":"s"', "s"),
    "the new one empty": (b'"user":"u","safety_identifier":""', "u"),
    "neither": (b'"n":1', None),
    "null": (b'"user":null', None),
}


@pytest.mark.parametrize(("field", "end_user"), END_USERS.values(), ids=END_USERS.keys())
def test_the_end_user_in_the_clients_words(field: bytes, end_user: str | None) -> None:
    assert call(b'{"model":"gpt-4o",' + field + b"}").end_user == end_user


BAD = {
    "empty": (b"", None),
    "not JSON": (b"{", None),
    "not an object": (b"[]", None),
    "text behind": (b"{} x", None),
    "a key that is not UTF-8": (b'{"\xff":1}', None),
    "nested beyond reason": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "no model": (b"{}", "model"),
    "model null": (b'{"model":null}', "model"),
    "model empty": (b'{"model":""}', "model"),
    "model not a text": (b'{"model":1}', "model"),
    "model not UTF-8": (b'{"model":"\xff"}', "model"),
    "stream not a boolean": (b'{"model":"m","stream":"yes"}', "stream"),
    "stream_options not an object": (b'{"model":"m","stream_options":[]}', "stream_options"),
    "include_usage not a boolean": (b'{"model":"m","stream_options":{"include_usage":1}}', "stream_options"),
    "user not a text": (b'{"model":"m","user":7}', "user"),
}


@pytest.mark.parametrize(("body", "param"), BAD.values(), ids=BAD.keys())
def test_a_body_that_cannot_be_routed_is_refused_with_the_field_that_is_wrong(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        call(body)
    assert caught.value.param == param


def test_a_query_that_no_http_client_could_send_on_is_refused() -> None:
    with pytest.raises(BadRequest):
        call(BODY, inbound(query="x=" + "a" * 33_000))


HALF = b'{"messages":[{"role":"user","content":"\\ud83d"}],"model":"gpt-4o"}'


def test_half_a_surrogate_pair_is_the_upstreams_to_judge() -> None:
    request = upstream_request(call(HALF), target(OPENAI, "gpt-4o"), "upstream-key")
    assert request.body == HALF
    renamed = upstream_request(call(HALF), target(OPENAI, "dep"), "upstream-key")
    assert renamed.body == HALF.replace(b"ud83d", b"ufffd").replace(b"gpt-4o", b"dep")


REPEATED = {
    "the model": (
        b'{"model":"gpt-5","messages":[],"model":"gpt-4o"}',
        b'{"model":"gpt-4o","messages":[]}',
    ),
    "the model, disguised": (
        b'{"mode\\u006c":"gpt-5","model":"gpt-4o"}',
        b'{"model":"gpt-4o"}',
    ),
    "the most it may produce": (
        b'{"model":"gpt-4o","max_tokens":9999,"max_tokens":1}',
        b'{"model":"gpt-4o","max_tokens":1}',
    ),
}


@pytest.mark.parametrize(("body", "expected"), REPEATED.values(), ids=REPEATED.keys())
def test_a_field_that_stands_twice_reaches_the_upstream_as_it_was_read(body: bytes, expected: bytes) -> None:
    """Where an upstream took the other one, a client could have a model that it may not use."""
    made = call(body)
    assert made.model == "gpt-4o"
    assert upstream_request(made, target(OPENAI, "gpt-4o"), "upstream-key").body == expected


def test_a_model_in_other_letters_is_refused() -> None:
    """Servers written in Go take `Model` for `model`."""
    with pytest.raises(BadRequest, match="Write 'model' for 'MODEL'"):
        call(b'{"model":"gpt-4o","MODEL":"gpt-5","messages":[]}')


def test_a_form_with_two_models_is_refused() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    form = inbound("/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")
    with pytest.raises(BadRequest, match="more than once"):
        call(part % b"whisper-1" + part % b"gpt-5" + b"--b--", form)


SKIPPED = {
    "headers that are too long": (b"\r\nX-Y: " + b"z" * 5000 + b"\r\n", "not every reader"),
    "a delimiter that LF ends": (b"\n", "not every reader"),
    "a padded delimiter": (b" \r\n", "more than once"),
}


@pytest.mark.parametrize(("between", "words"), SKIPPED.values(), ids=SKIPPED.keys())
@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/videos", "/v1/audio/transcriptions"])
def test_a_second_model_in_a_part_that_others_may_see_is_refused(path: str, between: bytes, words: str) -> None:
    part = b'Content-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    body = b"--b\r\n" + part % b"gpt-4o" + b"--b" + between + part % b"gpt-5" + b"--b--\r\n"
    with pytest.raises(BadRequest, match=words):
        call(body, inbound(path, content_type="multipart/form-data; boundary=b"))


OTHERS_FILE = "file-0123456789abcdef"
UNREAD = {
    "a part for some readers only": (
        "multipart/form-data; boundary=b",
        f"--b\r\nContent-Disposition: form-data; name*=utf-8''file_id\r\n\r\n{OTHERS_FILE}\r\n--b--\r\n",
    ),
    "an encoded one": (
        "multipart/form-data; boundary=b",
        '--b\r\nContent-Disposition: form-data; name="file_id"\r\nContent-Transfer-Encoding: base64\r\n\r\nZg==\r\n--b--',
    ),
    "another kind of form": ("application/x-www-form-urlencoded", f"file_id={OTHERS_FILE}"),
}


@pytest.mark.parametrize(("content_type", "body"), UNREAD.values(), ids=UNREAD.keys())
def test_a_form_that_may_name_a_file_unread_is_refused(content_type: str, body: str) -> None:
    with pytest.raises(BadRequest):
        call(body.encode(), inbound("/v1/containers/cntr_1/files", content_type=content_type))


def test_a_form_that_can_name_nothing_may_have_parts_of_any_shape() -> None:
    body = b'--b\nContent-Disposition: form-data; name="file"; filename="x"\n\nx\n--b--\n'
    form = inbound("/v1/files", content_type="multipart/form-data; boundary=b")
    assert call(body, form).body == body


TWO_READERS = {
    "a boundary in another parameter": "multipart/form-data; xboundary=b; boundary=c",
    "two boundaries": "multipart/form-data; boundary=b; boundary=c",
    "an extended one": "multipart/form-data; boundary=b; boundary*=utf-8''c",
    "no form": "application/x-www-form-urlencoded",
    "none": "",
}


@pytest.mark.parametrize("path", ["/v1/images/edits", "/openai/deployments/gpt-4o/images/edits"])
@pytest.mark.parametrize("content_type", TWO_READERS.values(), ids=TWO_READERS.keys())
def test_a_form_that_could_be_read_in_two_ways_is_refused(path: str, content_type: str) -> None:
    """The upstream could see another model in it than the one that the client may use."""
    part = b'Content-Disposition: form-data; name="model"\r\n\r\n'
    body = b"--b\r\n" + part + b"gpt-4o\r\n--b--\r\n--c\r\n" + part + b"gpt-5\r\n--c--\r\n"
    with pytest.raises(BadRequest, match="one boundary"):
        call(body, inbound(path, content_type=content_type))


def test_two_content_types_are_two_ways_to_read_a_form() -> None:
    one, other = (("content-type", f"multipart/form-data; boundary={boundary}") for boundary in "bc")
    with pytest.raises(BadRequest, match="more than one Content-Type"):
        call(b"", msgspec.structs.replace(inbound("/v1/images/edits"), headers=(one, other)))


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/images/edits", "/openai/deployments/gpt-4o/images/edits"])
def test_json_in_place_of_a_form_is_read_and_translated(path: str) -> None:
    made = call(b'{"model":"gpt-4o","prompt":"a pier"}', inbound(path, content_type="application/json; charset=utf-8"))
    assert made.model == "gpt-4o"
    assert upstream_request(made, target(OPENAI, "dep"), "k").body == b'{"model":"dep","prompt":"a pier"}'


def test_a_model_that_json_in_place_of_a_form_names_is_not_taken_for_the_default() -> None:
    body = b'{"model":"sora-2-pro","prompt":"a pier"}'
    assert call(body, inbound("/v1/videos", content_type="application/json")).model == "sora-2-pro"

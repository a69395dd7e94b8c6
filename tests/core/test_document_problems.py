"""What is wrong with a document is told with the line it stands on and what to write instead."""

import json

import pytest

from shared.core.configuration import parse
from shared.core.document_lines import Place, line_of
from shared.core.document_problems import ConfigurationInvalid

TOML = '''# a comment
[[clients]]
id = "a"
keys = [
  # the first
  { id = "1" },
  { id = "2" }, { id = "3" },
]
limits.tokens_per_minute = 4

[[clients]]
id = """
[[clients]]
id = 1
"""
[clients.limits]
tokens_per_minute = 1
[[clients.keys]]
id = "q"
[[clients.keys]]
id = "r"
[[upstreams]]
"name" = "x"
tags = { one = 1, two = 2 }
'''

TOML_PLACES: dict[str, tuple[Place, int | None]] = {
    "a table": (("clients", 0), 2),
    "a field": (("clients", 0, "id"), 3),
    "an array over many lines": (("clients", 0, "keys"), 4),
    "an element of it": (("clients", 0, "keys", 0), 6),
    "the second on a line": (("clients", 0, "keys", 2), 7),
    "a field within an element": (("clients", 0, "keys", 1, "id"), 7),
    "a dotted name": (("clients", 0, "limits", "tokens_per_minute"), 9),
    "the second table of an array": (("clients", 1), 11),
    "what follows a string that looks like tables": (("clients", 1, "limits", "tokens_per_minute"), 17),
    "an array of tables in another": (("clients", 1, "keys", 1, "id"), 21),
    "a quoted name": (("upstreams", 0, "name"), 23),
    "a field of an inline table": (("upstreams", 0, "tags", "two"), 24),
    "a field that is missing": (("clients", 1, "name"), 11),
    "a section that is missing": (("deployments", 0), None),
    "the root": ((), None),
}

JSON = '{\n "clients": [{"id": "}"},\n  {\n "id"\n : "b",\n\n "keys": [ ]}],\n "models": null}'

JSON_PLACES: dict[str, tuple[Place, int | None]] = {
    "an array": (("clients",), 2),
    "an element": (("clients", 1), 3),
    "a value below its name": (("clients", 1, "id"), 5),
    "after an empty line": (("clients", 1, "keys"), 7),
    "an element of an empty array": (("clients", 1, "keys", 0), 7),
    "a field of no object": (("models", "x"), 8),
    "a section that is missing": (("deployments",), None),
    "the root": ((), None),
}


@pytest.mark.parametrize(("place", "line"), TOML_PLACES.values(), ids=TOML_PLACES.keys())
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_place_in_toml_has_a_line(place: Place, line: int | None, newline: str) -> None:
    assert line_of(TOML.replace("\n", newline), place) == line


@pytest.mark.parametrize(("place", "line"), JSON_PLACES.values(), ids=JSON_PLACES.keys())
def test_a_place_in_json_has_a_line(place: Place, line: int | None) -> None:
    assert line_of(JSON, place) == line


UPSTREAM = '[[upstreams]]\nname = "u"\nkind = "openai"\nurl = "http://u"\nkey = "k"\n'

PROBLEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a misspelt field, with the right one": (
        UPSTREAM + 'regoin = "x"',
        ("line 6: Object contains unknown field `regoin` - at `$.upstreams[0]`: did you mean `region`?",),
    ),
    "a field like no other, with all there are": (
        '[[models]]\nname = "m"\n\nzzz = 1',
        (
            "line 4: Object contains unknown field `zzz` - at `$.models[0]`: there are "
            "name, aliases, strategy, retry_unknown",
        ),
    ),
    "a misspelt section": ("[[client]]\nid = '1'", ("line 1: Object contains unknown field `client`: did you mean `clients`?",)),
    "no such choice, with the choices": (
        UPSTREAM.replace("openai", "aws"),
        ("line 3: Invalid enum value 'aws' - at `$.upstreams[0].kind`: write one of openai, azure, azure-v1",),
    ),
    "several, in the order of their lines": (
        '[[deployments]]\nname = 1\n[[clients]]\n[[clients]]\nid = "a"\nlimits.tokens_per_minute = 0',
        ("line 2: Expected `str`", "line 3: Object missing required field `id`", "line 6: Expected `int` >= 1"),
    ),
    "a second of the same name": (UPSTREAM * 2, ("line 7: upstream 'u' stands 2 times: names must be unique",)),
    "a setting that is not set": (
        UPSTREAM.replace('"k"', '"$K"'),
        ("line 5: upstream 'u' refers to $K, which is not set: add that setting",),
    ),
    "an upstream that is not there": (
        UPSTREAM + '[[deployments]]\nname = "d"\nmodel = "m"\nupstream = "v"',
        (
            "line 9: deployment 'd' names the upstream 'v', which is not defined: define it, or name one of u",
        ),
    ),
    "no TOML": ("a = 1\nb = [", ("not valid TOML: ",)),
    "no JSON": ('{\n "clients": [\n 1 2]}', ("not valid JSON: line 3: ",)),
    "JSON cut off": ('{\n "clients": [\n', ("not valid JSON: line 3: Input data was truncated",)),
}  # fmt: skip


@pytest.mark.parametrize(("text", "beginnings"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_problem_has_its_line_and_its_remedy(text: str, beginnings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse(text, {})
    assert len(caught.value.problems) == len(beginnings)
    for problem, beginning in zip(caught.value.problems, beginnings, strict=True):
        assert problem.startswith(beginning)


def test_json_names_the_line_as_toml_does() -> None:
    document = {"clients": [{"id": "a"}, {"id": "b", "nmae": "x"}]}
    with pytest.raises(ConfigurationInvalid, match=r"line 8: .*did you mean `name`"):
        parse(json.dumps(document, indent=1), {})

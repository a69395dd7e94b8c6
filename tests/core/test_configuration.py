"""The configuration document: what it says, and how it says what is wrong with it."""

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.core.configuration import UpstreamKind, parse
from shared.core.document_problems import ConfigurationInvalid

KEY = mint(bytes(RANDOM_BYTES))

TOML = f"""
[[upstreams]]
name = "east"
kind = "azure"
url = "https://$RESOURCE.openai.azure.com/"
key = "$EAST_KEY"
region = "East US"

[[upstreams]]
name = "openai"
kind = "openai"
url = "https://api.openai.com/v1"
key = "sk-literal"

[[deployments]]
name = "gpt-4o-east"
model = "gpt-4o"
upstream = "east"
deployment = "my gpt"

[[deployments]]
name = "mini"
model = "gpt-4o-mini"
upstream = "openai"

[[deployments]]
name = "gpt-4o-openai"
model = "gpt-4o"
upstream = "openai"

[[clients]]
id = "team-blue"
cost_center = "cc-1"
keys = [{{ id = "{KEY.hash.id}", salt = "{KEY.hash.salt}", hash = "{KEY.hash.hash}" }}]

[[clients]]
id = "team-red"
"""
SETTINGS = {"EAST_KEY": "azure-secret", "RESOURCE": "contoso"}

DOCUMENT: dict[str, Any] = {
    "upstreams": [{"name": "east", "kind": "azure", "url": "https://x.example", "key": "$EAST_KEY"}],
    "deployments": [{"name": "d", "model": "m", "upstream": "east"}],
    "clients": [{"id": "c", "keys": [{"id": KEY.hash.id, "salt": KEY.hash.salt, "hash": KEY.hash.hash}]}],
}


def problems_of(document: Any, settings: dict[str, str] = SETTINGS) -> tuple[str, ...]:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse(document if isinstance(document, str) else json.dumps(document), settings)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def test_deployments_of_a_model_stand_in_the_order_of_the_document() -> None:
    configuration = parse(TOML, SETTINGS)
    names = {name: [target.deployment.name for target in pool.targets] for name, pool in configuration.pools.items()}
    assert names == {"gpt-4o": ["gpt-4o-east", "gpt-4o-openai"], "gpt-4o-mini": ["mini"]}


def test_a_deployments_name_at_the_upstream_is_the_models_where_none_is_given() -> None:
    configuration = parse(TOML, SETTINGS)
    targets = [target for pool in configuration.pools.values() for target in pool.targets]
    assert [target.deployment.deployment for target in targets] == ["my gpt", "gpt-4o", "gpt-4o-mini"]


def test_names_of_settings_are_replaced_by_what_they_hold() -> None:
    east = parse(TOML, SETTINGS).pools["gpt-4o"].targets[0].upstream
    assert (east.kind, east.url, east.key) == (UpstreamKind.AZURE, "https://contoso.openai.azure.com", "azure-secret")


def test_what_a_setting_holds_is_not_looked_into_again() -> None:
    east = parse(TOML, SETTINGS | {"EAST_KEY": "a$RESOURCE$1"}).pools["gpt-4o"].targets[0].upstream
    assert east.key == "a$RESOURCE$1"


def test_clients_are_found_by_the_id_of_their_key() -> None:
    keys = parse(TOML, SETTINGS).keys_by_id
    assert {key_id: (key, client.id, client.cost_center) for key_id, (key, client) in keys.items()} == {
        KEY.hash.id: (KEY.hash, "team-blue", "cc-1")
    }


def test_json_says_the_same_as_toml() -> None:
    toml = '[[upstreams]]\nname="a"\nkind="openai"\nurl="http://x"\nkey=""\n[[deployments]]\nname="d"\nmodel="m"\nupstream="a"'
    document = {
        "upstreams": [{"name": "a", "kind": "openai", "url": "http://x", "key": ""}],
        "deployments": [{"name": "d", "model": "m", "upstream": "a"}],
    }
    assert parse("\n " + json.dumps(document), {}) == parse(toml, {})


def test_an_empty_document_serves_nobody() -> None:
    assert not parse("", {}).pools
    assert not parse("{}", {}).keys_by_id


MISTAKES: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "misspelt section": (("upstream",), [], "unknown field `upstream`"),
    "misspelt field": (("upstreams", 0, "regoin"), "x", "unknown field `regoin` - at `$.upstreams[0]`"),
    "unknown kind": (("upstreams", 0, "kind"), "aws", "'aws' - at `$.upstreams[0].kind`"),
    "number for a text": (("deployments", 0, "model"), 4, "Expected `str`, got `int` - at `$.deployments[0].model`"),
    "one for many": (("clients",), {}, "Expected `array`, got `object` - at `$.clients`"),
    "key's salt is no hex": (("clients", 0, "keys", 0, "salt"), "zz" * 16, "`$.clients[0].keys[0].salt`"),
    "key's salt is cut": (("clients", 0, "keys", 0, "salt"), "00", "`$.clients[0].keys[0].salt`"),
    "key's hash is cut": (("clients", 0, "keys", 0, "hash"), "00", "`$.clients[0].keys[0].hash`"),
    "key's id is no id": (("clients", 0, "keys", 0, "id"), "ABCDEF01", "`$.clients[0].keys[0].id`"),
    "unknown upstream": (
        ("deployments", 0, "upstream"),
        "west",
        "deployment 'd' names the upstream 'west', which is not defined",
    ),
    "no such limit": (("clients", 0, "limits"), {"tokens_per_day": 1}, "unknown field `tokens_per_day`"),
    "a limit of nothing": (("clients", 0, "limits"), {"tokens_per_minute": 0}, ">= 1 - at `$.clients[0].limits.tokens"),
    "a limit of no money": (("clients", 0, "limits"), {"money_per_month": "0"}, "> 0 - at `$.clients[0].limits`"),
    "a limit that is no number": (
        ("clients", 0, "limits"),
        {"money_per_month": "NaN"},
        "> 0 - at `$.clients[0].limits`",
    ),
    "a weight of nothing": (("deployments", 0, "weight"), 0, ">= 1 - at `$.deployments[0].weight`"),
    "unknown strategy": (("models",), [{"name": "m", "strategy": "best"}], "'best' - at `$.models[0].strategy`"),
    "a model without deployments": (("models",), [{"name": "x"}], "model 'x' has no deployment"),
    "an alias that is a model": (("models",), [{"name": "m", "aliases": ["m"]}], "model or alias 'm' stands 2 times"),
    "unset setting": (("upstreams", 0, "key"), "$NO_SUCH", "upstream 'east' refers to $NO_SUCH, which is not set"),
    "empty setting": (("upstreams", 0, "key"), "$EMPTY", "upstream 'east' refers to $EMPTY, which is not set"),
    "not a URL": (("upstreams", 0, "url"), "contoso.example", "upstream 'east' has the url 'contoso.example'"),
    "another scheme": (("upstreams", 0, "url"), "ftp://contoso.example", "http"),
    "no host": (("upstreams", 0, "url"), "https:///v1", "http"),
    "no URL at all": (("upstreams", 0, "url"), "https://[", "http"),
}


@pytest.mark.parametrize(("place", "value", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_by_its_place(place: tuple[str | int, ...], value: Any, message: str) -> None:
    document: Any = copy.deepcopy(DOCUMENT)
    *way, last = place
    inner = document
    for step in way:
        inner = inner[step]
    inner[last] = value
    (problem,) = problems_of(document, SETTINGS | {"EMPTY": ""})
    assert message in problem


MISSING = {
    "upstreams": ["name", "kind", "url"],
    "deployments": ["name", "model", "upstream"],
    "clients": ["id"],
}


@pytest.mark.parametrize(("section", "field"), [(section, field) for section in MISSING for field in MISSING[section]])
def test_a_field_that_is_missing_is_named(section: str, field: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document[section][0][field]
    (problem,) = problems_of(document)
    assert f"missing required field `{field}` - at `$.{section}[0]`" in problem


TEXTS = {
    "TOML": ("[[upstreams]\n", "not valid TOML"),
    "TOML, a name twice": ('a = "1"\na = "2"', "not valid TOML"),
    "JSON": ('{"upstreams": [', "truncated"),
    "a path that is no document": ("config.toml", "not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_that_is_no_document_says_so(text: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert message in problem


def test_all_problems_are_told_at_once() -> None:
    upstream = {"name": "u", "kind": "azure", "url": "$HOST", "key": "$KEY"}
    document = {
        "upstreams": [upstream, upstream, upstream | {"name": "v", "url": "nowhere"}],
        "deployments": [{"name": "d", "model": "m", "upstream": "x"}, {"name": "d", "model": "m", "upstream": "y"}],
        "clients": [DOCUMENT["clients"][0], DOCUMENT["clients"][0]],
    }
    told = "\n".join(problems_of(document, {}))
    for problem in (
        "upstream 'u' stands 2 times",
        "deployment 'd' stands 2 times",
        "client 'c' stands 2 times",
        f"client key '{KEY.hash.id}' stands 2 times",
        "names the upstream 'x'",
        "names the upstream 'y'",
        "upstream 'u' refers to $HOST",
        "upstream 'u' refers to $KEY",
        "upstream 'v' refers to $KEY",
        "upstream 'v' has the url 'nowhere'",
    ):
        assert problem in told


def test_what_a_setting_holds_is_not_in_a_problem() -> None:
    """Guards that a secret that was put into the wrong field is not shown."""
    document = copy.deepcopy(DOCUMENT)
    document["upstreams"][0]["url"] = "$EAST_KEY"
    assert "azure-secret" not in str(problems_of(document))


def test_an_alias_asks_for_the_same_pool() -> None:
    pools = parse(json.dumps(DOCUMENT | {"models": [{"name": "m", "aliases": ["a", "b"]}]}), SETTINGS).pools
    assert pools.keys() == {"m", "a", "b"}
    assert pools["a"] is pools["b"] is pools["m"]


@pytest.mark.parametrize("money", ["0.5", 0.5, 100])
def test_money_is_exact(money: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["clients"][0]["limits"] = {"money_per_month": money}
    ((_, client),) = parse(json.dumps(document), SETTINGS).keys_by_id.values()
    assert client.limits.money_per_month == Decimal(str(money))


TENANT = {"tenant_id": "t-1", "audiences": ["api://tollgate"]}
ELSEWHERE = {"issuer": "https://id.example/", "audiences": ["a"]}

IDENTITIES: dict[str, tuple[dict[str, Any], str]] = {
    "an upstream with no key": (
        {"upstreams": [{"name": "east", "kind": "azure", "url": "https://x.example"}]},
        "upstream 'east' has no key: add one as $NAME, a setting, or auth = \"identity\"",
    ),
    "a key that no header can carry": (
        {"upstreams": [{"name": "east", "kind": "azure", "url": "https://x.example", "key": "s\u00e9cret"}]},
        "upstream 'east' has a key with a character that no header can carry: paste it once more",
    ),
    "an app of two clients, in other letters": (
        {"clients": [{"id": "a", "apps": ["APP-1"]}, {"id": "b", "apps": ["app-1"]}]},
        "app of a client 'app-1' stands 2 times",
    ),
    "a group of two clients": (
        {"clients": [{"id": "a", "groups": ["g"]}, {"id": "b", "groups": ["g"]}]},
        "group of a client 'g' stands 2 times",
    ),
    "a role of two clients": (
        {"clients": [{"id": "a", "roles": ["r"]}, {"id": "b", "roles": ["r"]}]},
        "role of a client 'r' stands 2 times",
    ),
    "a network with bits of a host": (
        {"clients": [{"id": "a", "networks": ["10.0.0.1/8"]}]},
        "10.0.0.1/8 has host bits",
    ),
    "no network": ({"clients": [{"id": "a", "networks": ["here"]}]}, "'here' does not appear to be"),
    "tokens of nobody": ({"entra": {"audiences": ["a"]}}, "neither tenant_id nor issuer"),
    "tokens for nobody": ({"entra": TENANT | {"audiences": []}}, "length >= 1 - at `$.entra.audiences`"),
    "keys that may be anywhere": ({"entra": ELSEWHERE}, "add jwks_url"),
    "keys nowhere": ({"entra": TENANT | {"jwks_url": "keys.json"}}, "write it as https://host/path"),
}


@pytest.mark.parametrize(("changes", "message"), IDENTITIES.values(), ids=IDENTITIES.keys())
def test_what_cannot_identify_anyone_is_named(changes: dict[str, Any], message: str) -> None:
    (problem,) = problems_of(DOCUMENT | changes)
    assert message in problem


ISSUERS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a tenant issues tokens of two versions, with one set of keys": (
        TENANT,
        ("https://login.microsoftonline.com/t-1/v2.0", "https://sts.windows.net/t-1/"),
        "https://login.microsoftonline.com/t-1/discovery/v2.0/keys",
    ),
    "another cloud's": (
        {"issuer": "https://login.microsoftonline.us/t-1/v2.0", "audiences": ["a"]},
        ("https://login.microsoftonline.us/t-1/v2.0",),
        "https://login.microsoftonline.us/t-1/discovery/v2.0/keys",
    ),
    "anyone's": (
        ELSEWHERE | {"jwks_url": "https://id.example/keys"},
        ("https://id.example/",),
        "https://id.example/keys",
    ),
}


@pytest.mark.parametrize(("entra", "issuers", "keys_url"), ISSUERS.values(), ids=ISSUERS.keys())
def test_whose_tokens_are_taken(entra: dict[str, Any], issuers: tuple[str, ...], keys_url: str) -> None:
    parsed = parse(json.dumps(DOCUMENT | {"entra": entra}), SETTINGS).document.entra
    assert parsed is not None
    assert (parsed.issuers, parsed.keys_url) == (issuers, keys_url)


DEFAULTED = """
[defaults]
content = "none"
operations = ["chat"]
limits = { requests_per_minute = 5, money_per_month = 1.5 }

[[clients]]
id = "plain"

[[clients]]
id = "own"
content = "full"
limits = { tokens_per_minute = 9 }
"""


def test_what_a_client_does_not_say_is_what_the_defaults_say() -> None:
    plain, own = parse(DEFAULTED, {}).clients_by_id.values()
    assert (plain.content, plain.operations, plain.limits.requests_per_minute) == ("none", ("chat",), 5)
    assert (own.content, own.operations) == ("full", ("chat",))
    assert (own.limits.requests_per_minute, own.limits.tokens_per_minute) == (None, 9), "a table is taken as a whole"


def test_a_mistake_in_the_defaults_is_named() -> None:
    with pytest.raises(ConfigurationInvalid, match="content"):
        parse('[defaults]\ncontent = "some"\n', {})

"""Route templates."""

import pytest

from devtools.devhost.routes import RouteError, RouteTable, compile_route

MATCHES = {
    "a literal": ("v1/models", b"/v1/models", {}),
    "a literal in another case": ("v1/models", b"/V1/Models", {}),
    "a slash at the end": ("v1/models", b"/v1/models/", {}),
    "a parameter": ("models/{id}", b"/models/gpt-4", {"id": "gpt-4"}),
    "a parameter never spans a slash": ("models/{id}", b"/models/a/b", None),
    "a parameter is not empty": ("models/{id}", b"/models/", None),
    "a parameter is decoded": ("models/{id}", b"/models/a%20b%C3%A9", {"id": "a b\u00e9"}),
    "an encoded slash stays in its segment": ("models/{id}", b"/models/a%2Fb", {"id": "a%2Fb"}),
    "two parameters in a segment": ("files/{name}.{kind}", b"/files/a.txt", {"name": "a", "kind": "txt"}),
    "an optional parameter, absent": ("models/{id?}", b"/models", {}),
    "an optional parameter, present": ("models/{id?}", b"/models/a", {"id": "a"}),
    "a catch-all takes slashes": ("openai/{*path}", b"/openai/a/b/c", {"path": "a/b/c"}),
    "a catch-all keeps its last slash": ("openai/{*path}", b"/openai/a/", {"path": "a/"}),
    "a catch-all may be empty": ("openai/{*path}", b"/openai", {}),
    "a catch-all of everything": ("{*path}", b"/a/b", {"path": "a/b"}),
    "a catch-all of everything, at the root": ("{*path}", b"/", {}),
    "a constraint that holds": ("pages/{n:int}", b"/pages/12", {"n": "12"}),
    "a constraint that does not hold": ("pages/{n:int}", b"/pages/x", None),
}


@pytest.mark.parametrize(("template", "path", "params"), MATCHES.values(), ids=MATCHES)
def test_a_template_matches_as_in_asp_net(template: str, path: bytes, params: dict[str, str] | None) -> None:
    table = RouteTable([compile_route("f", template, ["GET"], "", "f")])
    found = table.match("GET", path)
    assert (None if found is None else found.params) == params


def test_the_first_function_by_name_wins_even_over_a_literal() -> None:
    table = RouteTable([compile_route("b", "models/list", [], "", "b"), compile_route("A", "models/{id}", [], "", "A")])
    found = table.match("GET", b"/models/list")
    assert found is not None
    assert found.target == "A"


def test_a_method_no_route_takes_matches_nothing() -> None:
    table = RouteTable([compile_route("f", "models", ["GET"], "api", "f")])
    assert table.match("POST", b"/api/models") is None
    assert table.match("GET", b"/api/models") is not None


@pytest.mark.parametrize("route", ["admin", "administrators", "Runtime/info", "/admin/x"])
def test_a_route_in_the_hosts_own_space_is_refused(route: str) -> None:
    with pytest.raises(RouteError, match="conflicts with one or more built in routes"):
        compile_route("f", route, [], "", "f")


def test_two_functions_cannot_share_a_route_and_a_method() -> None:
    with pytest.raises(RouteError, match="conflicts with the route defined by function 'a'"):
        RouteTable([compile_route("a", "x", ["GET"], "", 1), compile_route("b", "X", [], "", 2)])

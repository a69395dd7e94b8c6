"""Route templates, matched as the real host matches them. The rule: no I/O, and the first match wins.

The host adds the routes in the alphabetical order of the *function names* and takes the first that matches path and
method: a literal segment has no precedence over a parameter (Azure/azure-functions-host issues 3153 and 9876), and a
method that no route takes is a 404, not a 405 (WebScriptHostHttpRoutesManager uses HttpMethodRouteConstraint).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_PART = re.compile(r"\{(?P<star>\*{0,2})(?P<name>\w+)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")
_CONSTRAINTS = {
    "": "[^/]+",
    "int": "-?[0-9]+",
    "alpha": "[A-Za-z]+",
    "guid": "[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}",
}
_RESERVED = ("admin", "runtime")


class RouteError(Exception):
    """A route the real host would not load."""


@dataclass(frozen=True)
class Route[T]:
    """One function's template; `methods` empty means all."""

    name: str
    template: str
    methods: frozenset[str]
    target: T
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Match[T]:
    """The function a request goes to, with its route parameters."""

    target: T
    params: Mapping[str, str]


class RouteTable[T]:
    """The routes of one app."""

    def __init__(self, routes: Iterable[Route[T]]) -> None:
        """Raises RouteError when two functions have the same route and a method in common."""
        self.routes = tuple(sorted(routes, key=lambda route: route.name.lower()))
        for position, route in enumerate(self.routes):
            for other in self.routes[:position]:
                if other.template.lower() == route.template.lower() and _methods_overlap(route, other):
                    raise RouteError(
                        f"{route.name}: The route specified conflicts with the route defined by function"
                        f" '{other.name}'."
                    )

    def match(self, method: str, raw_path: bytes) -> Match[T] | None:
        """Find the function for a request line; `raw_path` is the path as sent, without the query."""
        path = decode_path(raw_path)[1:]
        for route in self.routes:
            if route.methods and method not in route.methods:
                continue
            if found := route.pattern.fullmatch(path):
                return Match(route.target, {name: value for name, value in found.groupdict().items() if value})
        return None


def compile_route[T](name: str, route: str | None, methods: Iterable[str], prefix: str, target: T) -> Route[T]:
    """A function's route, from its binding. Raises RouteError for what the real host refuses or this one lacks."""
    own = (route or name).strip("/")
    if own.lower().startswith(_RESERVED):
        raise RouteError(f"{name}: The specified route conflicts with one or more built in routes.")
    template = f"{prefix}/{own}" if prefix else own
    pattern = "".join(_segment(name, segment, first=not index) for index, segment in enumerate(template.split("/")))
    allowed = frozenset(method.upper() for method in methods)
    return Route(name, template, allowed, target, re.compile(pattern + "/?", re.IGNORECASE | re.DOTALL))


def decode_path(raw_path: bytes) -> str:
    """Percent-decode a path as Kestrel does: everything but %2F, so that an encoded slash stays inside its segment."""
    parts = re.split(r"(%2[Ff])", raw_path.decode("latin-1"))
    return "".join(part if index % 2 else unquote(part) for index, part in enumerate(parts))


def _methods_overlap[T](route: Route[T], other: Route[T]) -> bool:
    return not route.methods or not other.methods or bool(route.methods & other.methods)


def _segment(name: str, segment: str, *, first: bool) -> str:
    slash = "" if first else "/"
    whole = _PART.fullmatch(segment)
    if whole and whole["star"]:
        return f"(?:{slash}(?P<{whole['name']}>.*))?"
    if whole and whole["optional"]:
        return f"(?:{slash}{_group(name, whole)})?"
    literal_at, pattern = 0, slash
    for part in _PART.finditer(segment):
        pattern += _literal(name, segment[literal_at : part.start()]) + _group(name, part)
        literal_at = part.end()
    return pattern + _literal(name, segment[literal_at:])


def _literal(name: str, text: str) -> str:
    if "{" in text or "}" in text:
        raise RouteError(f"{name}: this host cannot read the route part {text!r}")
    return re.escape(text)


def _group(name: str, part: re.Match[str]) -> str:
    constraint = part["constraint"] or ""
    if constraint not in _CONSTRAINTS:
        raise RouteError(f"{name}: this host has no route constraint {constraint!r}")
    return f"(?P<{part['name']}>{_CONSTRAINTS[constraint]})"

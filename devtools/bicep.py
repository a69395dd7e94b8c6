"""The Bicep of infra/ as far as it can be read without its compiler, which is in no package registry.

The rule: what is said here of a template is what stands in it, by the grammar of tree-sitter-bicep; nothing is evaluated.
`python -m devtools.bicep TYPES` compares every resource's properties with the resource types that Azure publishes
(a checkout of Azure/bicep-types-az) and notes in infra/checked.json what it found there, so that tests can hold to it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

INFRA = Path(__file__).resolve().parents[1] / "infra"
CHECKED = INFRA / "checked.json"

_OF_BICEP = {"parent", "scope", "dependsOn"}
"""Properties of every resource in Bicep that are none of the resource's type."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One resource or module. `of`: its type and version, or its file. `is_new`: whether it is made, not only looked up."""

    name: str
    of: str
    body: Node
    is_new: bool

    def properties(self) -> dict[str, str]:
        """The properties written here, at any depth, as paths with slashes; with the text of each."""
        return {path: value for path, value in _paths(self.body, "") if path.split("/")[0] not in _OF_BICEP}


@dataclass(frozen=True, kw_only=True)
class Template:
    """One file."""

    name: str
    text: str
    broken: list[str]
    """Where the grammar does not fit, as line: text."""
    parameters: dict[str, bool]
    """Each parameter, and whether it has a default."""
    outputs: set[str]
    variables: dict[str, Node]
    resources: list[Declaration]
    modules: list[Declaration]
    words: list[str]
    """Every identifier, as often as it stands here."""


def templates() -> dict[str, Template]:
    """Every template of infra/ by its file's name."""
    return {path.name: read(path.name, path.read_bytes()) for path in sorted(INFRA.glob("*.bicep"))}


def read(name: str, source: bytes) -> Template:
    """One template; what the grammar does not fit is in `broken`."""
    root = Parser(Language(tree_sitter_bicep.language())).parse(source).root_node
    kinds: dict[str, list[Node]] = {}
    for node in root.named_children:
        kinds.setdefault(node.type, []).append(node)
    return Template(
        name=name,
        text=source.decode(),
        broken=[
            f"{node.start_point.row + 1}: {_text(node)}" for node in _walk(root) if node.is_error or node.is_missing
        ],
        parameters={_name(node): node.named_child_count > 2 for node in kinds.get("parameter_declaration", [])},
        outputs={_name(node) for node in kinds.get("output_declaration", [])},
        variables={_name(node): node.named_children[1] for node in kinds.get("variable_declaration", [])},
        resources=[_declaration(node) for node in kinds.get("resource_declaration", [])],
        modules=[_declaration(node) for node in kinds.get("module_declaration", [])],
        words=[_text(node) for node in _walk(root) if node.type == "identifier"],
    )


def strings(node: Node) -> list[str]:
    """Every text in a part of a template that is written out in full."""
    return [
        _text(each.named_children[0]) if each.named_children else ""
        for each in _walk(node)
        if each.type == "string" and all(child.type == "string_content" for child in each.named_children)
    ]


def keys(node: Node) -> list[str]:
    """The names of an object's properties."""
    return [_key(each) for each in node.named_children if each.type == "object_property"]


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _name(declaration: Node) -> str:
    return _text(declaration.named_children[0])


def _key(node: Node) -> str:
    return _text(node.named_children[0]).strip("'")


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _declaration(node: Node) -> Declaration:
    of = strings(node.named_children[1])[0]
    body = next(each for each in _walk(node.named_children[-1]) if each.type == "object")
    return Declaration(
        name=_name(node), of=of, body=body, is_new=not any(each.type == "existing" for each in node.children)
    )


def _paths(node: Node, at: str) -> Iterator[tuple[str, str]]:
    """The properties of the objects in `node`: of all branches of a condition, of each element of an array."""
    if node.type == "object_property":
        path = f"{at}{_key(node)}"
        yield path, _text(node.named_children[-1])
        yield from _paths(node.named_children[-1], f"{path}/")
    else:
        for child in node.named_children:
            yield from _paths(child, at)


class Types:
    """The resource types of a checkout of Azure/bicep-types-az, work tree or bare."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._files: dict[tuple[str, str], list[str]] = {}
        for file in self._git("ls-tree", "-r", "--name-only", "HEAD", "generated").split():
            if file.endswith("/types.json"):
                *_, provider, version, _ = file.split("/")
                self._files.setdefault((provider.lower(), version), []).append(file)
        self._read = cache(lambda file: json.loads(self._git("show", f"HEAD:{file}")))

    @property
    def commit(self) -> str:
        """Which types these are, and of when."""
        return self._git("log", "-1", "--format=%h %cs").strip()

    def problems(self, declaration: Declaration) -> list[str]:
        """The properties that the published type does not have, or cannot be written to; and those that it requires."""
        provider, version = declaration.of.split("/")[0].lower(), declaration.of.rpartition("@")[2]
        for file in self._files.get((provider, version), []):
            types = self._read(file)
            for each in types:
                if each["$type"] == "ResourceType" and each["name"].lower() == declaration.of.lower():
                    wanted = list(declaration.properties())
                    return _unknown(types, each["body"], wanted) + _missing(types, each["body"], wanted, declaration)
        return [f"{declaration.of} is not published"]

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self._repository), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _members(types: list[Any], reference: Any) -> tuple[dict[str, Any], bool]:
    """A type's properties, and whether it takes others too; of arrays, their elements'."""
    found = types[int(reference["$ref"][2:])]
    match found["$type"]:
        case "ArrayType":
            return _members(types, found["itemType"])
        case "ObjectType":
            return found.get("properties", {}), "additionalProperties" in found
        case "DiscriminatedObjectType":
            parts = [_members(types, element)[0] for element in found["elements"].values()]
            return {name: each for part in (found["baseProperties"], *parts) for name, each in part.items()}, False
        case kind:
            return {}, kind == "AnyType"


def _unknown(types: list[Any], body: Any, wanted: list[str]) -> list[str]:
    problems = []
    for path in wanted:
        at = body
        for name in path.split("/"):
            members, is_open = _members(types, at)
            if is_open and name not in members:
                break
            if name not in members or members[name]["flags"] & 2:  # 2: read-only
                problems.append(path)
                break
            at = members[name]["type"]
    return problems


def _missing(types: list[Any], body: Any, wanted: list[str], declaration: Declaration) -> list[str]:
    if not declaration.is_new:
        return []
    members, _ = _members(types, body)
    return [f"{name} is required" for name, each in members.items() if each["flags"] == 1 and name not in wanted]


def main(arguments: Sequence[str]) -> int:
    """Compares, and notes what fits. Returns the exit code: 1 where something does not."""
    parser = argparse.ArgumentParser(prog="python -m devtools.bicep", description=__doc__)
    parser.add_argument("types", type=Path, help="a checkout of Azure/bicep-types-az")
    types = Types(parser.parse_args(arguments).types)
    checked: dict[str, set[str]] = {}
    found = 0
    for template in templates().values():
        for resource in template.resources:
            for problem in types.problems(resource):
                print(f"{template.name}: {resource.name} ({resource.of}): {problem}")
                found += 1
            checked.setdefault(resource.of, set()).update(resource.properties())
    if not found:
        note = {
            "types": f"Azure/bicep-types-az {types.commit}",
            "properties": {of: sorted(checked[of]) for of in sorted(checked)},
        }
        CHECKED.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

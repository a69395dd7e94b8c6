"""The JSON Schema of the configuration document, for editors: `tollgate.schema.json`.

Rule: it is made from the structs that read the document and from the docstrings of their fields, so neither can drift;
a test holds the committed file to it.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.core.configuration import Document

_DECIMAL = {"type": "string", "format": "decimal"}
_NUMBER = {"type": ["number", "string"]}
"""A decimal is a number, or a text where its digits matter."""


def text() -> str:
    """The schema, as it is committed."""
    schema: dict[str, Any] = msgspec.json.schema(Document)
    for struct in _structs(msgspec.inspect.type_info(Document)):
        properties = schema["$defs"][struct.__name__]["properties"]
        for name, description in _field_docs(struct).items():
            properties[name]["description"] = description
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tollgate configuration"}
    return json.dumps(title | _plain(schema), indent=2) + "\n"


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The struct that a type is or holds, and those in its fields."""
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind.cls
    for field in getattr(kind, "fields", ()):
        yield from _structs(field.type)
    for inner in (getattr(kind, "item_type", None), getattr(kind, "type", None), *getattr(kind, "types", ())):
        if inner is not None:
            yield from _structs(inner)


def _field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The string under each field of the class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(doc.value.value)
        for field, doc in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _plain(value: Any) -> Any:
    """The schema in JSON's own types, with decimals as what may be written for them."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in (_NUMBER if value == _DECIMAL else value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value

"""Values as Table Storage entities, and back.

Rule: a property has the field's name in PascalCase and one type wherever it is written: whole numbers are Int64, instants
are DateTime. A field that is None is no property, so a merge never erases what is known.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, override

import msgspec
from azure.core.exceptions import IncompleteReadError, ResourceExistsError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import EdmType, EntityProperty, TableEntity
from azure.data.tables.aio import TableClient

type Entity = dict[str, Any]


def properties_of(value: msgspec.Struct) -> Entity:
    """The fields of a flat struct that are known, as properties."""
    known = msgspec.to_builtins(value, builtin_types=(datetime,))
    return {property_name(name): _typed(field) for name, field in known.items() if field is not None}


def value_of[T: msgspec.Struct](entity: TableEntity, type_: type[T], given: Mapping[str, Any]) -> T:
    """The struct in an entity; `given` are fields that stand elsewhere, in the keys say. Unknown properties are ignored."""
    fields = {
        name: _plain(entity[property_name(name)])
        for name in type_.__struct_fields__
        if name not in given and property_name(name) in entity
    }
    return msgspec.convert({**fields, **given}, type_)


class TableTransport(AioHttpTransport):  # type: ignore[misc]  # the package exports it lazily, as Any
    """HTTP for the Tables SDK, which takes a response that broke off for an error that the service described.

    azure-data-tables 12.7.0 then raises an AttributeError; as a ServiceResponseError it is retried, and an outage.
    """

    @override
    async def send(self, request: Any, **options: Any) -> Any:
        try:
            return await super().send(request, **options)
        except IncompleteReadError as error:
            raise ServiceResponseError(error, error=error) from error


async def create_if_missing(table: TableClient) -> None:
    """Creates the table; does nothing where it exists."""
    try:
        await table.create_table()
    except ResourceExistsError:
        return


@cache
def property_name(field: str) -> str:
    """What a field is called in a table."""
    return field.title().replace("_", "")


def _typed(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return EntityProperty(value, EdmType.INT64)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, EntityProperty):
        return value.value
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())  # the SDK's own subclass is not taken for a datetime
    return value

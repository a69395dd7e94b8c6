"""Reads multipart/form-data (RFC 7578) from a whole body in memory: a tool's parser, not a server's."""

import re

import msgspec

from devtools.simulator.errors import bad_request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(r'[ ;]name="([^"]*)"', re.IGNORECASE)
_FILENAME = re.compile(r'filename="([^"]*)"', re.IGNORECASE)


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a form."""

    name: str
    filename: str
    data: bytes


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A form's plain fields, of each name the last, and its files."""

    fields: dict[str, str]
    files: tuple[Upload, ...]


def parse(content_type: str, body: bytes) -> Form:
    """Returns the form; raises `ApiError` (400) when the boundary is missing."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise bad_request("The multipart body has no boundary.")
    fields: dict[str, str] = {}
    files: list[Upload] = []
    for part in body.split(b"--" + found[1].encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        data = data.removesuffix(b"\r\n")
        headers = head.decode("utf-8", "replace")
        name, filename = _NAME.search(headers), _FILENAME.search(headers)
        if filename is not None:
            files.append(Upload(name=name[1] if name else "", filename=filename[1], data=data))
        elif name is not None:
            fields[name[1]] = data.decode("utf-8", "replace")
    return Form(fields=fields, files=tuple(files))

"""The chain of a client's day: which archive objects there were, each line holding on to the one before it.

    {"call_id":"...","sha256":"<of the object's head>","previous":"<of the line before, without its end>"}

Rule: nothing is taken out of a chain and nothing in it is changed; a call that is archived anew is added again, and its last
line holds. So a line that was altered, removed or moved breaks the chain at its place; what is cut off at the end is missed
by the ledger.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

FIRST = ""
"""What the first line has for `previous`."""


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    call_id: str
    sha256: str
    previous: str
    is_purged: bool = False
    """The object holds no more than that there was a call: its content was removed on demand."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain says."""

    links: Mapping[str, Link]
    """The last one of each call, by its id."""
    end: str
    """The SHA-256 of the last line: what has to be kept elsewhere to prove all that is before it."""
    breaks: tuple[int, ...]
    """The lines, from 1, that do not follow the one before them."""
    size: int
    """Of the content that was read, in bytes."""


_decoder = msgspec.json.Decoder(Link)


def read(content: bytes) -> Chain:
    """The chain in a blob's content. What is no line of it counts as a break."""
    links: dict[str, Link] = {}
    breaks = []
    previous = FIRST
    for number, line in enumerate(content.splitlines(), 1):
        try:
            link = _decoder.decode(line)
        except ValueError:
            breaks.append(number)
        else:
            links[link.call_id] = link
            if link.previous != previous:
                breaks.append(number)
        previous = _digest(line)
    return Chain(links=links, end=previous, breaks=tuple(breaks), size=len(content))


def lines_after(chain: Chain, archived: Iterable[tuple[str, str]], *, are_purged: bool = False) -> bytes:
    """The lines to add, of those (call id, digest) that the chain does not say already."""
    lines = []
    previous = chain.end
    for call_id, sha256 in sorted(archived):
        if (known := chain.links.get(call_id)) and known.sha256 == sha256:
            continue
        line = msgspec.json.encode(Link(call_id=call_id, sha256=sha256, previous=previous, is_purged=are_purged))
        previous = _digest(line)
        lines.append(line + b"\n")
    return b"".join(lines)


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()

"""What stands in the query of a URL, read into values.

Rule: what cannot be read is refused with the parameter's name; nothing is guessed. A parameter that is empty is not there.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from urllib.parse import parse_qsl

import msgspec

from shared.core.errors import BadRequest

LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Leaves room to round up."""


class Parameters(msgspec.Struct, frozen=True):
    """The parameters of one request. `a[]=1`, as some SDKs write lists, is `a=1`."""

    values: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, query: str) -> "Parameters":
        """Those in a raw query string."""
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query):
            values.setdefault(name.removesuffix("[]"), []).append(value.strip())
        return cls(values)

    def text(self, name: str) -> str | None:
        """The last value."""
        return next((value for value in reversed(self.values.get(name, ())) if value), None)

    def listed(self, name: str) -> tuple[str, ...]:
        """All values: those that are repeated, and those with commas between them."""
        found = (each.strip() for value in self.values.get(name, ()) for each in value.split(","))
        return tuple(each for each in found if each)

    def chosen(self, name: str, of: Sequence[str], default: str) -> str:
        """One of several words. Raises BadRequest."""
        word = self.text(name) or default
        if word not in of:
            raise BadRequest(f"'{name}' is one of {', '.join(of)}; it was '{word[:50]}'.", param=name)
        return word

    def number(self, name: str, *, least: int, most: int, default: int) -> int:
        """A whole number. Raises BadRequest."""
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdecimal() or len(text) > 15 or not least <= int(text) <= most:
            raise BadRequest(f"'{name}' is a whole number from {least} to {most}; it was '{text[:50]}'.", param=name)
        return int(text)

    def decimal(self, name: str, *, default: float) -> float:
        """A number that is not negative. Raises BadRequest."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            raise BadRequest(f"'{name}' is a number such as 0.5; it was '{text[:50]}'.", param=name)
        return float(text)

    def instant(self, name: str, default: datetime, zone: tzinfo = UTC) -> datetime:
        """An ISO 8601 instant, in UTC; in `zone` where it names none. Raises BadRequest."""
        text = self.text(name)
        if text is None:
            return default
        try:
            # A `+` of a zone that was not escaped arrives as a space.
            instant = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            instant = (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"'{name}' is not an ISO 8601 instant: {text[:50]}", param=name) from error
        return min(instant, LATEST)

    def only(self, *known: str) -> None:
        """Raises BadRequest where there is a parameter of another name: a filter that is misspelt must not go unheard."""
        if unknown := sorted(self.values.keys() - set(known)):
            raise BadRequest(
                f"Unknown parameter '{unknown[0][:50]}'; known are {', '.join(sorted(known))}.", param=unknown[0][:50]
            )


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The whole hours around a span."""
    first, last = _hour(start), _hour(end)
    return first, last if last == end else last + timedelta(hours=1)


def _hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)

"""From where calls come."""

import pytest

from shared.core.clients.networks import caller_ip, is_within, parsed
from shared.core.headers import Headers

OFFICE = ("10.0.0.0/8", "2001:db8::/32", "203.0.113.7")

ADDRESSES: dict[str, tuple[str | None, bool]] = {
    "inside": ("10.255.0.1", True),
    "outside": ("11.0.0.1", False),
    "one address": ("203.0.113.7", True),
    "its neighbour": ("203.0.113.8", False),
    "IPv6": ("2001:db8:ffff::1", True),
    "IPv6 outside": ("2001:db9::1", False),
    "IPv4 written as IPv6": ("::ffff:10.0.0.1", True),
    "IPv4 outside, written as IPv6": ("::ffff:11.0.0.1", False),
    "not known": (None, False),
    "nothing": ("", False),
    "no address": ("10.0.0.1, 10.0.0.2", False),
    "a number": ("167772161", False),
    "zeros in front": ("010.0.0.1", False),
}


@pytest.mark.parametrize(("address", "is_inside"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_caller_is_inside_a_network_or_not(address: str | None, *, is_inside: bool) -> None:
    assert is_within(address, OFFICE) is is_inside


def test_nobody_is_inside_no_network() -> None:
    assert not is_within("10.0.0.1", ())


def test_networks_are_read_once() -> None:
    assert parsed(OFFICE) is parsed(("10.0.0.0/8", "2001:db8::/32", "203.0.113.7"))


HOPS: dict[str, tuple[tuple[str, ...], int, str | None]] = {
    "the platform's front end": (("6.6.6.6, 203.0.113.7",), 1, "203.0.113.7"),
    "Front Door before it": (("6.6.6.6, 203.0.113.7, 147.243.0.1:443",), 2, "203.0.113.7"),
    "a proxy that adds a line of its own": (("6.6.6.6", "203.0.113.7"), 1, "203.0.113.7"),
    "IPv6 with a port": (("[2001:db8::7]:1, 147.243.0.1",), 2, "2001:db8::7"),
    "past the proxy: fewer hops than are trusted": (("203.0.113.7",), 2, "203.0.113.7"),
    "no hop": ((), 1, None),
    "an empty one": (("203.0.113.7,",), 1, None),
}
FRONT_DOOR: Headers = (("x-forwarded-for", "147.243.0.1"), ("x-azure-socketip", "203.0.113.7"))


@pytest.mark.parametrize(("lines", "trusted", "caller"), HOPS.values(), ids=HOPS.keys())
def test_the_caller_is_whom_the_outermost_trusted_proxy_saw(
    lines: tuple[str, ...], trusted: int, caller: str | None
) -> None:
    headers: Headers = tuple(("x-forwarded-for", line) for line in lines)
    assert caller_ip(headers, "x-forwarded-for", trusted) == caller


def test_another_header_can_tell_who_called() -> None:
    assert caller_ip(FRONT_DOOR, "x-azure-socketip", 1) == "203.0.113.7"
    assert caller_ip(FRONT_DOOR[:1], "x-azure-socketip", 1) is None

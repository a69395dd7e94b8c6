"""The list prices that come with the gateway: prices.json, beside this file.

Rule: they hold where the configuration says nothing, and are replaced by `[[prices]]` there, model by model. The file says
whence and of when they are.
"""

from functools import cache
from pathlib import Path

import msgspec

from shared.core.money.prices import ShippedPrices

_FILE = Path(__file__).with_name("prices.json")


@cache
def shipped_prices() -> ShippedPrices:
    """The sheet, read once."""
    return msgspec.json.decode(_FILE.read_bytes(), type=ShippedPrices)

"""Client keys. The rule: a key is shown once, when it is minted; what is kept can check a key and cannot yield one.

A key reads `tg-<id>-<secret>`: the id, 8 hex digits, says in clear which hash to compare with; the secret is 32 random
bytes. At 256 bits a salted SHA-256 is enough: there is nothing to guess, and every call pays for the check.

A key of another gateway can be adopted, so that its client changes nothing but the address. It carries no id, and gets one: what
its own SHA-256 begins with.
"""

import base64
import hashlib
import hmac
import re
from typing import Annotated

import msgspec

RANDOM_BYTES = 4 + 16 + 32  # id, salt, secret

type _Hex8 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
type _Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
type _Hex64 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

SHORTEST_ADOPTED = 20

_KEY = re.compile(r"tg-([0-9a-f]{8})-[A-Za-z0-9_-]{43}")


class KeyHash(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key: `id` (8 hex), `salt` (32 hex) and `hash` (64 hex), the SHA-256 of salt bytes + key."""

    id: _Hex8
    salt: _Hex32
    hash: _Hex64


class MintedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key: the text to hand to its client, and the hash to keep."""

    text: str
    hash: KeyHash


def mint(random_bytes: bytes) -> MintedKey:
    """Make a key out of RANDOM_BYTES fresh bytes of `secrets.token_bytes`. Raises ValueError for fewer or more."""
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes, not {len(random_bytes)}")
    key_id, salt, secret = random_bytes[:4], random_bytes[4:20], random_bytes[20:]
    text = f"tg-{key_id.hex()}-{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"
    return MintedKey(text=text, hash=KeyHash(id=key_id.hex(), salt=salt.hex(), hash=_digest(salt, text)))


def adopt(text: str, salt: bytes) -> KeyHash:
    """What is kept of a key made elsewhere; `salt` are 16 fresh bytes. Raises ValueError for one that could be guessed."""
    if len(text) < SHORTEST_ADOPTED:
        raise ValueError(f"a key of fewer than {SHORTEST_ADOPTED} characters could be guessed")
    return KeyHash(id=looked_up_by(text), salt=salt.hex(), hash=_digest(salt, text))


def looked_up_by(text: str) -> str:
    """The id of what is kept of this key: the one that it carries, or that an adopted key has got."""
    return key_id(text) or hashlib.sha256(text.encode()).hexdigest()[:8]


def key_id(text: str) -> str | None:
    """The id that a key carries; None for a text that is no key."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def verify(text: str, kept: KeyHash) -> bool:
    """Whether this is the key that was hashed. The time taken tells nothing about the hash."""
    return looked_up_by(text) == kept.id and hmac.compare_digest(_digest(bytes.fromhex(kept.salt), text), kept.hash)


def _digest(salt: bytes, text: str) -> str:
    return hashlib.sha256(salt + text.encode()).hexdigest()

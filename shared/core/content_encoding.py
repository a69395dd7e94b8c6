"""Content-Encoding, as far as it is read here: gzip (RFC 9110, section 8.4.1).

Rule: what cannot be read is left alone. The gateway offers upstreams no other encoding.
"""

import gzip
import zlib


def decompressor(encoding: str | None) -> "zlib._Decompress | None":
    """What makes a body's bytes plain as they come; None where they are plain, or in an encoding that is not read here."""
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if encoding == "gzip" else None


def decoded(body: bytes, encoding: str | None) -> bytes:
    """A body's plain bytes; of one that was cut off, what there is. Raises zlib.error for what is not what it says."""
    inflate = decompressor(encoding)
    return inflate.decompress(body) if inflate else body


def encoded(body: bytes, encoding: str | None) -> bytes:
    """Plain bytes in the encoding that `decoded` read them from."""
    return gzip.compress(body, mtime=0) if encoding == "gzip" else body

"""gzip (RFC 1952) of what is recorded, where a setting asks for it: messages of the transport, and objects of the archive.

Rule: what is compressed says so by its first two bytes, with which neither an event nor an archive object begins; so both are
read whatever the setting is, or was. The same bytes give the same bytes.
"""

import gzip
import zlib
from collections.abc import Iterator

_MAGIC = b"\x1f\x8b"
_LEVEL = 1
"""Of text the sixth makes a tenth less, for three times the CPU."""
_PART_BYTES = 4 * 1024 * 1024


def compressed(content: bytes) -> bytes:
    """The content, to be read by `plain` or `Opener`. What several of these make together is read as one."""
    return gzip.compress(content, _LEVEL, mtime=0)


def plain(content: bytes) -> bytes:
    """What was compressed, or the content itself. Raises ValueError for what is not whole."""
    if not content.startswith(_MAGIC):
        return content
    opener = Opener()
    opened = b"".join(opener.feed(content))
    opener.end()
    return opened


def beginning(content: bytes, most: int) -> bytes:
    """So many bytes of what `plain` gives of content that may be cut. Raises ValueError."""
    return next(Opener(most).feed(content), b"")[:most]


class Opener:
    """Opens what may be compressed, as it comes."""

    def __init__(self, part_bytes: int = _PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self._begun = b""
        self._is_known = False
        self._inflating: zlib._Decompress | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The plain bytes of the next piece; of what is compressed in parts, however many they are. Raises ValueError."""
        if not self._is_known:
            piece = self._begun + piece
            self._is_known = len(piece) >= len(_MAGIC) or not _MAGIC.startswith(piece)
            self._begun = b"" if self._is_known else piece
            if not self._is_known:
                return
            self._inflating = _inflating() if piece.startswith(_MAGIC) else None
        if self._inflating is None:
            yield piece
        else:
            yield from self._inflated(piece)

    def _inflated(self, piece: bytes) -> Iterator[bytes]:
        assert self._inflating
        is_more = bool(piece)
        while is_more:
            if self._inflating.eof:
                self._inflating = _inflating()
            try:
                part = self._inflating.decompress(piece, self._part_bytes)
            except zlib.error as error:
                raise ValueError(f"not gzip: {error}") from error
            if part:
                yield part
            piece = self._inflating.unused_data if self._inflating.eof else self._inflating.unconsumed_tail
            is_more = bool(piece) or (len(part) == self._part_bytes and not self._inflating.eof)

    def end(self) -> None:
        """Raises ValueError where what was compressed is not whole."""
        if self._inflating and not self._inflating.eof:
            raise ValueError("cut off")


def _inflating() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

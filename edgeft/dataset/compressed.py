"""Opens files, decompressed where their first bytes say that they are gzip or Zstandard."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from edgeft.dataset.findings import Finding, Place
from edgeft.errors import EdgeftError

READ_ERRORS = (EOFError, OSError, zlib.error)
"""What reading an opened file may raise; `read_finding` says it in words."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Of compressed bytes, which may become many more.
_BLOCK_BYTES = 1 << 14


def open_stream(path: Path) -> BinaryIO:
    """Opens a file for reading its bytes, decompressed. Raises OSError, and EdgeftError without `zstandard`."""
    file = path.open("rb")
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if magic == _ZSTD_MAGIC:
        return io.BufferedReader(_ZstdStream(file))
    return file


def is_compressed(path: Path) -> bool:
    """Returns whether a file starts as gzip or Zstandard."""
    with path.open("rb") as file:
        return file.read(4).startswith((_GZIP_MAGIC, _ZSTD_MAGIC))


def read_finding(error: BaseException, place: Place) -> Finding:
    """Returns one of READ_ERRORS as an error at a place."""
    if isinstance(error, EOFError):
        message, remedy = "the file is cut off: its compressed content ends too early", "copy or download it again"
        return Finding("error", "truncated", place, message, remedy)
    detail = (error.strerror if isinstance(error, OSError) else None) or str(error)
    remedy = "copy or download the file again, and see that it may be read"
    return Finding("error", "corrupt-file", place, f"the file cannot be read: {detail}", remedy)


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields the lines with their numbers from 1, without a byte order mark; they keep their ends."""
    for number, line in enumerate(stream, start=1):
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


class _ZstdStream(io.RawIOBase):
    """The content of a Zstandard file, of one frame after another; raises EOFError where the last is cut off."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import zstandard
        except ModuleNotFoundError as error:
            file.close()
            raise EdgeftError("reading .zst files needs zstandard", remedy="pip install zstandard") from error
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._error = zstandard.ZstdError
        self._frame: Any = None
        self._compressed = b""
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._pending:
            self._pending = memoryview(self._next())
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _next(self) -> bytes:
        """Returns some bytes; none at the end."""
        while True:
            compressed = self._compressed or self._file.read(_BLOCK_BYTES)
            self._compressed = b""
            if not compressed:
                if self._frame is not None:
                    raise EOFError
                return b""
            self._frame = self._frame or self._decompressor.decompressobj()
            try:
                block: bytes = self._frame.decompress(compressed)
            except self._error as error:
                raise OSError(str(error)) from error
            if self._frame.eof:
                self._compressed, self._frame = self._frame.unused_data, None
            if block:
                return block

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

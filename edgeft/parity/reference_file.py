"""The file of a reference: arrays of an .npz, read as they are asked for, and what is damaged is named."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from edgeft.errors import EdgeftError

_BLOCK_BYTES: Final = 1 << 20
# What zipfile raises for bytes that are not those that were written.
_UNREADABLE: Final = (OSError, EOFError, ValueError, LookupError, RuntimeError, BadZipFile, zlib.error)
_REMEDY: Final = "copy it again, or record it again: edgeft parity record"


class ReferenceFile:
    """The arrays of a reference by their names; raises EdgeftError for a file, or an array, that cannot be read."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise EdgeftError("no such file", str(path), "make one: edgeft parity record")
        self._path = path
        try:
            self._zip = ZipFile(path)
        except _UNREADABLE as error:
            raise EdgeftError(f"not a parity reference, or a damaged one: {error}", str(path), _REMEDY) from error

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        try:
            return self._read(f"{name}.npy")
        except _UNREADABLE as error:
            what = f"not a parity reference, or a damaged one: {name} cannot be read: {error}"
            raise EdgeftError(what, str(self._path), _REMEDY) from error

    def _read(self, member: str) -> npt.NDArray[Any]:
        """Reads an array, after its bytes alone: their checksum is compared at their end.

        A header that is damaged may ask for fewer bytes than there are, and the end would not be reached.
        """
        if self._zip.getinfo(member).compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise BadZipFile("it is compressed in another way than numpy does")
        with self._zip.open(member) as file:
            while file.read(_BLOCK_BYTES):
                pass
        with self._zip.open(member) as file:
            found: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return found

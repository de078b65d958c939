"""ASE databases in SQLite (``.db``), row by row."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from ase.db.core import connect

from adatom.core.errors import DataError
from adatom.data.frame import Frame
from adatom.data.readers.base import FrameReader, read_bytes, split_suffix
from adatom.data.readers.database_row import row_to_atoms, units_in_metadata


class AseDbReader(FrameReader):
    """Rows of a SQLite database, in the order of their ids; the file is only ever read.

    Rows are fetched when asked for, except from a compressed file, which is unpacked at once.
    """

    def __init__(self, path: Path) -> None:
        """Open a database.

        Raises:
            DataError: If it is not an ASE database, is damaged, or has no rows.
        """
        self.path = path
        self.lazy = not split_suffix(path)[1]
        self._rows: list[Frame] = []
        if self.lazy:
            self._open(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / path.stem
            plain.write_bytes(read_bytes(path))
            self._open(plain)
            self._rows = [self._read(plain, i) for i in range(len(self))]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ids)

    def frame(self, i: int) -> Frame:
        """Return row ``i`` (from 0; ids start at 1 and may have gaps).

        Raises:
            DataError: If the row is damaged.
        """
        return self._read(self.path, i) if self.lazy else self._rows[i]

    def name(self, i: int) -> str:
        """Return the file name and the row's id."""
        return f"{self.path.name}:{self._ids[i]}"

    def _open(self, file: Path) -> None:
        # ASE itself would turn a file that is no database into an empty one.
        uri = f"{file.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                rows = connection.execute("SELECT id FROM systems ORDER BY id")
                self._ids = [row[0] for row in rows]
            self.declared = units_in_metadata(_database(file).metadata)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise DataError(
                f"{str(self.path)!r} is not a whole ASE database ({error})",
                fix="Copy it again, or make it with ase.db.connect(...).write(...).",
            ) from error
        if not self._ids:
            raise DataError(f"The database {str(self.path)!r} has no rows", expected="at least one")

    def _read(self, file: Path, i: int) -> Frame:
        try:
            with _database(file) as database:
                return Frame.of(row_to_atoms(database.get(id=self._ids[i])))
        # A damaged row raises whatever its bytes led the decoder into.
        except Exception as error:
            raise DataError(
                f"Row {self._ids[i]} of {str(self.path)!r} cannot be read "
                f"({type(error).__name__}: {error})",
                fix="Copy the database again, or leave the row out with index.",
            ) from error


def _database(file: Path) -> Any:
    # Opened per use: SQLite connections must not cross a fork or a thread.
    return connect(str(file), type="db", use_lock_file=False)

"""A growable column: numpy for many rows, a memoryview for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

STEP_ROWS_MIN = 1024
STEP_ROWS_MAX = 1 << 18
"""A column grows by an eighth, within these: what stays unused is small, and no single growth is long."""


class Column:
    """Scalars by row number, zero where nothing was written.

    `data` may move when the column grows, so nobody keeps a view of it across `reach`; fancy indexing copies. `cells`
    reads and writes one row in a third of the time that indexing an array takes.
    """

    __slots__ = ("cells", "data")

    def __init__(self, dtype: DTypeLike) -> None:
        self.data: NDArray[Any] = np.zeros(0, dtype)
        self.cells: memoryview[int] = self.data.data

    def reach(self, rows: int) -> None:
        """Grows the column to at least this many rows."""
        size = len(self.data)
        if rows > size:
            self.cells.release()
            # In place, by realloc: a large block is remapped, not copied, and there is never a second one beside it.
            self.data.resize(max(rows, size + min(max(size >> 3, STEP_ROWS_MIN), STEP_ROWS_MAX)), refcheck=False)
            self.cells = self.data.data

    @property
    def nbytes(self) -> int:
        """Bytes held, unused rows included."""
        return int(self.data.nbytes)

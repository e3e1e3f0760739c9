"""Bodies that differ as matrices of octets: those of nearly one length together, filled up with blanks to the longest.

JSON means the same with blanks behind it (RFC 8259 section 2), and none gets longer than one that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

FILLED_MAX = 64
"""Bodies are filled up with fewer blanks than this."""


def matrices(bodies: Sequence[bytes], rows: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Some of the rows, and a matrix of their bodies, a row each; `bodies` stand in the order of `rows`."""
    lengths = np.fromiter(map(len, bodies), np.intp, len(bodies))
    steps = (lengths - lengths.min()) // FILLED_MAX
    for step in np.unique(steps).tolist():
        chosen = np.flatnonzero(steps == step)
        width = int(lengths[chosen].max())
        filled = b"".join([bodies[at].ljust(width) for at in chosen.tolist()])
        yield rows[chosen], np.frombuffer(filled, np.uint8).reshape(len(chosen), width)

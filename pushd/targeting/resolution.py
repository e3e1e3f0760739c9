"""What the index answers: the devices of an audience with what of it is missing, and the addresses of devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices

LISTED_MAX = 1000
"""Missing ids listed by group; `missing` counts them all."""


def _no_ids() -> dict[str, list[int] | list[str]]:
    return {"devices": [], "users": [], "user_numbers": [], "emails": [], "aliases": [], "installs": []}


NONE_MISSING = _no_ids()
"""For those of whom nothing is missing: nobody writes to it."""


@dataclass(slots=True, eq=False)
class Resolution:
    """Whom an audience reaches now, and what it names that cannot be reached.

    Ids count as named where the audience asks for them: below a `Not` an id need not exist. A user that is named twice,
    in two leaves, counts twice.
    """

    devices: Devices
    """The reachable devices of the asked kinds: the caller's own set."""
    skipped: dict[str, int]
    """Matched devices that are not sent to, by reason: other_kind, retired, push_disabled, no_token; none with 0.
    Of an in-app message: no_consent."""
    unknown: dict[str, list[int] | list[str]] = field(default_factory=_no_ids)
    """Named ids that the app does not have, in request order: `devices`, `users` (external), `user_numbers`."""
    unsubscribed: dict[str, list[int] | list[str]] = field(default_factory=_no_ids)
    """Named ids that exist and have nothing that can be sent to; groups as above."""
    named: int = 0
    """How many ids are named, repeats within a leaf counted once."""
    missing: int = 0
    """How many of them are unknown or unsubscribed, beyond what the lists hold too."""


class Addresses(NamedTuple):
    """Where to send to, one row per asked id: copies, which later changes leave alone."""

    tokens: NDArray[np.bytes_]
    """NUL-padded to the widest; empty where a device has none."""
    revisions: NDArray[np.int32]
    """Revision of each device now; 0: never seen."""

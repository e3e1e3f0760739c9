"""Pictures fitted to what browsers show: unpacked within limits, made smaller or larger, and put on white.

Only PNG and JPEG are looked at, whatever a server says of them. The size is read from the first bytes and checked
before anything is unpacked, so that a few kilobytes cannot become gigabytes; a JPEG is unpacked at a fraction of its
size where that is enough.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG")
ICON_SIDE_MIN, ICON_SIDE_MAX = 80, 192
"""Pixels: what icons have at least, and what the densest screens show."""
IMAGE_SIZE = (360, 240)
RATIO_SLACK = 0.01
"""Sides are whole pixels, so few pictures are 3 to 2 exactly."""
JPEG_QUALITY = 88
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, ArithmeticError, LookupError, TypeError)
"""What Pillow raises over files that somebody has made up."""


class Frame(StrEnum):
    """What a picture is fitted to."""

    ICON = "icon"
    """A white square of at least 80 by 80."""
    IMAGE = "image"
    """White, 360 by 240."""


class Fitted(NamedTuple):
    """A picture that fits."""

    name: str
    """What it is called: its digest, and the ending of its format."""
    body: bytes


def fit(raw: bytes, frame: Frame, pixels_max: int) -> Fitted | None:
    """The picture in its frame; None where it fits as it is. ValueError for what is none, or is too large."""
    with _reading():
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    width, height = image.size
    if width * height > pixels_max:
        raise ValueError(f"has more than {pixels_max} pixels")
    with image, _reading():
        if _fits(width, height, frame):
            image.verify()
            return None
        return _framed(image, _canvas(width, height, frame), frame)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, Image.DecompressionBombError):
        raise ValueError("is not a PNG or JPEG that can be read") from None


def _fits(width: int, height: int, frame: Frame) -> bool:
    if frame is Frame.ICON:
        return width == height and width >= ICON_SIDE_MIN
    wide, high = IMAGE_SIZE
    return width >= wide and height >= high and abs(width * high / (height * wide) - 1) <= RATIO_SLACK


def _canvas(width: int, height: int, frame: Frame) -> tuple[int, int]:
    if frame is Frame.IMAGE:
        return IMAGE_SIZE
    side = min(max(width, height, ICON_SIDE_MIN), ICON_SIDE_MAX)
    return side, side


def _framed(image: Image.Image, size: tuple[int, int], frame: Frame) -> Fitted:
    image.draft("RGB", (size[0] * 2, size[1] * 2))  # a JPEG: half, a quarter or an eighth of it
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    shown = ImageOps.contain(upright, size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", size, "white")
    canvas.paste(shown, ((size[0] - shown.width) // 2, (size[1] - shown.height) // 2), shown)
    out = io.BytesIO()
    if frame is Frame.ICON:
        canvas.save(out, "PNG", optimize=True)
        ending = "png"
    else:
        canvas.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
        ending = "jpg"
    body = out.getvalue()
    return Fitted(f"{sha256(body).hexdigest()[:40]}.{ending}", body)

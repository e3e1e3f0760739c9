"""Pictures in their frames: sizes, white around them, what fits already, and files that mean no good."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pushd.content.pictures import Frame, fit

PIXELS_MAX = 1_000_000


def made(size, colour=(200, 0, 0), kind="PNG", mode="RGB", **options):
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind, **options)
    return out.getvalue()


def opened(fitted):
    return Image.open(io.BytesIO(fitted.body)).convert("RGB")


def bomb(width, height):
    """A PNG whose few bytes say that it is so large."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "side"), [((100, 50), 100), ((50, 100), 100), ((20, 10), 80), ((32, 32), 80), ((900, 300), 192)]
)
def test_an_icon_is_put_on_a_white_square_of_at_least_80(size, side):
    fitted = fit(made(size), Frame.ICON, PIXELS_MAX)
    picture = opened(fitted)
    assert picture.size == (side, side)
    assert fitted.name.endswith(".png")
    assert picture.getpixel((side // 2, side // 2)) == (200, 0, 0)
    corner = (255, 255, 255) if size[0] != size[1] else (200, 0, 0)
    assert picture.getpixel((0, 0)) == corner


@pytest.mark.parametrize(
    ("frame", "size"),
    [(Frame.ICON, (80, 80)), (Frame.ICON, (512, 512)), (Frame.IMAGE, (360, 240)), (Frame.IMAGE, (601, 400))],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_fits_is_left_as_it_is(frame, size, kind):
    assert fit(made(size, kind=kind), frame, PIXELS_MAX) is None


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (300, 200), (800, 800), (240, 360), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_is_put_on_white_of_360_by_240(size, kind):
    fitted = fit(made(size, kind=kind), Frame.IMAGE, PIXELS_MAX)
    picture = opened(fitted)
    assert picture.size == (360, 240)
    assert fitted.name.endswith(".jpg")
    red, green, _ = picture.getpixel((180, 120))
    assert (red > 150, green < 60) == (True, True)


def test_what_is_transparent_is_white():
    picture = opened(fit(made((100, 50), (0, 0, 0, 0), mode="RGBA"), Frame.ICON, PIXELS_MAX))
    assert picture.getcolors() == [(10_000, (255, 255, 255))]
    for mode, colour in (("P", 3), ("L", 7), ("1", 1), ("LA", (9, 200))):
        assert opened(fit(made((100, 50), colour, mode=mode), Frame.ICON, PIXELS_MAX)).size == (100, 100)


def test_a_photograph_stands_upright():
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = opened(fit(made((200, 100), kind="JPEG", exif=turned), Frame.IMAGE, PIXELS_MAX))
    assert picture.getpixel((180, 2))[1] < 60  # as high as the frame
    assert picture.getpixel((60, 120)) == (255, 255, 255)


def test_a_name_is_made_of_what_is_in_the_picture():
    first, again, other = (fit(made((100, 50), colour), Frame.ICON, PIXELS_MAX) for colour in ("red", "red", "blue"))
    assert first == again
    assert first.name != other.name


@pytest.mark.parametrize("frame", Frame)
def test_a_bomb_is_refused_by_its_first_bytes(frame):
    for size in ((60_000, 60_000), (2_000_000_000, 1), (1001, 1000)):
        with pytest.raises(ValueError, match=r"pixels|PNG or JPEG"):
            fit(bomb(*size), frame, PIXELS_MAX)


def test_what_is_neither_png_nor_jpeg_is_refused():
    for kind in ("GIF", "BMP", "WEBP", "TIFF"):
        with pytest.raises(ValueError, match="PNG or JPEG"):
            fit(made((100, 50), kind=kind), Frame.ICON, PIXELS_MAX)
    whole = made((300, 100))
    for raw in (b"", b"\x89PNG\r\n\x1a\n", whole[:60], b"<svg/>"):
        with pytest.raises(ValueError, match="PNG or JPEG"):
            fit(raw, Frame.ICON, PIXELS_MAX)


@given(st.sampled_from(["PNG", "JPEG"]), st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=20))
def test_a_broken_file_is_refused_or_shown(kind, changes):
    raw = bytearray(made((60, 40), kind=kind))
    for at, octet in changes:
        raw[at % len(raw)] = octet
    try:
        fitted = fit(bytes(raw), Frame.IMAGE, PIXELS_MAX)
    except ValueError:
        return
    assert fitted is None or opened(fitted).size == (360, 240)

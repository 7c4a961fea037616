"""Files of images as programs of detectors write them: EDF (ESRF), CBF (Pilatus) and TIFF, of one value a pixel.

Headers are read here and believed only as far as the file goes; fabio decodes what is compressed (CBF).
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from os import SEEK_END
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ainerd_hpc.formats.hdf5.reading import reading
from ainerd_hpc.formats.opening import opened

_HEAD, _LONGEST_HEADER = 2**12, 2**18
"""Bytes."""
_LARGEST_IMAGE = 2**31
"""Bytes of a packed one."""

_EDF_MAGIC = re.compile(rb"\s*\{[^{]*?(HeaderID|EDF_\w+|ByteOrder|DataType|Dim_1)\s*=", re.IGNORECASE)
_EDF_END, _EDF_BLOCK, _FILLING = re.compile(rb"\}\r?\n"), 512, b"\0 \t\r\n"
_EDF_TYPES = {
    **dict.fromkeys(("signedbyte", "signed8"), "i1"),
    **dict.fromkeys(("unsignedbyte", "unsigned8"), "u1"),
    **dict.fromkeys(("signedshort", "signed16"), "i2"),
    **dict.fromkeys(("unsignedshort", "unsignedshortinteger", "unsigned16"), "u2"),
    **dict.fromkeys(("signedinteger", "signedlong", "signed32"), "i4"),
    **dict.fromkeys(("unsignedinteger", "unsignedlong", "unsigned32"), "u4"),
    "signed64": "i8",
    "unsigned64": "u8",
    **dict.fromkeys(("floatvalue", "float", "real", "floatieee32", "float32"), "f4"),
    **dict.fromkeys(("doublevalue", "double", "floatieee64", "doubleieee64"), "f8"),
}
_CBF_BINARY, _AHEAD = re.compile(rb"\x0c\x1a\x04\xd5"), 16
_CBF_TYPES = {
    f"{sign} {bits}-bit integer": f"<{sign[0].replace('s', 'i')}{bits // 8}"
    for sign in ("signed", "unsigned")
    for bits in (8, 16, 32, 64)
}
_CBF_KEYS = {
    "packing": re.compile(rb'conversions="([^"]*)"', re.IGNORECASE),
    "type": re.compile(rb'X-Binary-Element-Type:\s*"([^"]*)"', re.IGNORECASE),
    "size": re.compile(rb"X-Binary-Size:\s*(\d+)", re.IGNORECASE),
    "width": re.compile(rb"X-Binary-Size-Fastest-Dimension:\s*(\d+)", re.IGNORECASE),
    "height": re.compile(rb"X-Binary-Size-Second-Dimension:\s*(\d+)", re.IGNORECASE),
    "checksum": re.compile(rb"Content-MD5:\s*([A-Za-z0-9+/]{22}==)", re.IGNORECASE),
}
_DATE = re.compile(r"\d{4}[-/]\w{2,3}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?")
_TIFF_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_TIFF_TEXT, _TIFF_NUMBERS = 2, {1: 1, 3: 2, 4: 4, 16: 8}
"""Types of tags, and bytes of those that are numbers."""
_TIFF_DEFAULTS = {256: 0, 257: 0, 258: 1, 259: 1, 262: 1, 277: 1, 339: 1}
"""Width, height, bits, compression, colours, samples, format."""
_TIFF_FORMS = {1: "u", 2: "i", 3: "f"}
_DESCRIPTION, _OFFSETS, _COUNTS, _TILES, _NODATA = 270, 273, 279, 322, 42113
_TIFF_KNOWN = {*_TIFF_DEFAULTS, _DESCRIPTION, _OFFSETS, _COUNTS, _TILES, _NODATA}
_TIFF_PIXELS = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}


class Image(NamedTuple):
    """Where one image lies in its file, and how."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pieces: tuple[tuple[int, int], ...]
    """(offset, bytes) of what it is put together from."""
    header: Mapping[str, str]
    """What the file says of it, by keys in small letters."""
    is_packed: bool = False
    """Compression by differences of neighbours (x-CBF_BYTE_OFFSET)."""
    checksum: str = ""
    """MD5 of what is stored, base64; empty where there is none."""

    @property
    def number(self) -> int | None:
        """Its number in the acquisition, from 0, where LImA wrote the file."""
        number = self.header.get("acq_frame_nb", "")
        return int(number) if number.isdecimal() and len(number) < 18 else None


def images_of(path: Path) -> Iterator[Image]:
    """The images of a file, one after the other, from their headers; at least one.

    Raises
    ------
    ScanError
        The file is none of these, its header or one of the next makes no sense, or it ends before its pixels do.
    """
    with reading(str(path)), opened(path) as one:
        file = one.buffered()
        size = file.seek(0, SEEK_END)
        kind = kind_of(_bytes(file, 0, min(size, _HEAD)))
        if not kind:
            raise ValueError("expected EDF, CBF or TIFF, found none of them")
        images = _PARSERS[kind](file, size)
        if (first := next(images, None)) is None:
            raise ValueError("expected an image, found none")
        yield first
        yield from images


def kind_of(head: bytes) -> str:
    """edf, cbf or tiff; empty for anything else."""
    if head.startswith(b"###CBF"):
        return "cbf"
    if head[:4] in _TIFF_MAGIC:
        return "tiff"
    return "edf" if _EDF_MAGIC.match(head) else ""


def _bytes(file: BufferedReader, offset: int, size: int) -> bytes:
    """What lies there, all of it."""
    file.seek(offset)
    found = file.read(size)
    if len(found) != size:
        raise ValueError(f"expected {size} bytes at {offset}, found {len(found)}")
    return found


def fill(frame: np.ndarray, file: BufferedReader, image: Image) -> None:
    """Read an image into a frame (y, x) of native byte order.

    Raises
    ------
    ValueError
        The file ends before, or what is packed is damaged.
    """
    if image.is_packed:
        frame[...] = _unpacked(file, image).reshape(frame.shape).astype(frame.dtype)
        return
    left = frame.data.cast("B")
    for offset, size in image.pieces:
        file.seek(offset)
        if file.readinto(left[:size]) != size:
            raise ValueError(f"expected {size} bytes at {offset}, found the end of the file")
        left = left[size:]
    if not image.dtype.isnative:
        frame.byteswap(inplace=True)


def _unpacked(file: BufferedReader, image: Image) -> np.ndarray:
    """(y x,) int64 out of the differences of neighbours."""
    from fabio.compression import decByteOffset

    (offset, size), num = image.pieces[0], image.shape[0] * image.shape[1]
    stored = _bytes(file, offset, size)
    if image.checksum and b64decode(image.checksum) != hashlib.md5(stored, usedforsecurity=False).digest():
        raise ValueError(f"expected pixels with the MD5 {image.checksum}, found others")
    # The decoder looks up to 14 bytes ahead, wherever the end is, and stops there without a word: the zeros behind it
    # are as many pixels more if it is in step.
    values = np.asarray(decByteOffset(stored + bytes(_AHEAD), size=num + _AHEAD + 1))
    if len(values) != num + _AHEAD:
        raise ValueError(f"expected {num} pixels in {size} bytes, found other differences")
    return values[:num]


def _edf_images(file: BufferedReader, size: int) -> Iterator[Image]:
    general: dict[str, str] = {}
    offset = 0
    while offset < size:
        header, begin = edf_header(file, offset, size)
        if not header and offset:
            return
        if "edf_dataformatversion" in header:
            general, offset = _inherited(header), begin + _positive(header.get("edf_binarysize", "0"), 0)
            continue
        image = edf_image({**general, **header}, begin)
        stored = _edf_stored(image)
        if begin + image.pieces[0][1] > size:
            raise ValueError(f"expected {image.pieces[0][1]} bytes of pixels at {begin}, found {size - begin}")
        yield image
        offset = begin + stored


def edf_header(file: BufferedReader, offset: int, size: int) -> tuple[dict[str, str], int]:
    """The header at an offset, by keys in small letters, and where it ends; empty where only filling is left.

    Parameters
    ----------
    size : int
        Bytes of the file.

    Raises
    ------
    ValueError
        There is another thing, or no end of it.
    """
    text, end = _text_before(_EDF_END, file, offset, size)
    if not end and len(text) < _EDF_BLOCK and not text.strip(_FILLING):
        return {}, size
    if not end or not text.lstrip(_FILLING).startswith(b"{"):
        raise ValueError(f"expected a header in {{}} at {offset}, found {text[:20]!r}, {'' if end else 'no '}end of it")
    lines = [line.partition("=") for line in text[: end.start()].decode("latin-1").lstrip("{\0\r\n\t ").split(";")]
    return {key.strip().lower(): value.strip("\0\r\n\t ") for key, sign, value in lines if sign}, offset + end.end()


def _text_before(
    end: re.Pattern[bytes], file: BufferedReader, offset: int, size: int
) -> tuple[bytes, re.Match[bytes] | None]:
    """What begins at an offset, and its end in there, if it has one before the longest header does."""
    text, block = b"", _HEAD
    while not (found := end.search(text)) and len(text) < _LONGEST_HEADER and offset + len(text) < size:
        text += _bytes(file, offset + len(text), min(size - offset - len(text), block))
        block *= 2
    return text, found


def edf_image(header: Mapping[str, str], begin: int) -> Image:
    """The image of a header, whose pixels begin there.

    Raises
    ------
    ValueError
        The header lacks something, or tells of anything but whole numbers or floats as they are.
    """
    width, height = _positive(header.get("dim_1", "")), _positive(header.get("dim_2", ""))
    name, order = header.get("datatype", ""), header.get("byteorder", "").lower()
    if name.lower() not in _EDF_TYPES:
        raise ValueError(f"expected a DataType of one number a pixel, found {name[:20]!r}")
    if not header.get("compression", "no").lower().startswith("no") or "edf_binaryfilename" in header:
        raise ValueError("expected plain data behind the header, found it compressed or in another file")
    if _positive(header.get("dim_3", "1")) != 1:
        raise ValueError(f"expected images of two dimensions, found {header['dim_3']} in Dim_3")
    dtype = np.dtype((">" if order.startswith("high") else "<") + _EDF_TYPES[name.lower()])
    return Image((height, width), dtype, ((begin, height * width * dtype.itemsize),), header)


def _edf_stored(image: Image) -> int:
    """Bytes that are kept for the pixels of an image."""
    (_, num_bytes), (height, width) = image.pieces[0], image.shape
    stored = _positive(image.header.get("size", image.header.get("edf_binarysize", str(num_bytes))))
    if stored < num_bytes:
        raise ValueError(f"expected Size of at least {num_bytes} for {height} x {width} {image.dtype}, found {stored}")
    return stored


def _inherited(header: Mapping[str, str]) -> dict[str, str]:
    """What a general header says of all images."""
    own = {"size", "image", "headerid"}
    return {key: value for key, value in header.items() if key not in own and not key.startswith("edf_")}


def _positive(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"expected a number from {least} in the header, found {text[:20]!r}")
    return int(text)


def _cbf_images(file: BufferedReader, size: int) -> Iterator[Image]:
    text, end = _text_before(_CBF_BINARY, file, 0, size)
    if not end:
        raise ValueError("expected the pixels of a CBF image, found no beginning of them")
    text = text[: end.start()]
    found = {key: match[1].decode("latin-1") for key, line in _CBF_KEYS.items() if (match := line.search(text))}
    if found.get("packing", "").upper() != "X-CBF_BYTE_OFFSET" or found.get("type", "").lower() not in _CBF_TYPES:
        problem = f"found {found.get('packing', 'none')[:20]} of {found.get('type', 'nothing')[:20]}"
        raise ValueError(f"expected x-CBF_BYTE_OFFSET of integers, {problem}")
    shape = _positive(found.get("height", "")), _positive(found.get("width", ""))
    begin, stored = end.end(), _positive(found.get("size", ""))
    if not shape[0] * shape[1] <= stored <= min(size - begin, _LARGEST_IMAGE):
        problem = f"found {stored} bytes, in a file with {size - begin} left"
        raise ValueError(f"expected pixels {shape}, each of a byte at least, {problem}")
    dtype = np.dtype(_CBF_TYPES[found["type"].lower()])
    yield Image(shape, dtype, ((begin, stored),), _comments(text), True, found.get("checksum", ""))


def _comments(text: bytes) -> dict[str, str]:
    """What the lines of a header of Pilatus say, `# Exposure_time 0.1 s`; in CBF, and in TIFF as description."""
    found = {}
    for line in text[:_LONGEST_HEADER].decode("latin-1").splitlines():
        if line.startswith("#"):
            key, _, value = line.lstrip("# \t").partition(" ")
            found[key.rstrip(":=").lower()] = value.lstrip(" =").rstrip()
            if date := _DATE.match(line.lstrip("# \t")):
                found["date"] = date[0]
    return found


class _Tiff:
    """The directories of a TIFF or BigTIFF file, one for each image."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file, self._seen = file, set[int]()
        self._left = size
        """Bytes to read at most: directories that overlap could go on for ever."""
        head = self._bytes(0, 8)
        self.order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        self._is_big = self._int(head[2:4]) == 43
        self._wide = 8 if self._is_big else 4
        self.offset = self._int(self._bytes(8, 8) if self._is_big else head[4:])

    def next_directory(self) -> dict[int, bytes | list[int]]:
        """Text or numbers of each known tag; `offset` moves on to the next directory, 0 behind the last."""
        if self.offset in self._seen:
            raise ValueError(f"expected another directory, found that at {self.offset} again")
        self._seen.add(self.offset)
        count_size, entry_size = (8, 20) if self._is_big else (2, 12)
        count = self._int(self._bytes(self.offset, count_size))
        entries = self._bytes(self.offset + count_size, count * entry_size + self._wide)
        self.offset = self._int(entries[-self._wide :])
        found = {}
        for start in range(0, count * entry_size, entry_size):
            tag, kind = self._int(entries[start : start + 2]), self._int(entries[start + 2 : start + 4])
            if tag in _TIFF_KNOWN:
                found[tag] = self._value(entries[start + 4 : start + entry_size], kind)
        return found

    def _value(self, entry: bytes, kind: int) -> bytes | list[int]:
        width = 1 if kind == _TIFF_TEXT else _TIFF_NUMBERS[kind]
        size = self._int(entry[: self._wide]) * width
        value = entry[self._wide :]
        value = value[:size] if size <= self._wide else self._bytes(self._int(value), size)
        return value if kind == _TIFF_TEXT else [self._int(value[at : at + width]) for at in range(0, size, width)]

    def _bytes(self, offset: int, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise ValueError("expected directories one after another, found them overlapping or beyond the end")
        return _bytes(self._file, offset, size)

    def _int(self, value: bytes) -> int:
        return int.from_bytes(value, self.order)


def _tiff_images(file: BufferedReader, size: int) -> Iterator[Image]:
    tiff = _Tiff(file, size)
    while tiff.offset:
        yield _tiff_image(tiff.next_directory(), tiff.order, size)


def _tiff_image(tags: Mapping[int, bytes | list[int]], order: str, size: int) -> Image:
    """An image of strips, as they are."""
    numbers = {tag: list(value) for tag, value in tags.items() if isinstance(value, list) and value}
    width, height, bits, packing, colours, samples, form = (
        numbers.get(tag, [default])[0] for tag, default in _TIFF_DEFAULTS.items()
    )
    kind = f"{_TIFF_FORMS.get(form)}{bits // 8}"
    if (samples, packing) != (1, 1) or colours > 1 or bits % 8 or kind not in _TIFF_PIXELS or _TILES in tags:
        layout = "tiles" if _TILES in tags else "strips"
        problem = (
            f"found {layout} of {samples} of {bits} bits (format {form}, colours {colours}, compression {packing})"
        )
        raise ValueError(f"expected strips of one number a pixel as it is, {problem}")
    dtype = np.dtype(("<" if order == "little" else ">") + kind)
    num_bytes = _positive(str(height)) * _positive(str(width)) * dtype.itemsize
    offsets, counts = numbers.get(_OFFSETS, []), numbers.get(_COUNTS, [num_bytes])
    if len(offsets) != len(counts) or sum(counts) < num_bytes:
        raise ValueError(f"expected {num_bytes} bytes in strips, found {sum(counts)} in {len(offsets)}")
    description, nodata = tags.get(_DESCRIPTION, b""), tags.get(_NODATA, b"")
    header = _comments(description) if isinstance(description, bytes) else {}
    if isinstance(nodata, bytes) and nodata:
        header["gdal_nodata"] = nodata.decode("latin-1")
    return Image((height, width), dtype, _joined(offsets, counts, num_bytes, size), header)


def _joined(offsets: Sequence[int], counts: Sequence[int], num_bytes: int, size: int) -> tuple[tuple[int, int], ...]:
    """(offset, bytes) of strips up to so many bytes, those side by side as one."""
    pieces: list[tuple[int, int]] = []
    for offset, count in zip(offsets, counts, strict=True):
        count = min(count, num_bytes)
        num_bytes -= count
        if offset + count > size:
            raise ValueError(f"expected {count} bytes of pixels at {offset}, found a file of {size}")
        if pieces and sum(pieces[-1]) == offset:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + count)
        elif count:
            pieces.append((offset, count))
    return tuple(pieces)


_PARSERS = {"edf": _edf_images, "cbf": _cbf_images, "tiff": _tiff_images}

"""The picture of a partition: its bins on the detector, and the pixels of every q."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ainerd_hpc.formats.partitions.partition import QMap

_WIDTH, _HEIGHT = 1600, 1040
_DETECTOR = (90, 100, 1020, 920)
"""Box of the detector: left, top, right, bottom."""
_NARROWEST = 380
_CHART = (140, 290, 920)
"""Top, width and bottom of the chart."""
_TEXT, _FAINT, _MASKED, _UNUSED = (30, 30, 30), (120, 120, 120), (70, 70, 70), (226, 226, 226)
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=float)
"""The colours of the smallest and the largest q, and those between."""
_FEWEST_BETWEEN = 17
"""Pixels of the picture from one line of text to the next."""


def draw(qmap: QMap, title: str) -> Image.Image:
    """Bins coloured by q, every other one lighter, the static ones faintly; masked pixels dark, unused ones light."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    canvas = ImageDraw.Draw(image)
    _text(canvas, (_DETECTOR[0], 34), title, size=26, anchor="lm")
    _text(canvas, (_DETECTOR[0], 66), _subtitle(qmap), size=17, anchor="lm", colour=_FAINT)
    right = _draw_detector(image, canvas, qmap)
    _draw_chart(canvas, qmap, max(right, _DETECTOR[0] + _NARROWEST) + 170)
    drawn = ImageOps.invert(image).getbbox() or (0, 0, _WIDTH, _HEIGHT)
    return image.crop((0, 0, drawn[2] + 40, min(_HEIGHT, drawn[3] + 40)))


def _subtitle(qmap: QMap) -> str:
    geometry, partition = qmap.geometry, qmap.partition
    parts = [f"{partition.dynamic_q_list.size} bins, {partition.static_q_list.size} static"]
    parts += [f"{np.count_nonzero(partition.dynamic_roi_map)} of {partition.mask.size} pixels"]
    known = (
        (geometry.energy, "keV"),
        (geometry.distance, "m to the detector"),
        (geometry.pixel_size * 1e6, "um pixels"),
    )
    parts += [f"{value:.5g} {unit}" for value, unit in known if np.isfinite(value)]
    return ", ".join(parts)


def _draw_detector(image: Image.Image, canvas: ImageDraw.ImageDraw, qmap: QMap) -> int:
    """Draw it; give where it ends on the right."""
    left, top, right, bottom = _DETECTOR
    height, width = qmap.partition.mask.shape
    scale = min((right - left) / width, (bottom - top) / height)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    columns, rows = (np.arange(drawn) * number // drawn for drawn, number in zip(size, (width, height), strict=True))
    image.paste(Image.fromarray(_colours(qmap, rows, columns)), (left, top))
    canvas.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=_FAINT)
    for place in _ticks(width):
        x = left + (place + 0.5) * size[0] / width
        canvas.line((x, top + size[1], x, top + size[1] + 6), fill=_FAINT)
        _text(canvas, (x, top + size[1] + 10), str(place), anchor="mt")
    for place in _ticks(height):
        y = top + (place + 0.5) * size[1] / height
        canvas.line((left - 7, y, left - 1, y), fill=_FAINT)
        _text(canvas, (left - 11, y), str(place), anchor="rm")
    _text(canvas, (left + size[0] / 2, top + size[1] + 36), "column", anchor="mt")
    _text(canvas, (left - 11, top - 8), "row", anchor="rb")
    _draw_beam(canvas, qmap, (left, top), (size[0] / width, size[1] / height))
    _draw_key(canvas, (left, top + size[1] + 58))
    return left + size[0]


def _colours(qmap: QMap, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Colours of some rows and columns of the detector, (y, x, 3) uint8."""
    part = np.ix_(rows, columns)
    dynamic, static = qmap.partition.dynamic_roi_map[part], qmap.partition.static_roi_map[part]
    palette = np.vstack([np.zeros(3), _bin_colours(qmap)])
    shade = np.append(0, np.add(*np.divmod(qmap.static.index_mapping, qmap.static.phi.size)) % 2)
    picture = palette[dynamic] * (1.0 - 0.09 * shade[static][..., np.newaxis])
    picture[dynamic == 0] = _UNUSED
    picture[~qmap.blemish[part]] = _MASKED
    return np.asarray(picture, dtype=np.uint8)


def _bin_colours(qmap: QMap) -> np.ndarray:
    """Colours of the labels, (n, 3): by q, and every other one lighter; the last of an odd number meets the first."""
    bins = qmap.dynamic
    i_q, i_phi = np.divmod(bins.index_mapping, bins.phi.size)
    place = i_q / max(1, bins.q.size - 1) * (len(_COLOURS) - 1)
    colours = np.stack([np.interp(place, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T], axis=1)
    odd_end = (i_phi == bins.phi.size - 1) & (bins.phi.size % 2 == 1) & (bins.phi.size > 1)
    lighter = np.where(odd_end, 0.55, 0.3 * ((i_q + i_phi) % 2))[:, np.newaxis]
    return colours * (1.0 - lighter) + 255.0 * lighter


def _draw_beam(canvas: ImageDraw.ImageDraw, qmap: QMap, corner: tuple[int, int], scale: tuple[float, float]) -> None:
    """A cross where the direct beam meets the detector."""
    height, width = qmap.partition.mask.shape
    x, y = qmap.geometry.beam_center_x, qmap.geometry.beam_center_y
    if not (0 <= x < width and 0 <= y < height):
        return
    x, y = corner[0] + (x + 0.5) * scale[0], corner[1] + (y + 0.5) * scale[1]
    for colour, thick in (("white", 5), ((200, 30, 30), 2)):
        canvas.line((x - 12, y, x + 12, y), fill=colour, width=thick)
        canvas.line((x, y - 12, x, y + 12), fill=colour, width=thick)


def _draw_key(canvas: ImageDraw.ImageDraw, corner: tuple[float, float]) -> None:
    x, y = corner
    for colour, text in ((_MASKED, "masked"), (_UNUSED, "in no bin")):
        canvas.rectangle((x, y, x + 14, y + 14), fill=colour, outline=_FAINT)
        _text(canvas, (x + 20, y + 7), text, anchor="lm")
        x += 110
    canvas.line((x, y + 7, x + 14, y + 7), fill=(200, 30, 30), width=2)
    canvas.line((x + 7, y, x + 7, y + 14), fill=(200, 30, 30), width=2)
    _text(canvas, (x + 20, y + 7), "direct beam", anchor="lm")


def _draw_chart(canvas: ImageDraw.ImageDraw, qmap: QMap, left: int) -> None:
    """A bar for every q: the pixels of its bins, one after the other."""
    top, width, bottom = _CHART
    bins, labels = qmap.dynamic, qmap.partition.dynamic_roi_map
    pixels = np.bincount(labels.ravel(), minlength=bins.index_mapping.size + 1)[1:]
    ring = bins.index_mapping // bins.phi.size
    of_ring = np.bincount(ring, pixels, bins.q.size)
    step = min(40.0, (bottom - top) / bins.q.size)
    every = int(np.ceil(_FEWEST_BETWEEN / step))
    _text(canvas, (left - 10, top - 26), "q (1/angstrom)", anchor="rm")
    _text(canvas, (left, top - 26), "pixels, bin by bin" if bins.phi.size > 1 else "pixels", anchor="lm")
    filled = np.zeros(bins.q.size)
    for label, colour in enumerate(_bin_colours(qmap)):
        i_q = ring[label]
        x = left + width * np.array([filled[i_q], filled[i_q] + pixels[label]]) / of_ring.max()
        y = top + i_q * step
        canvas.rectangle((x[0], y, x[1], y + max(0.0, step - (2 if step > 6 else 1))), fill=tuple(colour.astype(int)))
        filled[i_q] += pixels[label]
    for i_q in range(0, bins.q.size, every):
        y = top + (i_q + 0.5) * step
        _text(canvas, (left - 10, y), f"{bins.q[i_q]:.4g}", anchor="rm")
        _text(canvas, (left + width * of_ring[i_q] / of_ring.max() + 8, y), f"{of_ring[i_q]:.0f}", anchor="lm")


def _ticks(number: int) -> range:
    """About six round places below `number`."""
    rough = max(1.0, number / 6.0)
    power = 10 ** int(np.floor(np.log10(rough)))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return range(0, number, int(step))


def _text(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    anchor: str,
    size: int = 15,
    colour: tuple[int, int, int] = _TEXT,
) -> None:
    canvas.text(place, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)

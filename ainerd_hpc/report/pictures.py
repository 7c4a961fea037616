"""Pictures of two-time maps as images that a browser decodes when it shows them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ainerd_hpc.report.packing import base64_of

TILES_PER_ROW = 64
TILES_PER_PAGE = TILES_PER_ROW * 64
MAX_FULL_THUMBNAILS = 20_000
"""Number of maps above which thumbnails are halved in size, so that 10^5 of them stay a file that can be mailed."""


def sprites(thumbnails: np.ndarray) -> dict[str, Any]:
    """Pages of tiles, time rising to the top of each; the browser decodes a page only when it is looked at."""
    tiles = np.asarray(thumbnails, dtype=np.uint8)[:, ::-1]
    if len(tiles) > MAX_FULL_THUMBNAILS and tiles.shape[1] % 2 == 0:
        tiles = _halved(tiles)
    pages = [_page(tiles[start : start + TILES_PER_PAGE]) for start in range(0, len(tiles), TILES_PER_PAGE)]
    return {"size": int(tiles.shape[1]), "perRow": TILES_PER_ROW, "perPage": TILES_PER_PAGE, "pages": pages}


def _halved(tiles: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, in blocks so that a large stack is not held twice in a wider type."""
    small = np.empty((len(tiles), tiles.shape[1] // 2, tiles.shape[2] // 2), np.uint8)
    for start in range(0, len(tiles), 4096):
        block = tiles[start : start + 4096]
        pairs = block.reshape(len(block), small.shape[1], 2, small.shape[2], 2)
        small[start : start + 4096] = pairs.mean(axis=(2, 4), dtype=np.float32).round()
    return small


def _page(tiles: np.ndarray) -> str:
    rows, size = math.ceil(len(tiles) / TILES_PER_ROW), tiles.shape[1]
    sheet = np.zeros((rows * TILES_PER_ROW, size, size), np.uint8)
    sheet[: len(tiles)] = tiles
    lines = sheet.reshape(rows, TILES_PER_ROW, size, size).swapaxes(1, 2)
    return _webp(lines.reshape(rows * size, TILES_PER_ROW * size), quality=60)


def picture(map_: np.ndarray, edge: int) -> np.ndarray:
    """A map (256, 256) as (edge, edge) uint8: block means, 0..1 to 0..255."""
    block = len(map_) // edge
    return as_bytes(map_.reshape(edge, block, edge, block).mean(axis=(1, 3)))


def as_bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as 0..255; 0 where it is no number."""
    found: np.ndarray = np.round(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return found


def image(picture: np.ndarray) -> str:
    """One picture, its first row at the bottom."""
    return _webp(np.asarray(picture, np.uint8)[::-1], quality=85)


def _webp(picture: np.ndarray, quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "WEBP", quality=quality, method=4)
    return base64_of(buffer.getvalue())

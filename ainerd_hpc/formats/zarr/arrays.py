"""Frames in Zarr stores: any array (t, y, x) by its path, and the counts of an archive of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.detector_pixels import MASK_BYTES, PIXEL_MASK, DetectorPixels, PixelFacts
from ainerd_hpc.formats.events.blocks import EventFrames
from ainerd_hpc.formats.missing import MISSING, NOTHING, TAKE, Box, Missing, Presence, check_written
from ainerd_hpc.formats.opening import is_refused
from ainerd_hpc.formats.reader import COUNT_KINDS, frame_type
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import factor
from ainerd_hpc.formats.zarr.absent import frames_present
from ainerd_hpc.formats.zarr.events import ZarrEvents, event_shape, event_sizes
from ainerd_hpc.formats.zarr.stores import (
    ZIP_MAGIC,
    Documents,
    Layout,
    attributes_of,
    document_names,
    open_array,
    open_documents,
    open_store,
    read_layout,
    reading_store,
    shape_and_dtype,
    stored_keys,
)
from ainerd_hpc.types import Content

_FORMS = ("events", "frames")


class ZarrArray:
    """Reader of one array (t, y, x) of Zarr stores, by its path in them.

    Parameters
    ----------
    dataset : str
        Such as `measurement/data`; empty for a store that is an array itself.
    """

    content = Content.FRAMES

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset.strip("/")
        self.name = f"zarr-array:{self.dataset}"

    def matches(self, file: SourceFile) -> bool:
        try:
            if not _is_store(file):
                return False
            with open_documents(file.path) as documents:
                shape, dtype = shape_and_dtype(documents, self.dataset)
                return len(shape) == 3 and dtype.kind in COUNT_KINDS
        except Exception as error:  # whatever a document holds that is no metadata; what is shut, `describe` tells
            return is_refused(error)

    def describe(self, file: SourceFile) -> Description:
        with open_store(file.path) as (documents, store), reading_store(f"{file.path}:/{self.dataset}"):
            layout = read_layout(documents, self.dataset, 3)
            found = self._presence(file.path, store, layout)
            unfinished = check_written(f"{file.path}:/{self.dataset}", found, layout.shape[0])
        metadata = tuple(file.path / name for name in document_names(self.dataset) if (file.path / name).is_file())
        _, height, width = layout.shape
        return Description(
            found.num_frames,
            frame_type(layout.dtype).itemsize,
            height,
            width,
            companions=metadata,
            missing=found.missing.told(found.num_frames, is_cut=unfinished is not None),
            unfinished=f"{unfinished}; or {TAKE}" if unfinished else "",
        )

    @contextmanager
    def open(self, path: Path) -> Iterator[ZarrFrames]:
        with open_store(path) as (documents, store):
            frames = ZarrFrames(path, documents, store, self.dataset)
            with reading_store(f"{path}:/{self.dataset}"):
                found = self._presence(path, store, read_layout(documents, self.dataset, 3))
            frames.shape, frames.missing = (found.num_frames, *frames.shape[1:]), found.missing
            yield frames

    def _presence(self, path: Path, store: Any, layout: Layout) -> Presence:
        def read(chunk: Box) -> np.ndarray:
            there = tuple(map(slice, chunk.start, chunk.stop))
            return np.asarray(open_array(store, self.dataset, layout)[there])

        return frames_present(layout, stored_keys(path, self.dataset), read)


class ZarrFrames:
    """Frames of an open store."""

    def __init__(self, path: Path, documents: Documents, store: Any, dataset: str) -> None:
        self._where = f"{path}:/{dataset}"
        with reading_store(self._where):
            layout = read_layout(documents, dataset, 3)
            self._array = open_array(store, dataset, layout)
        self.dtype, self.missing, self.pixels = frame_type(layout.dtype), NOTHING, DetectorPixels()
        self.shape, self.per_chunk = layout.shape, layout.chunk[0]

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        stop = max(start, min(stop, self.shape[0]))
        with reading_store(f"{self._where} frames {start}..{stop - 1}"):
            return np.asarray(self._array[start:stop:step]).astype(self.dtype, copy=False)


class AinerdFrames:
    """Reader of `frames/<scan>.zarr.zip` of an archive of ours: frames, or events by pixel."""

    name = "ainerd-frames"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        try:
            if not file.head.startswith(ZIP_MAGIC):
                return False
            with open_documents(file.path) as documents:
                return attributes_of(documents).get("form") in _FORMS
        except Exception:  # whatever a document holds that is no metadata
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        with reading_store(str(file.path)), open_documents(file.path) as documents:
            attributes, metadata = attributes_of(documents), _metadata(documents)
            sizes: dict[str, Any] = {}
            if attributes.get("form") == "events":
                (num_frames, height, width), itemsize = event_shape(file.path, documents), EventFrames.dtype.itemsize
                sizes = event_sizes(documents, (num_frames, height, width))
            else:
                layout = read_layout(documents, "frames", 3)
                (num_frames, height, width), itemsize = layout.shape, frame_type(layout.dtype).itemsize
            facts = _facts(documents, (num_frames, height, width))
            missing = str(_stored_missing(documents, file.path))
            if facts.has_mask:
                sizes["reader_bytes"] = sizes.get("reader_bytes", 0) + MASK_BYTES * height * width
        return Description(
            num_frames,
            itemsize,
            height,
            width,
            **sizes,
            metadata=metadata,
            pixels=facts,
            simulated=attributes.get("simulated") is True,
            missing=missing,
        )

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[ZarrFrames | ZarrEvents]:
        """The frames of a scan.

        Of events, the pointer (8 bytes a pixel) and a number for each frame are in memory, for which all times are read
        once; then some 8 million events at a time, for each of which the file is read once more.
        """
        with open_store(path) as (documents, store):
            with reading_store(str(path)):
                is_events = attributes_of(documents).get("form") == "events"
            stored = (path, documents, store)
            frames: ZarrFrames | ZarrEvents = ZarrEvents(*stored) if is_events else ZarrFrames(*stored, "frames")
            with reading_store(str(path)):
                frames.missing = _stored_missing(documents, path)
                frames.pixels = _pixels(documents, store, frames.shape)
            yield frames


def _stored_missing(documents: Documents, path: Path) -> Missing:
    """What was missing when the product was made."""
    if not documents(f"{MISSING[0]}/zarr.json"):
        return NOTHING
    with open_store(path) as (_, store):
        return Missing(*(open_array(store, name, read_layout(documents, name, 1))[...] for name in MISSING))


def _mask_layout(documents: Documents, shape: tuple[int, ...]) -> Layout | None:
    """That of the mask of frames of this shape (t, y, x); None where there is none."""
    if not any(documents(name) for name in document_names(PIXEL_MASK)):
        return None
    layout = read_layout(documents, PIXEL_MASK, 2)
    if layout.shape != tuple(shape[1:]) or layout.dtype.kind != "u":
        raise ValueError(f"expected a pixel_mask {tuple(shape[1:])}, found {layout.dtype} {layout.shape}")
    return layout


def _facts(documents: Documents, shape: tuple[int, ...]) -> PixelFacts:
    """What a product of ours says of its pixels, without the mask itself."""
    no_counts = DetectorPixels.of_store(attributes_of(documents), None).no_counts
    has_mask = _mask_layout(documents, shape) is not None
    used = [*([PIXEL_MASK] if has_mask else []), *(f"no_counts {first:.10g}..{last:.10g}" for first, last in no_counts)]
    return PixelFacts(no_counts, has_mask, tuple(used))


def _pixels(documents: Documents, store: Any, shape: tuple[int, ...]) -> DetectorPixels:
    """The same with the mask."""
    layout = _mask_layout(documents, shape)
    mask = None if layout is None else np.asarray(open_array(store, PIXEL_MASK, layout)[...], np.uint32)
    return DetectorPixels.of_store(attributes_of(documents), mask)


def _metadata(documents: Documents) -> Metadata:
    """What the attributes of a product of ours say."""
    attributes = attributes_of(documents)
    scale = factor(str(attributes.get("frame_time_units", "")), "s")
    known = Metadata(frame_time=float(attributes.get("frame_time", nan)) * scale)
    if known.has_frame_time and not 0.0 < known.frame_time < inf:
        raise ValueError(f"expected a frame_time above 0 s, found {known.frame_time}")
    return known


def _is_store(file: SourceFile) -> bool:
    return file.head.startswith(ZIP_MAGIC) or (not file.head and file.path.is_dir())

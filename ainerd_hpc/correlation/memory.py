"""Projected memory of correlation, and into how many parts a scan is split to stay within a worker's."""

from __future__ import annotations

from typing import NamedTuple

from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.selection import selection
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.kernels.lags import delays
from ainerd_hpc.types import Scan

STORED_BYTES_PER_EVENT = 2
"""Least bytes of a sparse event in a compressed source file (bitshuffle/LZ4 takes 4 to 7)."""
BYTES_PER_EVENT = 10
"""5 as found, frame by frame, and 5 sorted by pixel."""
_BYTES_PER_EVENT_READ = 48
"""Memory of an event of a block that is read from a file of events."""
_BURST = 4
"""Times by which the fullest block may exceed the mean."""
_SHARE_OF_EVENTS = {"events": 1.0, "auto": 0.1}
"""Most pixels with a photon, where counts are copied as events."""
BLOCK_BYTES = 2**22
"""Bytes of frames read at a time, so that they stay in the cache until their pixels are taken."""
SAMPLES, SAMPLE_FRAMES = 3, 4
"""How many times how many frames are looked at, to choose the form of the counts."""
_MOST_BLOCKS = 64
_PIXELS_PER_TILE = 192
"""Whose series the multi-tau kernel keeps in the cache, as integers and, for bright ones, as float64."""
_PIXELS_PER_PRODUCT = 4096
"""That are multiplied as float64 at a time."""
ALLOWANCE = 2**26
"""Bytes by which counts may exceed what the size of their file tells."""
_BASE = 2**26


class Split(NamedTuple):
    """How a scan is divided."""

    num_parts: int
    """Tasks, each with some of the q-bins."""
    num_blocks: int
    """Blocks of pixels, for a task of one q-bin that is too large."""
    peak_bytes: int
    """Projected peak of a task, beyond that of the process."""

    def num_reads(self, config: RunConfig, scan: Scan) -> int:
        """How often a task reads all frames: at most twice to look at them as a whole, where the scan is split or has
        to be known before, and twice more for hot pixels; then once, or each block of pixels once for its intensities
        and once for its products."""
        blocks = 1 if self.num_blocks == 1 else 2 * self.num_blocks
        looks = 2 if self.num_parts > 1 or self.num_blocks > 1 or is_surveyed(config, scan) else 0
        return blocks + looks + (2 if config.correct.hot_pixels else 0)


def is_surveyed(config: RunConfig, scan: Scan) -> bool:
    """Whether a scan is looked at as a whole before its q-bins are correlated, even where it is not split."""
    correct = config.correct
    return bool(
        config.correlate.frame_normalisation is True or scan.is_corrected or correct.hot_pixels or correct.bad_frames
    )


def fewest_parts(config: RunConfig, scan: Scan, tiles: Tiles, allowed: int) -> Split:
    """The coarsest division within the allowed bytes; where there is none, the undivided scan, which plans refuse."""
    for num_parts in range(1, max(1, scan.num_q_bins) + 1):
        q_bins = -(-scan.num_q_bins // num_parts)
        split = Split(num_parts, 1, peak_bytes(config, scan, tiles, q_bins))
        if split.peak_bytes <= allowed:
            return split
    for num_blocks in range(2, _MOST_BLOCKS + 1):
        split = Split(scan.num_q_bins, num_blocks, peak_bytes(config, scan, tiles, 1, num_blocks))
        if split.peak_bytes <= allowed:
            return split
    return Split(1, 1, peak_bytes(config, scan, tiles, scan.num_q_bins))


def peak_bytes(config: RunConfig, scan: Scan, tiles: Tiles, num_q_bins: int, num_blocks: int = 1) -> int:
    """Projected peak memory of a task with so many q-bins of a scan, beyond that of the process."""
    chosen = selection(config.correlate, scan.num_frames)
    num_pixels = min(num_q_bins * scan.largest_bin, scan.num_pixels) // num_blocks + 1
    threads = config.executor.threads
    reading = reading_bytes(config, scan)
    counts = counts_bytes(config, scan, num_pixels)
    # A row of tiles with its strip of products, its mirror image and its chunks; all chunks where threads wait in turn.
    rows = threads * 6 * 4 * tiles.largest_row + (threads > 1) * threads * 8 * tiles.num_entries
    strips = 24 * tiles.num_entries if num_blocks > 1 else 0
    blocks = threads * (2**22 + 12 * _PIXELS_PER_TILE * (chosen.num_frames + 16))
    num_lags = len(delays(chosen.num_frames, config.correlate.lag_scheme, config.correlate.delays_per_level)[0])
    static_sums = 8 * scan.num_static_bins * (3 * chosen.num_frames + 8 * num_lags)
    lines = chosen.num_frames * (96 * num_q_bins + 200 * threads)
    products = _product_bytes(config, scan, tiles, min(num_pixels, scan.largest_bin), counts)
    return _BASE + reading + counts + rows + strips + blocks + static_sums + lines + products


def _product_bytes(config: RunConfig, scan: Scan, tiles: Tiles, num_pixels: int, counts: int) -> int:
    """Memory of the products of counts that one byte does not hold: some pixels as float64, the others once more as
    int8."""
    if scan.itemsize == 1 and not scan.is_corrected:
        return 0
    num_frames, threads = selection(config.correlate, scan.num_frames).num_frames, config.executor.threads
    width = num_frames if scan.is_corrected else tiles.largest_row // tiles.edge
    as_int8 = 0 if scan.is_corrected else min(counts // 2, threads * num_frames * num_pixels)
    return threads * 8 * min(_PIXELS_PER_PRODUCT, num_pixels) * width + as_int8


def reading_bytes(config: RunConfig, scan: Scan) -> int:
    """Memory of the blocks of frames that are read at a time, and of the sample of frames that is looked at first."""
    chosen, area = selection(config.correlate, scan.num_frames), scan.height * scan.width
    per_block = max(config.ingest.frames_per_chunk, BLOCK_BYTES // max(1, area * scan.itemsize)) + chosen.span
    # A block as stored, decoded and flat, with room for its events; the sums of averaged frames.
    block = per_block * area * (3 * scan.itemsize + 5 + (12 if chosen.average > 1 else 0))
    sample = SAMPLES * SAMPLE_FRAMES * area * (4 * max(scan.itemsize, 4 if chosen.average > 1 else 1) + 4)
    if scan.num_events:  # more in some blocks than in others; three modules of a detector, once more put together
        share = min(1.0, _BURST * max(per_block, SAMPLES * SAMPLE_FRAMES) / scan.num_frames)
        block += int(share * scan.num_events) * _BYTES_PER_EVENT_READ
    more = scan.reader_bytes + _correction_bytes(config, scan, per_block)
    return config.executor.threads * block + sample + 12 * area + more


def most_events(scan: Scan) -> float:
    """Events of a scan: as many as its file holds, or as could be in a file of frames of its size."""
    return scan.num_events or scan.stored_bytes / STORED_BYTES_PER_EVENT


def _correction_bytes(config: RunConfig, scan: Scan, per_block: int) -> int:
    """More of it where counts are corrected: dark, flat field and what is made of them; the counts of a block as
    measured, corrected and added up; sums of each pixel; marks of what is no count."""
    correct, area = config.correct, scan.height * scan.width
    looked = scan.itemsize + 8 if scan.is_corrected or correct.hot_pixels else 0
    marks = scan.itemsize + 2 if correct.sentinels or correct.saturation or scan.pixels else 0
    block = per_block * area * (looked + (9 if scan.is_corrected else 0) + marks)
    images = 64 * area if scan.is_corrected else 0
    return (
        config.executor.threads * (block + (16 * area if correct.hot_pixels else 0)) + images + 16 * area * bool(looked)
    )


def counts_bytes(config: RunConfig, scan: Scan, num_pixels: int) -> int:
    """Most memory that the counts of so many pixels take, in whichever form.

    Dense counts take at most the bytes of the source, and events of a sparse q-bin less than that. A source file that
    is small for its number of counts holds few events, which bounds both.
    """
    chosen = selection(config.correlate, scan.num_frames)
    if scan.is_corrected:
        return chosen.num_frames * num_pixels * 8 + _copied_bytes(config, scan, chosen.num_frames * num_pixels)
    size = max(scan.itemsize, 4) if chosen.average > 1 else scan.itemsize
    dense = chosen.num_frames * num_pixels * max(size, BYTES_PER_EVENT if config.correlate.form == "events" else 1)
    if config.correlate.form == "dense":
        return dense
    if scan.num_events:
        return min(dense, (12 if config.correlate.form == "events" else 40) * scan.num_events + ALLOWANCE)
    return min(dense, (30 if config.correlate.form == "events" else 4) * scan.stored_bytes + ALLOWANCE)


def _copied_bytes(config: RunConfig, scan: Scan, num_counts: int) -> int:
    """Bytes of the events in the archive that corrected counts are made of: those of the q-bins, and a copy of them."""
    num_events = min(_SHARE_OF_EVENTS.get(config.ingest.form, 0) * num_counts, most_events(scan))
    return int(2 * BYTES_PER_EVENT * num_events)

"""Frames of detectors that store photons as events: what readers of such files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5 import NEXT_STEP, reading

if TYPE_CHECKING:
    from ainerd_hpc.kernels.event_frames import EventBlock
    from ainerd_hpc.kernels.gather import FrameEvents


class EventFrames(ABC):
    """Frames made of events; any number of threads may read.

    A reader gives the events of some frames; here they become frames, or events of chosen pixels. Several events of
    one pixel and frame add up. Counts are uint32, so that no sum of them looks like the value of a dead pixel
    (2^32 - 1), which is that of pixels without a count.

    Parameters
    ----------
    where : str
        The file, for errors.
    shape : tuple
        Frames, rows, columns.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint32)
    per_chunk = 1
    """Frames that are decoded together."""

    def __init__(self, where: str, shape: tuple[int, int, int]) -> None:
        self.where, self.shape = where, shape
        self._num_pixels = shape[1] * shape[2]

    @abstractmethod
    def events(self, start: int, stop: int) -> EventBlock:
        """The events of frames [start, stop), which the scan has; called from several threads at once.

        Raises
        ------
        ScanError
            They cannot be read.
        """

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x) uint32.

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """
        from ainerd_hpc.kernels.event_frames import BadEventError, to_frames

        stop = max(start, min(stop, self.shape[0]))
        block = self._events(start, stop)
        try:
            frames = to_frames(block, self._num_pixels, step)
        except BadEventError as error:
            self._refuse(block, error.index, start)
        return frames.reshape(-1, *self.shape[1:])

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents:
        """Events of frames [start, stop) on chosen pixels, as `kernels.gather.find_events` gives them for frames.

        Parameters
        ----------
        position : ndarray of int32, (y * x,)
            0..p-1 of the pixels that are wanted, -1 of the others.
        is_dead : ndarray of bool, (p,)
            Pixels without a count in any of the frames are marked.

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """
        from ainerd_hpc.kernels.event_frames import BadEventError, find

        stop = max(start, min(stop, self.shape[0]))
        block = self._events(start, stop)
        try:
            return find(block, position, is_dead)
        except BadEventError as error:
            self._refuse(block, error.index, start)
        except OverflowError:
            problem = f"expected photons, found counts above 65535 in the mean of {len(block.pixel)} events"
            raise ScanError(self._frames(start, stop), problem, NEXT_STEP) from None

    def _events(self, start: int, stop: int) -> EventBlock:
        with reading(self._frames(start, stop)):
            return self.events(start, stop)

    def _frames(self, start: int, stop: int) -> str:
        return f"{self.where} frames {start}..{stop - 1}"

    def _refuse(self, block: EventBlock, index: int, start: int) -> NoReturn:
        frame = start + int(np.searchsorted(block.stops, index, side="right"))
        problem = f"expected pixels 0..{self._num_pixels - 1}, found {block.pixel[index]}"
        raise ScanError(f"{self.where} frame {frame}", problem, NEXT_STEP)

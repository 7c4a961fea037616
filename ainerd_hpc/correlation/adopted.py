"""Two-time maps that are taken over from their source: those of a result, or decoded from published latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.archive.groups import GroupWriter
from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.tiles import tiles_for
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.reader import C2Reader, LatentReader
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.models.registry import network
from ainerd_hpc.types import Content, Scan

if TYPE_CHECKING:
    from ainerd_hpc.correlation.product import Arrays


def adopted_bytes(config: RunConfig, scan: Scan) -> int:
    """Projected peak memory of a scan of maps, beyond that of the process."""
    one_c2 = scan.num_frames**2
    # All maps as read (float64) and as float32 with the baseline added; the diagonals of one for its g2.
    return 16 * scan.num_q_bins * one_c2 + 48 * one_c2 + network(config.model.variant).embedding_bytes()


def adopt(config: RunConfig, scan: Scan, group: GroupWriter) -> Arrays:
    """Write C2 of a scan as its source has it, and g2 as the mean along its diagonals; give what cannot be believed.

    Raises
    ------
    ScanError
        The source is damaged, or there are no weights or no network to decode its latents.
    """
    from ainerd_hpc.correlation.belief import of_maps
    from ainerd_hpc.correlation.product import create_c2, write_figures
    from ainerd_hpc.kernels.diagonals import g2_from_c2

    maps, q = _maps_and_q(config, scan)
    tiles = tiles_for(config.maps.model_copy(update={"windows": ("full",)}), scan.num_frames)
    c2 = create_c2(group, scan.num_q_bins, tiles, scan.num_frames)
    lines = []
    for q_bin in range(scan.num_q_bins):
        c2[q_bin] = maps[q_bin]
        group.flush()
        lines.append(g2_from_c2(maps[q_bin]))
    lag = np.arange(1, scan.num_frames)
    group.add("lag", lag, ("lag",), units="frames")
    group.add("delay", lag * scan.frame_time, ("lag",), units="s")
    g2, g2_err = (np.stack([line[number] for line in lines]).astype(np.float32) for number in (0, 1))
    for name, values in (("g2", g2), ("g2_err", g2_err)):
        group.add(name, values, ("q_bin", "lag"), units="1")
    group.add("c2_scale", np.ones((scan.num_q_bins, scan.num_frames)), ("q_bin", "t1"))
    group.add("dynamic_q_list", q, ("q_bin",), units="1/angstrom")
    found = of_maps(g2, g2_err) if scan.content is Content.C2 else {}  # published latents are of scaled maps
    write_figures(group, found)
    return found


def _maps_and_q(config: RunConfig, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Maps (q_bin, t1, t2) float32 with baseline 1, and q (q_bin,) float64, 1/angstrom, NaN where it is not known."""
    found = reader(scan.format)
    if found.content is Content.C2:
        return _read(config, found, Path(scan.source)), found.read_q(Path(scan.source))
    assert found.content is Content.LATENTS
    return _decoded(config, found, scan), np.full(scan.num_q_bins, np.nan)


def _read(config: RunConfig, found: C2Reader, path: Path) -> np.ndarray:
    baseline = config.source.baseline_reference if found.baseline is None else found.baseline
    return np.asarray(found.read_c2(path) + np.float32(1 - baseline))


def _decoded(config: RunConfig, found: LatentReader, scan: Scan) -> np.ndarray:
    import torch

    from ainerd_hpc.models.embedding import decode_latents
    from ainerd_hpc.models.weights import load_model

    torch.set_num_threads(config.executor.threads)
    if config.model.weights is None:
        raise ScanError(scan.source, "expected weights to decode the latents, found none", "set model.weights")
    if not network(config.model.variant).can_decode:
        problem = f"expected a network that decodes the latents, found '{config.model.variant}'"
        raise ScanError(scan.source, problem, "set model.variant to the one that made them")
    model = load_model(config.model.variant, config.model.weights)
    latents = found.read_latents(Path(scan.source), scan.scan_id)
    return 1 + decode_latents(model, latents)  # the published maps are scaled to 0..1 above the baseline

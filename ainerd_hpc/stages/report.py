"""Report: everything on one page, in one file that opens anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from ainerd_hpc import __version__
from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.archive.layout import with_digest
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.archive.tables import read_table, read_vectors, write_table
from ainerd_hpc.correlation.doubts import doubts
from ainerd_hpc.correlation.tiles import window_lengths
from ainerd_hpc.correlation.windows import maps_of_each, window_g2
from ainerd_hpc.digests import digest
from ainerd_hpc.models.registry import network
from ainerd_hpc.publishing import write_text
from ainerd_hpc.report.content import Curve, Detail, ReportData
from ainerd_hpc.report.neighbours import nearest
from ainerd_hpc.report.page import render
from ainerd_hpc.report.page import version as page_version
from ainerd_hpc.report.pictures import as_bytes, picture
from ainerd_hpc.report.relations import Tables, relate
from ainerd_hpc.report.thinning import Shown, choose
from ainerd_hpc.sources.catalog import SAMPLE_PREFIX, noted
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import MAP_SIZE, Load, Scan, Shape, Task

_THUMBNAIL, _FULL = 32, 128
"""Edges of the pictures, pixels."""
_BATCH = 32
"""Maps that are reconstructed at a time."""
_MOST_NOTES = 100
"""Lines of the page on what is to be known of scans."""
_BYTES_PER_MAP = 1400
"""Memory of a row of the table of all maps, with what is made of it (measured: 1300 at 10^6, 45 columns)."""
_BYTES_PER_WINDOW = 2200
"""Memory of what is compared of the q-bins of a window together: 1390 measured at 10^6 with 20 clusters, of 100."""


class Report(Stage):
    """Writes report/index.html, and what goes with what as tables beside it."""

    name = "report"
    version = 2  # 2: what goes with what
    requires = ("correlate", "maps", "train", "embed", "cluster")
    memory_knob = "report.max_maps"
    shape = Shape.SINGLE

    def product(self, key: str) -> Path:
        return self.archive.report_path

    def beside(self, key: str) -> tuple[Path, ...]:
        return tuple(map(self.archive.relations_path, Tables._fields))

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        problems = [f"{p.scan_id} {p.stage} {p.reason}" for p in before.journal.problems]
        made_of = before.of_all("cluster", scans), str(self._settings())
        scans = Scans.of(scans)
        notes = [f"{scan.scan_id} {scan.notes}" for scan in scans.where(scans.column("notes") != "")]
        return digest(self.name, self.version, page_version(), self.config.report, *made_of, problems, notes)

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        scans = Scans.of(scans)
        maps, q_bins, num_frames = (maps_of_each(self.config, scans), *map(scans.column, ("num_q_bins", "num_frames")))
        num_maps = int(maps.sum())
        shown, detailed = (min(num_maps, most) for most in (self.config.report.max_maps, self.config.report.details))
        longest = int(num_frames.max(initial=0))
        # The table, what is related, thumbnails and rows of their maps, one C2 at a time for the curves, with what its
        # g2 takes, and the network.
        num_windows = int((maps // np.maximum(q_bins, 1)).sum())
        whole = _BYTES_PER_MAP * num_maps + _BYTES_PER_WINDOW * num_windows
        peak = 2**27 + whole + 8192 * shown + 40 * longest**2
        peak += network(self.config.model.variant).embedding_bytes()
        lengths = {one for num in np.unique(num_frames) for one in window_lengths(self.config.maps, int(num))}
        load = Load(num_maps=shown, num_entries=detailed * max(lengths, default=0) ** 2)
        problems = [{"scan_id": p.scan_id, "stage": p.stage, "reason": p.reason} for p in before.journal.problems]
        read, write = shown * MAP_SIZE**2 * 4, 2**22 + 200 * shown + 2**14 * detailed
        yield Task("index", before.of_all(self.name, scans), peak, read, write, {"problems": problems}, load)

    def work(self, task: Task) -> Mapping[str, float]:
        table = read_table(self.archive.clusters_path(self.config.model.name))
        typical, limits = self._typical(table), self.config.report
        shown = choose(table, limits.max_points, limits.max_maps, limits.details, _in_turn(typical.values()))
        thumbnails, pictures = _pictures(MapReader(self.archive, table), shown)
        latents = self._latents(shown.pictured)
        is_detailed = np.isin(shown.pictured, shown.detailed)
        in_map = set(table["scan_id"])
        scans = [scan for scan in self.archive.read_catalog() if scan.scan_id in in_map]
        relations = relate(table, scans, read_table(self.archive.sample_log_path), self._sample_columns(table))
        data = ReportData(
            title=self.config.report.title,
            subtitle=f"{table['scan_id'].nunique()} scans, {len(table)} maps, model {self.config.model.name}",
            simulated=any(scan.simulated for scan in scans),
            table=table.iloc[shown.pictured].drop(columns=["row", "scale_low", "scale_high"]).reset_index(drop=True),
            thumbnails=thumbnails,
            details=self._details(table, shown.detailed, pictures, latents[is_detailed]),
            exemplars={
                label: [table["map_id"].iloc[i] for i in rows if i in shown.detailed] for label, rows in typical.items()
            },
            quarantine=task.args["problems"],
            doubts=doubts(table, scans),
            notes=[{"scans": names, "note": note} for names, note in noted(scans, _MOST_NOTES)],
            facts=self._facts() | _damaged(table) | _tied(table, self._sample_columns(table)),
            sample_columns=self._sample_columns(table),
            relations=relations.findings,
            whole=table,
            others=shown.others,
            stands_for=shown.stands_for,
            thinned=shown.text,
            neighbours=nearest(latents),
            clusters=self._clusters(),
        )
        for path, one in zip(self.beside(task.key), relations, strict=True):
            write_table(path, one, task.digest)
        write_text(self.product(task.key), with_digest(render(data), task.digest))
        return {"points": float(len(shown.pictured) + len(shown.others))}

    def _latents(self, rows: np.ndarray) -> np.ndarray:
        return read_vectors(self.archive.embedding_path(self.config.model.name), "latent", rows)

    def _clusters(self) -> pd.DataFrame | None:
        """What is known of each cluster as a whole; archives of earlier versions do not tell."""
        path = self.archive.cluster_summary_path(self.config.model.name)
        return read_table(path) if path.exists() else None

    def _typical(self, table: pd.DataFrame) -> dict[int, list[int]]:
        """Rows of the maps that stand for each cluster: surest members first, the least unusual of them."""
        order = np.lexsort((table["novelty"], -table["probability"]))
        rows = pd.Series(order).groupby(table["label"].to_numpy()[order]).head(self.config.report.exemplars)
        labels = table["label"].to_numpy()[rows]
        return {int(label): rows[labels == label].tolist() for label in np.unique(labels)}

    def _details(
        self, table: pd.DataFrame, rows: np.ndarray, pictures: list[np.ndarray], latents: np.ndarray
    ) -> list[Detail]:
        """These maps at full size, with what the network reads of them and makes of it."""
        curves, seen = self._curves(table.iloc[rows]), self._seen(table, rows, latents)
        parts = zip(table["map_id"].to_numpy()[rows], pictures, curves, seen, strict=True)
        return [Detail(map_id, picture, curve, *pair) for map_id, picture, curve, pair in parts]

    def _seen(
        self, table: pd.DataFrame, rows: np.ndarray, latents: np.ndarray
    ) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
        """The cells that the network reads of each map, if it reads cells, and its reconstruction of what it reads."""
        reads, made = network(self.config.model.variant).reads, self._reconstructions(latents)
        if reads == "cells":
            for (_, cells), expected in zip(MapReader(self.archive, table, reads).each(rows), made, strict=True):
                known = cells[2] > 0
                yield as_bytes(cells[0] * known), None if expected is None else as_bytes(expected * known)
        else:
            for expected in made:
                yield None, picture(expected, _FULL) if reads == "maps" and expected is not None else None

    def _reconstructions(self, latents: np.ndarray) -> Iterator[np.ndarray | None]:
        """What the network makes of each latent; None where it can make nothing."""
        from ainerd_hpc.models.embedding import reconstruct
        from ainerd_hpc.training.trained import trained_model

        model = trained_model(self.archive, self.config)
        for start in range(0, len(latents), _BATCH):
            some = latents[start : start + _BATCH]
            made = reconstruct(model, some)
            yield from [None] * len(some) if made is None else made

    def _curves(self, table: pd.DataFrame) -> Iterator[Curve]:
        """g2 of each of these windows, from its C2, with the fit that the table tells."""
        from ainerd_hpc.correlation.product import StoredC2
        from ainerd_hpc.kernels.fitting import kww

        for scan_id, maps in itertools.groupby(table.to_dict("records"), key=lambda row: row["scan_id"]):
            with reading_group(self.archive.correlation_path(scan_id)) as group:
                c2 = StoredC2(group)
                for row in maps:
                    inside = slice(int(row["age_start"]), int(row["age_stop"]))
                    delay, g2, g2_err = window_g2(c2[int(row["q_bin"]), inside, inside], row["frame_time"])
                    fit = [row[name] for name in ("tau", "contrast", "kww_exponent", "baseline")]
                    line = kww.model(delay, *fit) if np.isfinite(fit).all() else None
                    yield Curve(delay, g2, g2_err, line)

    def _sample_columns(self, table: pd.DataFrame) -> tuple[str, ...]:
        logged = [str(name) for name in read_table(self.archive.sample_log_path) if name != "time"]
        own = [name for name in logged if f"{SAMPLE_PREFIX}{name}" not in table]
        return (*own, *(f"{SAMPLE_PREFIX}{name}" for name in logged if name not in own))

    def _settings(self) -> dict[str, str]:
        """What was asked for, by section; given weights by their name alone."""
        sections = self.config.model_dump(mode="json", include={"correlate", "maps", "model", "cluster"})
        if self.config.model.weights:
            sections["model"]["weights"] = self.config.model.weights.name
        return {
            name: ", ".join(f"{key} {value}" for key, value in section.items()) for name, section in sections.items()
        }

    def _facts(self) -> dict[str, str]:
        """What was used, without dates or places: the same archive gives the same page."""
        packages = ("numpy", "torch", "lightning", "umap-learn", "hdbscan", "zarr")
        versions = {"ainerd_hpc": __version__, **{name: version(name) for name in packages}}
        return {**self._settings(), "versions": ", ".join(f"{name} {number}" for name, number in versions.items())}


def _in_turn(lists: Iterable[Sequence[int]]) -> list[int]:
    """The first of each, then the second of each, and so on."""
    rounds = itertools.zip_longest(*lists)
    return [row for one in rounds for row in one if row is not None]


def _damaged(table: pd.DataFrame) -> dict[str, str]:
    """How many frames were left out because they cannot be read, where there are any."""
    if "damaged_frames" not in table:
        return {}
    scans = table.drop_duplicates("scan_id")["damaged_frames"]
    num = f"{scans.sum():.0f} left out, in {scans.count()} of {len(scans)} scans"
    return {"damaged frames": num} if scans.any() else {}


def _tied(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, str]:
    """The columns of the sample log, and for which share of the maps each says something."""
    shares = {name: table[name].notna().mean() for name in columns if name in table}
    return {"sample log": ", ".join(f"{name} {share:.0%}" for name, share in shares.items())} if shares else {}


def _pictures(reader: MapReader, shown: Shown) -> tuple[np.ndarray, list[np.ndarray]]:
    """The thumbnails (n, edge, edge) uint8, and the pictures of those that are there at full size."""
    thumbnails = np.empty((len(shown.pictured), _THUMBNAIL, _THUMBNAIL), np.uint8)
    detailed, full = set(shown.detailed.tolist()), []
    for place, (row, map_) in enumerate(reader.each(shown.pictured)):
        thumbnails[place] = picture(map_, _THUMBNAIL)
        if row in detailed:
            full.append(picture(map_, _FULL))
    return thumbnails, full

"""The config: its keys, with their types, their defaults and what is checked of each.

A config is a YAML file; `--set a.b=value` overrides one key, `--archive` and `--source` two common ones. Every key has
a default except `archive` and `source.path`. Relative paths start at the folder in which the command runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ainerd_hpc.models.network import Precision
from ainerd_hpc.models.registry import NETWORKS, network

if TYPE_CHECKING:
    from ainerd_hpc.kernels.clustering.fitting import Settings

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or a text such as "5 ms", "2 min"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-z]*)\s*", str(value))
    if not match or (match[2] or "s") not in _SECONDS:
        raise ValueError("expected a duration such as 0.2, '5 ms' or '2 min'")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _expand_home(value: object) -> object:
    return os.path.expanduser(value) if isinstance(value, str | Path) else value


def one_form(path: Path) -> Path:
    """The form in which paths of sources are compared and kept: absolute, links as they stand, no `..`."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()


def _expected(what: str) -> WrapValidator:
    """One message for a type of several branches, where pydantic gives one a branch."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("expected", "expected {what}", {"what": what}) from None

    return WrapValidator(validate)


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"expected one of {', '.join(NETWORKS)}")
    return name


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "number", "format": "seconds"}, {"type": "string", "format": "duration text"}]}),
]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
UserPath = Annotated[Path, BeforeValidator(_expand_home)]
FrameNormalisation = Annotated[bool | Literal["monitor"], _expected("false, true or monitor")]
NetworkName = Annotated[str, AfterValidator(_known_network), WithJsonSchema({"enum": list(NETWORKS), "type": "string"})]
Window = Annotated[Literal["full"] | Annotated[int, Field(ge=8)], _expected("full or a number of frames (>= 8)")]


def _may_be_flag(annotation: Any) -> bool:
    return annotation is bool or any(_may_be_flag(part) for part in get_args(annotation))


class Section(BaseModel):
    """A mapping of the file: unknown keys are refused, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _fill_empty_sections(cls, data: Any) -> Any:
        """A section whose keys are all left out (`train:`) takes its defaults; YAML reads it as null."""
        if not isinstance(data, dict):
            return data
        sections = [name for name, field in cls.model_fields.items() if isinstance(field.annotation, type(Section))]
        return {key: {} if value is None and key in sections else value for key, value in data.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """True and false are no numbers: pydantic would take them for 1 and 0."""
        has_flag = any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
        if has_flag and not _may_be_flag(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("expected no true or false here")
        return value


class SourceConfig(Section):
    path: UserPath | tuple[UserPath, ...]
    """Folder of scans, or a list of folders: raw frames or events, or two-time maps. Searched with their subfolders, by
    content."""
    dataset: str = ""
    """Path of an array (t, y, x) in HDF5 or Zarr files that is taken for frames, such as `entry_0000/measurement/data`;
    needed for layouts that are not known."""
    select: str = ""
    """Condition on the columns of the catalog: only scans for which it holds are taken, e.g. `count_time < 0.1 and
    detector == "Eiger" and start >= "2024-03-01"`."""
    metadata: tuple[str, ...] = ("{stem}_metadata.hdf", "{stem}_metadata.h5", "{stem}_metadata.hdf5")
    """Where the metadata file of a scan may be, from the folder of the scan on; {stem}: its name without suffix."""
    settle: Duration | None = None
    """Files that were changed less than this long ago are left for the next run: they may still be written."""
    incomplete: Literal["refuse", "take"] = "refuse"
    """What becomes of a scan of which linked files are not there, or of which the last frames were not written: refuse
    sets it aside, take takes the frames that are there. Frames that are missing in between are always bad frames, and
    pixels that are in no frame are left out."""
    threshold: PositiveInt = 1
    """Which threshold is taken of detectors that count several at once."""
    partition: UserPath | dict[str, UserPath] | None = None
    """Partition (q map) file, taken for all scans, or for those whose path in the folder matches a pattern: `lambda/*:
    lambda_qmap.hdf`; the first that matches counts. With {stem} it is one beside each scan, as in `metadata`. Default:
    `<scan>_qmap.hdf` beside the scan, else the only one found that belongs to no other scan."""
    sample_log: UserPath | None = None
    """Table (.csv, .tsv, .txt) with a `time` column and one column a sample quantity. Default: the only such file
    found."""
    sample_log_time: Literal["auto", "s", "ms", "us", "ns", "spreadsheet days"] = "auto"
    """What numbers in the `time` column of the sample log are; auto: s, or else the first of the others in which it
    meets the scans. Dates are told apart by themselves."""
    frame_time: Duration | None = None
    """Frame period, s, for sources that do not state it (two-time maps)."""
    baseline_reference: Literal[0, 1] = 1
    """Baseline of two-time maps that are read from files: 1, or 0 for maps that start at 0."""

    @property
    def roots(self) -> tuple[Path, ...]:
        """All folders of scans."""
        return tuple(map(one_form, self.path if isinstance(self.path, tuple) else (self.path,)))

    @property
    def folder(self) -> Path:
        """The folder of scans, or the one that holds all of them."""
        return Path(os.path.commonpath(self.roots))


class SimulateConfig(Section):
    num_scans: PositiveInt = 50
    """Scans to simulate; the kinds of dynamics take turns."""
    num_frames: PositiveInt = 512
    """Frames in a scan."""
    height: PositiveInt = 128
    """Rows of the detector, pixels."""
    width: PositiveInt = 160
    """Columns of the detector, pixels."""
    num_q_bins: PositiveInt = 4
    """Rings of q."""
    coherent_modes: PositiveInt = 3
    """Independent speckle patterns that add up in a pixel: contrast = 1 / coherent_modes."""
    mean_counts: float = Field(default=3.0, gt=0)
    """Photons per pixel and frame in the innermost q-bin; the outer ones get less."""
    frame_time: Duration = 0.01
    """Frame period, s."""
    seed: Seed = 2024
    """Another seed gives other scans."""


class IngestConfig(Section):
    form: Literal["auto", "events", "frames", "none"] = "auto"
    """events: photons by pixel, for sparse counts; frames: images, compressed; auto: by density; none: nothing is
    copied, the counts are read from the source files."""
    frames_per_shard: PositiveInt = 128
    """Frames in one write unit; sets the memory of an ingest task."""
    frames_per_chunk: PositiveInt = 16
    """Frames in one compressed chunk, the smallest unit that is read."""


class CorrectConfig(Section):
    """What is done to the counts before they are correlated. Nothing by default: counts stay whole numbers."""

    dark: UserPath | dict[str, UserPath | None] | None = None
    """Dark image, or a series of dark frames, which is averaged: .npy, EDF, TIFF, CBF, HDF5 (`FILE` or `FILE:/dataset`)
    or any raw file; one for all scans, or by patterns and {stem} as in `source.partition`, where every scan of frames
    needs a pattern (null: it has no dark). It is subtracted from every frame; counts are no whole numbers then, which
    takes more time and memory. Pixels without a finite dark are left out."""
    dark_threshold: float | None = None
    """Counts: what is below after the dark was subtracted (of each frame, before the flat field) becomes 0. Default:
    nothing does, so that noise around 0, negative values too, averages out."""
    flat: UserPath | dict[str, UserPath | None] | None = None
    """Flat field, given as for `dark`: counts are divided by it, with its mean over the valid pixels taken as 1.
    Pixels where it is 0, negative or not finite are left out."""
    hot_pixels: Annotated[float, Field(gt=0)] | None = None
    """Leave out pixels whose mean is above the median of their static bin (of their q-bin, where it has less than 8
    pixels) by more than this many robust standard deviations, and more than chance gives a pixel as bright as the
    median. 6 is a fair value; where speckles stand still, bright ones are no hot pixels: take 20. Default: none is
    looked for."""
    bad_frames: Annotated[float, Field(gt=0)] | None = None
    """Leave out frames whose counts differ from the running median (of 101 frames) by more than this many robust
    standard deviations, and more than chance gives. 6 is a fair value. Default: only those of correlate.bad_frames, and
    dark ones."""
    damaged_frames: Literal["leave_out", "refuse"] | None = None
    """Frames that cannot be read, since a chunk or an image of the source is damaged. leave_out: they are bad frames,
    however many there are; refuse: the scan is set aside. Default: leave_out where they are one in a hundred or less,
    else refuse."""
    monitor: str | None = None
    """Beam monitor, one value for each frame of the file: path of a dataset in the raw file or its metadata file, or
    name of a file beside it, .csv (one column, or one called `monitor`) or .npy; {stem}: name of the raw file without
    suffix. Kept in the product. With correlate.frame_normalisation: monitor, frames where it is 0, negative or NaN are
    bad."""
    sentinels: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Values besides the largest of the file's type that mean a dead pixel, e.g. 4095 of 12-bit counters."""
    saturation: PositiveInt | None = None
    """A pixel with as many counts, or more, in any frame is dead."""

    @field_validator("dark_threshold")
    @classmethod
    def _needs_dark(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("dark") is None:
            raise ValueError("expected correct.dark with it")
        return value

    @model_serializer(mode="wrap")
    def _without_defaults_of_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that came later are told where they are set: digests and products of before stay as they are."""
        found = dict(dump(self))
        return {key: value for key, value in found.items() if key != "damaged_frames" or value is not None}

    @property
    def marks(self) -> list[str]:
        """What tells dead pixels by their values, and lost frames: of these alone it depends how counts are copied."""
        damaged = [f"damaged {self.damaged_frames}"] if self.damaged_frames else []
        return [*map(str, sorted(self.sentinels)), f"saturation {self.saturation}", *damaged]


class CorrelateConfig(Section):
    begin_frame: int = 0
    """First frame to use; negative: from the end."""
    end_frame: int | None = None
    """Frame to stop before; negative: from the end. Default: all."""
    stride_frames: PositiveInt = 1
    """Take every n-th frame."""
    average_frames: PositiveInt = 1
    """Average n of these frames to one."""
    bad_frames: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Frames to leave out exactly, as numbered in the file; frames without a photon where chance would hardly give one
    are left out by themselves."""
    normalisation: Literal["plain", "static"] = "plain"
    """What counts are divided by for C2. static: by the mean of their static bin in that frame ("sqmap" smoothing)."""
    frame_normalisation: FrameNormalisation = False
    """Divide every frame by its mean (true) or by its beam monitor (monitor: that of correct.monitor) before the
    multi-tau g2. C2 and what is read off it do not change by a factor a frame."""
    lag_scheme: Literal["boost_corr", "scikit-beam"] = "boost_corr"
    """Lags of the multi-tau g2: where the levels begin."""
    delays_per_level: Annotated[int, Field(ge=2)] = 4
    """Delays in each multi-tau level: 1..2n at level 0, then n+1..2n times 2^level (boost_corr)."""
    static_weighting: Literal["bins", "pixels"] = "bins"
    """How the static bins of a q-bin are averaged in the multi-tau g2: alike, or by their pixels."""
    g2_rule: Literal["mean", "ratio"] = "mean"
    """g2 from C2: mean of each diagonal, or ratio of the sums of products and of intensities."""
    age_windows: PositiveInt = 5
    """Windows of age for which g2 is read off C2 as well."""
    form: Literal["auto", "dense", "events"] = "auto"
    """Form in which counts are correlated: auto takes the faster for each q-bin; the result is the same."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where dense products are made; auto: on a GPU where there is one. The result is the same."""


class MapsConfig(Section):
    windows: tuple[Window, ...] = ("full",)
    """Window lengths along the diagonal of C2, in frames, or `full`. Lengths above a scan's are left out for it."""
    overlap: Fraction = 0.0
    """Share of a window that it has in common with the next one of its length."""
    scaling: Literal["robust", "minmax", "none"] = "robust"
    """robust: 0 at the baseline 1, 1 at the 99.5th percentile; minmax: as published; none: C2 - 1."""


class ModelConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "default"
    """Names models/<name>, embedding/<name>, clusters/<name>."""
    variant: NetworkName = "lag_age"
    """The network: lag_age sorts maps by how a sample moves, ainerd2024 is the published one (379,665 parameters)."""
    weights: UserPath | None = None
    """Take these weights (.npz or .safetensors) and do not train."""
    pretrained: bool = True
    """Take the weights that the network comes with, where it has any (lag_age), and do not train. Trained on an
    archive, lag_age begins with them and keeps its latents: its reconstructions alone learn."""

    @property
    def given_weights(self) -> Path | None:
        """The weights that are taken as they are; None where the network is to be trained."""
        return self.weights or (network(self.variant).own_weights if self.pretrained else None)


class TrainConfig(Section):
    epochs: PositiveInt = 20
    """Times that every map is seen, slid along its diagonal by another shift each time."""
    patience: PositiveInt | None = None
    """Epochs without a better L1 on held-out scans after which training ends. Default: it takes all epochs."""
    batch_size: PositiveInt = 8
    """Maps per optimiser step, over all ranks."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of Adam at its highest; it rises over the first fifth of the steps and falls to 0 at the end."""
    validation_share: Fraction = 0.2
    """Share of the scans (not of the maps) that the network never trains on."""
    precision: Precision = "32-true"
    """bf16-mixed is twice as fast where the processor or the GPU knows bfloat16."""
    devices: PositiveInt = 1
    """Ranks of data-parallel training on each node, usually its GPUs."""
    nodes: PositiveInt = 1
    """Nodes of the job in which it trains."""
    launcher: Literal["torchrun", "srun", "mpiexec"] = "torchrun"
    """What starts several ranks and tells them their numbers: torchrun (one on each node), srun, or mpiexec (MPI)."""
    spread: tuple[str, ...] = ()
    """Words that start processes over nodes, with {nodes}, {ranks}, {per_node}, {cores}. Default: srun or mpiexec."""
    threads: PositiveInt | None = None
    """Threads of all ranks of a node together. Default: all cores. Another number gives other roundings."""
    checkpoint_every: Duration = 600.0
    """A checkpoint is written after each epoch, before a training stops, and at least this often."""
    seed: Seed = 0
    """The seed of the first weights, the order and shifts of the maps, and which scans are held out."""


_PLACE = ("devices", "nodes", "launcher", "spread", "threads", "checkpoint_every")
TRAIN_PLACE: Mapping[str, Any] = {name: TrainConfig.model_fields[name].default for name in _PLACE}
"""Options of training that say where and how it runs, with their defaults: they count in no digest."""


class EmbedConfig(Section):
    maps_per_task: PositiveInt = 128
    """Maps that one task embeds, rounded up to whole scans."""


class ClusterConfig(Section):
    space: Literal["latent", "umap"] = "umap"
    """Where HDBSCAN looks for groups: the latents themselves, or `dimensions` UMAP coordinates of them."""
    dimensions: PositiveInt = 5
    """UMAP coordinates for space: umap. The picture always has its own two."""
    min_cluster_size: Annotated[int, Field(ge=2)] | None = None
    """Maps in the smallest group that counts as a cluster (HDBSCAN). Default: one map in 400, 200, 100 or 50, at least
    5: what agrees best over the resamplings; without them one in a hundred."""
    min_samples: PositiveInt | None = None
    """How many neighbours make a place dense (HDBSCAN): more gives more noise and surer clusters. Default: as many as
    min_cluster_size, at most 10."""
    selection: Literal["eom", "leaf"] = "eom"
    """eom: clusters that persist longest, of any size; leaf: the finest ones, which tile a continuum."""
    num_neighbours: Annotated[int, Field(ge=2)] | None = None
    """Neighbours that UMAP keeps together: fewer shows detail, more shows the whole. Default: one map in 15, at least
    15 and at most 100."""
    min_dist: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How close points may lie in the picture (UMAP)."""
    seed: Seed = 42
    """The seed of UMAP, and of what is drawn by chance."""
    same_kind: Annotated[float, Field(ge=0)] | None = None
    """Distance of latents within which clusters are of one kind, and one. Default: what the network says of itself; 0
    keeps every group that HDBSCAN finds."""
    resamples: Annotated[int, Field(ge=0)] = 5
    """Times that 80 % of the scans are clustered anew, to tell how stable clusters are; 0: not at all."""
    coreset: PositiveInt = 20_000
    """Maps that are clustered together. Of an archive with more, so many are drawn, evenly from all scans; the others
    go where the nearest of these are, and what is too rare for that is sought once more."""
    fit: UserPath | None = None
    """The fit (clusters/NAME.fit.parquet) of an earlier run, to which new maps are added: nothing is clustered anew, so
    that what is in no cluster of it is noise."""

    def settings(self, same_kind: float) -> Settings:
        """What the kernels ask for, of latents of a network that has a distance of its own."""
        from ainerd_hpc.kernels.clustering.fitting import Settings

        found = Settings(**self.model_dump(include=set(Settings._fields)))
        return found if self.same_kind is not None else found._replace(same_kind=same_kind)


class ReportConfig(Section):
    title: str = "One map of all the dynamics"
    """Heading of the page."""
    exemplars: PositiveInt = 6
    """Two-time maps shown for each cluster."""
    max_points: PositiveInt = 1_000_000
    """Points on the page. Of an archive with more maps, some of every cluster and q-bin are drawn, among them the most
    novel ones and all of small clusters; numbers are those of all maps."""
    max_maps: PositiveInt = 10_000
    """Points that have a thumbnail and all of their figures, chosen alike."""
    details: PositiveInt = 500
    """Maps that are on the page at full size, with their reconstruction and g2, chosen alike."""


class ExecutorConfig(Section):
    kind: Literal["inline", "local", "elastic", "allocation", "scheduler"] = "local"
    """inline: tasks one after the other in this process; the others are Dask workers: local: on this machine; elastic:
    in jobs of their own, as many as there is work for; allocation: on all nodes of the job of this process; scheduler:
    those of a scheduler that runs already."""
    workers: PositiveInt | None = None
    """Worker processes: of `local` on this machine, of `allocation` on each node, of `elastic` at most in all. Default:
    cores / threads; elastic: those of array.jobs jobs of the site."""
    site: UserPath | None = None
    """Site file: needed for `elastic`, whose jobs ask for what it says of `array`; for `allocation`, its network
    interface."""
    address: Annotated[str, Field(validate_default=True)] = ""
    """The address of `scheduler` (tls://..., tcp://...), or its scheduler file (.json). Keys for TLS are those of
    Dask's own configuration."""
    spread: tuple[str, ...] = ()
    """Words that start processes over nodes, as in train.spread. Default: srun or mpiexec."""
    threads: PositiveInt = 1
    """Threads of one task; with workers x threads = cores nothing is oversubscribed."""
    memory: Annotated[ByteSize | None, Field(validate_default=True)] = None
    """Memory of one worker, e.g. "4 GB". Default: 90 % of what is free now, or of what a job has, shared by the
    workers; needed for `scheduler`."""
    dashboard: bool | None = None
    """Dask's dashboard during a run, and its report afterwards beside the run record. Default: where workers are on
    other machines; it costs a run about 1.5 s and 2 MB."""

    @field_validator("address", "memory")
    @classmethod
    def _is_given(cls, value: object, info: ValidationInfo) -> object:
        if not value and info.data.get("kind") == "scheduler":
            raise ValueError(f"expected executor.{info.field_name} with executor.kind: scheduler")
        return value

    @property
    def num_workers(self) -> int:
        """Worker processes of one machine, with the default filled in."""
        if self.kind == "inline":
            return 1
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)

    @property
    def is_here(self) -> bool:
        """Whether all workers share the memory of this machine."""
        return self.kind in ("inline", "local")

    @property
    def has_dashboard(self) -> bool:
        """Whether Dask's dashboard and report are made, with the default filled in."""
        return not self.is_here if self.dashboard is None else self.dashboard


class RunConfig(Section):
    """Everything one run needs."""

    archive: UserPath
    """Folder of the archive: all products go here."""
    source: SourceConfig
    simulate: SimulateConfig | None = None
    """Write a simulated source first; left out for real data."""
    ingest: IngestConfig = IngestConfig()
    correct: CorrectConfig = CorrectConfig()
    correlate: CorrelateConfig = CorrelateConfig()
    maps: MapsConfig = MapsConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    embed: EmbedConfig = EmbedConfig()
    cluster: ClusterConfig = ClusterConfig()
    report: ReportConfig = ReportConfig()
    executor: ExecutorConfig = ExecutorConfig()

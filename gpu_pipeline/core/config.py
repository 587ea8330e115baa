"""The run file: sections in data-flow order, strict, all mistakes reported at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from gpu_pipeline.core import plugins
from gpu_pipeline.core._mistakes import problems
from gpu_pipeline.core._references import check_references
from gpu_pipeline.core.errors import ConfigError, InputError, nearest
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.runfile import apply_overrides, read_yaml
from gpu_pipeline.core.sessions import check_apart, session_text
from gpu_pipeline.core.units import DAY_NS, format_step, in_zone, parse_duration, parse_instant

STAGES = ("ingest", "bars", "book", "features", "labels", "dataset", "train", "evaluate", "report")


def _decimal(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _duration(value: Any) -> Any:
    parse_duration(value)
    return value


def _step(value: Any) -> Any:
    step_ns = parse_duration(value)
    if step_ns <= 0:
        raise ValueError(f"a step must be longer than 0, got {value}")
    return format_step(step_ns)


def _instant(value: Any) -> Any:
    if value is not None:
        parse_instant(str(value))
    return None if value is None else str(value)


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(value)
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"'{value}' is no time zone; write an IANA name, for example Europe/Berlin") from error
    return value


def _date(value: Any) -> Any:
    try:
        return dt.date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError(f"'{value}' is no date; write it as 2024-12-25") from error


def _sessions(value: Any) -> Any:
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of sessions, for example ['sun-thu 17:00-16:00'], got {value!r}")
    texts = tuple(session_text(item) for item in value)
    check_apart(texts)
    return texts


Number = Annotated[Decimal, BeforeValidator(_decimal), Field(gt=0)]
Duration = Annotated[str | int, BeforeValidator(_duration)]
Step = Annotated[str, BeforeValidator(_step)]
Instant = Annotated[str | None, BeforeValidator(_instant)]
Zone = Annotated[str, BeforeValidator(_zone)]
Sessions = Annotated[tuple[str, ...], BeforeValidator(_sessions)]
Dates = tuple[Annotated[str, BeforeValidator(_date)], ...]
Section = TypeVar("Section", bound=BaseModel)


class PluginSection(Options):
    """A section that names a plug-in; keys that are not the section's own belong to the plug-in's `Config`."""

    KIND: ClassVar[str]
    KEY: ClassVar[str] = "name"

    options: Any = None

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {cls.KEY: values}
        if not isinstance(values, Mapping):
            raise PydanticCustomError("mapping", "must be a mapping with the key '{key}'", {"key": cls.KEY})
        own = {key: value for key, value in values.items() if key in cls.model_fields and key != "options"}
        rest = {key: value for key, value in values.items() if key not in own}
        name = own.get(cls.KEY, cls.model_fields[cls.KEY].default)
        if not isinstance(name, str):
            raise PydanticCustomError("plugin", "needs the key '{key}'", {"key": cls.KEY})
        return {**own, cls.KEY: name, "options": _plugin_options(cls, name, rest)}

    @property
    def plugin(self) -> plugins.Plugin:
        """The plug-in that the section names."""
        return plugins.load(self.KIND, getattr(self, self.KEY))


def _plugin_options(section: type[PluginSection], name: str, rest: dict[str, Any]) -> Options:
    try:
        config = plugins.load(section.KIND, name).config
    except InputError as error:
        near = nearest(name, plugins.names(section.KIND))
        raise PydanticCustomError(
            "plugin", "{text}", {"text": str(error), "at": section.KEY, "nearest": near, "value": name}
        ) from error
    try:
        return config(**rest)
    except ValidationError as error:
        allowed = [*config.model_fields, *(key for key in section.model_fields if key != "options")]
        raise PydanticCustomError(
            "nested", "plug-in", {"errors": error.errors(), "allowed": allowed, "model": config}
        ) from error


class SymbolOptions(Options):
    """What is known of a symbol beforehand; what is left out is inferred (DESIGN 4.1)."""

    price_tick: Number | None = None
    quantity_lot: Number | None = None
    multiplier: Number = Decimal(1)
    inverse: bool = False
    quote: str = "USDT"
    timezone: Zone = "UTC"
    sessions: Sessions = ()
    holidays: Dates = ()
    fee_bps: float | None = Field(default=None, ge=0)


class SourceSection(PluginSection):
    """One input stream of `ingest`."""

    KIND = "sources"
    KEY = "source"

    source: str
    start: Instant = None
    end: Instant = None
    limit: int | None = Field(default=None, gt=0)
    on_bad_row: Literal["error", "drop"] = "error"
    verify: bool = True

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.start and self.end and parse_instant(self.start) >= parse_instant(self.end):
            raise ValueError(f"start must be before end (values {self.start} and {self.end})")
        return self


class Resolution(Options):
    """A longer resolution: every `bars` bars `of` another one, or a chain of its own by `threshold`."""

    of: str = "short"
    bars: int | None = Field(default=None, gt=1)
    threshold: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return {"bars": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.bars is None) == (self.threshold is None):
            raise ValueError("needs exactly one of 'bars' (how many) and 'threshold' (a chain of its own)")
        return self


class BarsSection(PluginSection):
    """Bar type, file borders, longer resolutions and time bars."""

    KIND = "bars"
    KEY = "type"

    type: str
    at_file_end: Literal["continue", "flush"] = "continue"
    resolutions: dict[str, Resolution] = {
        "medium": Resolution(of="short", bars=10),
        "long": Resolution(of="medium", bars=16),
    }
    time: list[Step] = []

    @model_validator(mode="after")
    def _known_parents(self) -> Self:
        seen = ["short"]
        for name, resolution in self.resolutions.items():
            if resolution.bars is not None and resolution.of not in seen:
                raise ValueError(
                    f"resolution '{name}' is of '{resolution.of}', which is not defined before it ({', '.join(seen)})"
                )
            if name in seen:
                raise ValueError(f"resolution '{name}' is the bar type itself; give it another name")
            seen.append(name)
        return self

    @model_validator(mode="after")
    def _steps_once(self) -> Self:
        twice = [step for step in self.time if self.time.count(step) > 1]
        if twice:
            raise ValueError(f"time: the step {twice[0]} is there twice; name it once")
        return self


class BookSection(PluginSection):
    """Depth tensors from one book stream of `ingest`."""

    KIND = "book"
    KEY = "form"

    form: str = "snapshots"
    stream: str = "book"


class FeaturesSection(Options):
    """A feature set (a YAML file or the mapping itself) and an optional list of columns to keep."""

    set: str | dict[str, Any]
    include: str | list[str] | None = None


class LabelSection(PluginSection):
    """One named label."""

    KIND = "labels"

    name: str
    classes: Literal["binary", "codes"] = "binary"


class SplitSection(PluginSection):
    """How samples are divided."""

    KIND = "splits"

    name: str = "chronological"


class ScalerSection(PluginSection):
    """How model input is centred and scaled."""

    KIND = "scalers"

    name: str = "robust"


class AdaptiveDepth(Options):
    """The prefix of book levels that every asset and side fills in at least `min_nonzero` training rows."""

    min_nonzero: int = Field(gt=0)


class StreamSection(Options):
    """A stream of the dataset: where its rows come from and the window a sample sees.

    Attributes:
        from_: `features`, `book` or `daily` (key `from`).
        window: rows of the stream in one sample.
        latency: added to the stream's `known_ns`.
        price: book prices as distance to mid, in `ticks` or `bps`.
        quantity: book quantities as log(1 + lots) (`log`), or as `lots`.
        normalise: what of a book is centred and scaled together, fitted on the training part: every `column` by itself;
            a `level` with both its sides, so that a book and its mirror image stay mirrored; or `none`.
        returns: step of the log returns whose statistics a `daily` row holds; it must divide a day.
        assets: whose books or days a row shows: `own`, the sample's symbol alone; `all` symbols or those of a list,
            side by side, books on the grid of the reference asset.
        reference: that asset; the first of `assets` where absent.
        min_assets_required: assets that are not missing at any step of a sample's window; all where absent.
        partial_fill_threshold: largest share of filled cells in a sample's window; any where absent.
        levels: adaptive depth, fitted on the training part; all levels where absent.
    """

    model_config = {**Options.model_config, "populate_by_name": True}
    BOOK_KEYS: ClassVar[tuple[str, ...]] = ("partial_fill_threshold", "levels", "quantity", "normalise")
    ALIGNED_KEYS: ClassVar[tuple[str, ...]] = ("reference", "min_assets_required")

    from_: Literal["features", "book", "daily"] = Field(alias="from")
    window: int = Field(gt=0)
    latency: Duration = 0
    price: Literal["ticks", "bps"] = "ticks"
    quantity: Literal["log", "lots"] = "log"
    normalise: Literal["column", "level", "none"] = "column"
    returns: Step = "5min"
    assets: Literal["own", "all"] | list[str] = "own"
    reference: str | None = None
    min_assets_required: int | None = Field(default=None, gt=0)
    partial_fill_threshold: float | None = Field(default=None, ge=0, le=1)
    levels: AdaptiveDepth | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        # A run file written in full names every key: one at its default asks for nothing.
        given = [key for key in (*self.BOOK_KEYS, *self.ALIGNED_KEYS) if self._asks(key)]
        if given and self.from_ != "book":
            raise ValueError(f"{given[0]} needs 'from: book'")
        if self._asks("returns") and self.from_ != "daily":
            raise ValueError("returns needs 'from: daily'")
        if self._asks("assets") and self.from_ == "features":
            raise ValueError("assets needs 'from: book' or 'from: daily'")
        given = [key for key in self.ALIGNED_KEYS if self._asks(key)]
        if given and self.assets == "own":
            raise ValueError(f"{given[0]} needs several assets ('assets: all', or a list of symbols)")
        return self

    @model_validator(mode="after")
    def _whole_day(self) -> Self:
        if DAY_NS % parse_duration(self.returns):
            raise ValueError(f"returns: the step must divide a day, for example 5min (value {self.returns})")
        return self

    def _asks(self, key: str) -> bool:
        return getattr(self, key) != type(self).model_fields[key].default

    @model_validator(mode="after")
    def _assets_once(self) -> Self:
        if not isinstance(self.assets, list):
            return self
        if not self.assets:
            raise ValueError("assets: name at least one symbol, or write 'own' or 'all'")
        twice = [asset for asset in self.assets if self.assets.count(asset) > 1]
        if twice:
            raise ValueError(f"assets: '{twice[0]}' is there twice; name it once")
        return self

    def assets_among(self, symbols: Sequence[str]) -> list[str]:
        """Names of the assets that a row shows side by side; none where it is the symbol's own book."""
        if isinstance(self.assets, list):
            return self.assets
        return list(symbols) if self.assets == "all" else []


class DatasetSection(Options):
    """Target, split, scaling and streams."""

    target: str | list[str]
    split: SplitSection = Field(default_factory=lambda: SplitSection.model_validate({"name": "chronological"}))
    scaler: ScalerSection = Field(default_factory=lambda: ScalerSection.model_validate({"name": "robust"}))
    streams: dict[str, StreamSection]
    segment_rows: int = Field(default=4096, gt=0)

    @property
    def targets(self) -> tuple[str, ...]:
        """Target names; the first one is trained on."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @model_validator(mode="after")
    def _decision_stream(self) -> Self:
        if not any(stream.from_ == "features" for stream in self.streams.values()):
            raise ValueError("streams: one stream must be 'from: features', because decisions are made at its rows")
        return self


class ModelSection(PluginSection):
    """One model, the streams it sees, and its name in the run's folder."""

    KIND = "models"

    name: str
    inputs: list[str] | None = Field(default=None, min_length=1)
    label: str | None = None

    @property
    def title(self) -> str:
        """Folder and report name: `label` where given, else the plug-in's name."""
        return self.label or self.name.rsplit(".", 1)[-1]


class OptimizerSection(Options):
    """AdamW, or SGD with momentum."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class TrainSection(Options):
    """Models and how they are trained."""

    models: list[ModelSection] = Field(min_length=1)
    loader: str = "device"
    processes: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=512, gt=0)
    optimizer: OptimizerSection = OptimizerSection()
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    grad_clip: float | None = Field(default=1.0, gt=0)
    patience: int | None = Field(default=5, gt=0)
    compile: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    class_weights: Literal["none", "balanced"] = "none"
    max_steps: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _names(self) -> Self:
        titles = [model.title for model in self.models]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise ValueError(f"models: the name '{min(twice)}' appears twice; give one of them a 'label'")
        if self.loader not in plugins.names("loaders") and "." not in self.loader:
            raise ValueError(f"loader: no loader '{self.loader}'; there are {', '.join(plugins.names('loaders'))}")
        return self


class EvaluateSection(Options):
    """What results are compared with and how sure they are."""

    baselines: list[Literal["majority", "persistence"]] = ["majority", "persistence"]
    metrics: list[str] = ["auc", "accuracy", "f1_macro", "f1_weighted", "log_loss"]
    resamples: int = Field(default=1000, ge=0)
    confidence: float = Field(default=0.95, gt=0, lt=1)

    @model_validator(mode="after")
    def _known_metrics(self) -> Self:
        for name in self.metrics:
            try:
                plugins.load("metrics", name)
            except InputError as error:
                raise ValueError(str(error)) from error
        return self


class SearchKey(Options):
    """The values that one key may take."""

    choices: list[Any] | None = None
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("needs 'choices', or 'low' and 'high'")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class SearchSection(Options):
    """A search over any keys of the run file."""

    keys: dict[str, SearchKey] = Field(min_length=1)
    model: str | None = None
    metric: str = "log_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = Field(default=20, gt=0)


class SelectorSection(PluginSection):
    """One step of a feature selection."""

    KIND = "selectors"

    name: str

    @property
    def title(self) -> str:
        """The plug-in's name in tables and files."""
        return self.name.rsplit(".", 1)[-1]


def _all_selectors() -> list[SelectorSection]:
    names = ("correlation", "vif", "mutual_information", "random_forest", "gradient_boosting", "rfe", "pca")
    return [SelectorSection.model_validate(name) for name in names]


class SelectSection(Options):
    """Which columns are worth keeping, judged on the training part.

    Attributes:
        target: one of the dataset's; its first where absent.
        top: columns in the list.
        steps: in order; what one prunes, later ones do not see.
        seed: of what draws numbers; the run's where absent.
        max_samples: training samples that slow steps see, evenly spaced in time.
        file: name of the list.
    """

    target: str | None = None
    top: int = Field(default=100, gt=0)
    steps: list[SelectorSection] = Field(default_factory=_all_selectors, min_length=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    max_samples: int = Field(default=20_000, gt=1)
    file: str = Field(default="top_{top}.txt", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\{top\}[A-Za-z0-9._-]*)?\.txt$")

    @model_validator(mode="after")
    def _ranked_once(self) -> Self:
        titles = [step.title for step in self.steps]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise ValueError(f"steps: '{min(twice)}' appears twice; name it once")
        if not any(getattr(step.plugin.module, "RANKS", True) for step in self.steps):
            raise ValueError(f"steps: none of {', '.join(titles)} ranks the columns; add one, as mutual_information")
        return self


class EngineSection(Options):
    """Worker processes of dask instead of this one process; what is written has the same bytes.

    Attributes:
        name: `dask`.
        workers: processes on this machine; `auto` is one per GPU on cuda, else one per core.
        threads_per_worker: tasks that one worker runs at a time.
        scheduler: address of a cluster that runs already, instead of one made for the run.
    """

    name: Literal["dask"]
    workers: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    threads_per_worker: int = Field(default=1, gt=0)
    scheduler: str | None = Field(default=None, pattern=r"^[a-z]+://\S+$")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whose_workers(self) -> Self:
        if self.scheduler and (self.workers, self.threads_per_worker) != ("auto", 1):
            raise ValueError("the cluster of a scheduler has workers of its own: leave out workers, threads_per_worker")
        return self


class RunConfig(Options):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    engine: EngineSection | None = None
    seed: int = Field(default=7, ge=0, lt=2**63)
    runs: str = "runs"
    timezone: Zone = "UTC"
    display_timezone: Zone = "UTC"
    symbols: dict[str, SymbolOptions] = Field(min_length=1)
    ingest: dict[str, SourceSection] = Field(min_length=1)
    bars: BarsSection | None = None
    book: BookSection | None = None
    features: FeaturesSection | None = None
    labels: dict[str, LabelSection] = {}
    dataset: DatasetSection | None = None
    train: TrainSection | None = None
    evaluate: EvaluateSection = EvaluateSection()
    search: SearchSection | None = None
    select: SelectSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _symbol_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("symbols"), list):
            return {**values, "symbols": {str(name): {} for name in values["symbols"]}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _local_times(cls, values: Any) -> Any:
        """Writes the run's time zone behind every `start` and `end` that names none."""
        zone = values.get("timezone", "UTC") if isinstance(values, Mapping) else "UTC"
        if zone == "UTC" or not isinstance(values.get("ingest"), Mapping):
            return values
        return {**values, "ingest": {name: _with_zone(stream, zone) for name, stream in values["ingest"].items()}}

    def section(self, name: str) -> Any:
        """A section as plain values, for keys and manifests."""
        return plain(getattr(self, name))


def _with_zone(stream: Any, zone: Any) -> Any:
    """The stream as it is where something is wrong: its own check says what."""
    if not isinstance(stream, Mapping):
        return stream
    try:
        return {**stream, **{key: in_zone(stream[key], zone) for key in ("start", "end") if stream.get(key)}}
    except (TypeError, ValueError, KeyError, OSError):
        return stream


def plain(value: Any) -> Any:
    """Configuration as plain JSON values; plug-in options are dumped with their own fields."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads and checks a run file.

    Raises:
        ConfigError: every mistake at once, a line each, with file, section, key, value and the nearest allowed name.
        InputError: the file cannot be read or an override is malformed.
    """
    path = Path(path)
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError.at(path, "must hold a mapping of sections", value=values)
    return check_config(apply_overrides(values, overrides), str(path))


def check_config(values: Mapping[str, Any], file: str = "run file") -> RunConfig:
    """Checks plain values against the run file's schema and its cross-references."""
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(problems(error.errors(), (), RunConfig, file)) from error
    dangling = check_references(config, file)
    if dangling:
        raise ConfigError(dangling)
    return config


def check_values(model: type[Section], values: Mapping[str, Any], where: str) -> Section:
    """Checks the keyword arguments of a Python call against one section of the run file.

    Raises:
        ConfigError: every mistake at once, a line each; `where` names the call.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(problems(error.errors(), (), model, where)) from error

"""What records say, as plain data: a `Summary` per row, of which every table and figure is made."""

from collections.abc import Iterable
from dataclasses import dataclass

from infohebb.experiments.record import Record
from infohebb.report import units

NEAR_POINTS = 0.3  # of accuracy: what the papers' own seeds differ by
NEAR_SHARE = 0.05  # of a published error
ROUNDING = 1e-9
READOUT = "readout"  # the head of a network of ours, after layers.0, layers.1, …


@dataclass(frozen=True)
class Measure:
    """Which number a record is judged by: accuracy (percent) or mean squared error, on the test or validation split.

    Of a study, which trains no network, it is the first that it found, whatever that be.
    """

    split: str
    quantity: str
    study: bool = False

    @property
    def key(self) -> str:
        """Its name in `final` and `curves`."""
        return self.quantity if self.study else f"{self.split}_{self.quantity}"

    @property
    def train_key(self) -> str:
        """The same quantity on the training set."""
        return f"train_{self.quantity}"

    @property
    def label(self) -> str:
        """Its name with its unit."""
        if self.study:
            return units.named(self.quantity)
        return "accuracy (%)" if self.quantity == "accuracy" else "mean squared error"

    @property
    def curve(self) -> str:
        """What a curve of it is called among others: its split, or a study's name for it."""
        return units.words(self.quantity) if self.study else self.split

    @property
    def axis(self) -> str:
        """Split and name with its unit."""
        return self.label if self.study else f"{self.split} {self.label}"

    @property
    def is_percent(self) -> bool:
        """Whether it is, and differences of it are points."""
        return units.is_percent(self.quantity)


MEASURES = tuple(Measure(split, quantity) for quantity in ("accuracy", "error") for split in ("test", "validation"))


@dataclass(frozen=True)
class Spread:
    """Mean of n runs and, from two runs on, their sample standard deviation."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Summary:
    """One row of one recipe over its seeds, on one split."""

    folder: str  # as in the section
    recipe: str
    row: str
    measure: Measure
    records: tuple[Record, ...]  # in the order of their seeds
    measured: Spread | None
    train: Spread | None
    others: dict[str, Spread | None]  # by key: all else that its runs found in the end
    published: float | None
    published_sd: float | None
    epochs: tuple[int, ...]  # of each record
    angles: dict[str, Spread | None]  # by layer: to backprop's gradient, degrees, when last measured
    ratios: dict[str, Spread | None]  # by layer: of its norm to that of backprop's gradient
    diagnosed: tuple[int, ...]  # the epoch of that, of each record that was diagnosed
    seconds: float  # mean over the runs
    memory: int  # largest peak, bytes

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{_placed(self.folder, self.recipe)} {self.row} {self.measure.key}"

    @property
    def dataset(self) -> str:
        """The row's first segment."""
        return self.row.partition("/")[0]

    @property
    def method(self) -> str:
        """The row without its data set: method/mode."""
        return self.row.partition("/")[2]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs."""
        return tuple(record.seed for record in self.records)

    @property
    def layers(self) -> tuple[str, ...]:
        """Of which angles were measured, from the input up."""
        return tuple(self.angles)

    @property
    def published_text(self) -> str:
        """The paper's number, and its s.d. if the paper gave one."""
        return units.published(self.published, self.measure.quantity, self.published_sd)

    @property
    def gap(self) -> float | None:
        """Measured minus published; none on the validation split, which no paper's number speaks of."""
        if self.measured is None or self.published is None or self.measure.split != "test":
            return None
        return self.measured.mean - self.published

    @property
    def standing(self) -> str:
        """Against the published number: "above" is better, "near" about the same, "below" worse, "" unknown.

        Of a study nobody says whether more is better.
        """
        if self.gap is None or self.published is None or self.measure.study:
            return ""
        accuracy = self.measure.quantity == "accuracy"
        margin = NEAR_POINTS if accuracy else NEAR_SHARE * abs(self.published)
        if abs(self.gap) < margin + ROUNDING:
            return "near"
        return "above" if (self.gap > 0) == accuracy else "below"


@dataclass(frozen=True)
class Section:
    """The rows of one recipe on one split."""

    folder: str  # of results, where records come from several; else ""
    recipe: str
    measure: Measure
    rows: tuple[Summary, ...]
    methods: tuple[str, ...]  # of the rows, each once, as method/mode

    @property
    def title(self) -> str:
        """The recipe, its folder where there are several, what a study asks, and the split if not the test set."""
        name = _placed(self.folder, self.recipe)
        name = f"{name} ({units.words(self.measure.quantity)})" if self.measure.study else name
        return name if self.measure.split == "test" else f"{name} (validation split)"

    @property
    def has_published(self) -> bool:
        """Whether some row has a published number to be held against."""
        return any(row.gap is not None for row in self.rows)

    @property
    def others(self) -> tuple[str, ...]:
        """The keys of all else that some row found, each once."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row.others))

    @property
    def has_epochs(self) -> bool:
        """Whether some run went by epochs; a study need not."""
        return any(any(row.epochs) for row in self.rows)

    @property
    def layers(self) -> tuple[str, ...]:
        """Of which angles were measured in some row, from the input up."""
        return in_order(*(row.angles for row in self.rows))

    @property
    def datasets(self) -> list[str]:
        """Of its rows, each once."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    @property
    def is_matrix(self) -> bool:
        """Whether some method was measured on several data sets, beside another one."""
        return len(self.methods) > 1 and len(self.rows) > len(self.methods)


def in_order(*networks: Iterable[str]) -> tuple[str, ...]:
    """Each layer once, given those of each network from the input up.

    What a network adds stands before the next of its layers that others have, or at the end.
    """
    found: list[str] = []
    for layers in map(list, networks):
        for place, layer in enumerate(layers):
            if layer not in found:
                above = (found.index(known) for known in layers[place + 1 :] if known in found)
                found.insert(next(above, len(found)), layer)
    return tuple(found)


def _placed(folder: str, recipe: str) -> str:
    return f"{folder}: {recipe}" if folder else recipe

"""The record of one run: one JSON file per row and seed, written once; pictures' raw material in an `.npz` beside."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from infohebb.errors import CorruptFileError, RecordConflictError
from infohebb.files import write_whole


class Record(pydantic.BaseModel):
    """What a run measured, and everything needed to run it again.

    `final` and `curves` hold `train_accuracy` and `test_accuracy` (or `validation_accuracy`) in percent; for continuous
    targets `train_error` and `test_error`, mean squared errors. `curves` also holds `epoch`, `samples` seen since the
    start (windows of a stream), `train_loss` and `test_loss`, `seconds`, `learning_rate` by role of parameters as an
    epoch begins, and `objective`, by unit, of lists named after the objective's terms; for some rules `monitor`, with
    an `epoch` of its own, 0 being before learning, by measure and layer; of a run that was diagnosed also `alignment`,
    with an `epoch` of its own, and by weight the `angle` (degrees) and `norm_ratio` of the rule's gradient to
    backprop's, null where a weight has none. Of a study both hold what it found, by the names that it gives.
    Records of version 0.1 have other names for some of this; `infohebb.report.old_names` lists them.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    recipe: str
    row: str
    seed: int
    published: float | None
    published_sd: float | None = None
    final: dict[str, float]
    curves: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    commit: str | None  # of the source, when the run, or its last part, began
    device: str
    wall_seconds: float
    peak_memory_bytes: int
    peak_memory_method: str
    side_by_side: int = 1  # networks trained as one: `wall_seconds` is this one's share, peak memory that of all
    origin: str | None = None  # the .toml file of a recipe that did not come with the package
    overrides: list[str] = []  # what --set, --epochs and the like changed
    path: Path | None = pydantic.Field(default=None, exclude=True)  # where it was read from

    @property
    def pictures(self) -> Path | None:
        """The `.npz` beside the record, if there is one."""
        arrays = self.path.with_suffix(".npz") if self.path else None
        return arrays if arrays and arrays.exists() else None


def record_path(out: Path, recipe: str, row: str, seed: int, *, validate: bool = False) -> Path:
    """Where the record of a run lies: OUT/RECIPE/ROW/seedN.json, or seedN.validation.json."""
    return out / recipe / row / f"seed{seed}{'.validation' if validate else ''}.json"


def write_record(record: Record, path: Path) -> Path:
    """Write `record` at `path`, once.

    Raises RecordConflictError when a record is there already, NoSpaceError when the disk is full.
    """
    if path.exists():
        raise RecordConflictError(f"{path} exists and records are written once; choose another folder with --out")
    text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    return write_whole(path, lambda part: part.write_text(text), once=True)


def read_record(path: Path) -> Record:
    """The record at `path`.  Raises CorruptFileError when it is not one."""
    try:
        record = Record.model_validate_json(path.read_text())
    except (pydantic.ValidationError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is not a record of infohebb; move it away") from error
    record.path = path
    return record


def read_records(folder: Path) -> Iterator[Record]:
    """All records below `folder`, in the order of their paths."""
    for path in sorted(folder.rglob("seed*.json")):
        yield read_record(path)

"""What is asked of a run, and one row and seed of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infohebb.experiments.recipe import Config


@dataclass(frozen=True)
class Options:
    """What one may ask of a run besides its recipe."""

    out: Path = Path("results")
    only: str | None = None
    seeds: Sequence[int] | None = None
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    arrays: Path | None = None
    device: str = "auto"
    validate: bool = False
    diagnose: int | None = None  # epochs from one diagnosis to the next
    origin: str | None = None
    progress: bool = True
    tell: Callable[[str], object] = field(default=str)  # is told, line by line, what is done


@dataclass(frozen=True)
class Job:
    """One row and seed, with its configuration and the place of its record."""

    recipe: str
    row: str
    seed: int
    published: float | None
    config: Config
    path: Path
    overrides: Sequence[str] = ()
    origin: str | None = None
    published_sd: float | None = None

    @property
    def words(self) -> dict[str, Any]:
        """What a record says of it."""
        names = {"recipe": self.recipe, "row": self.row, "seed": self.seed}
        paper = {"published": self.published, "published_sd": self.published_sd}
        return {**names, **paper, "origin": self.origin, "overrides": list(self.overrides)}

    @property
    def is_study(self) -> bool:
        """Whether it calls a study, instead of training a network."""
        return "study" in self.config

    @property
    def is_stacked(self) -> bool:
        """Whether its network is trained beside those of the other seeds."""
        return bool(self.config.get("training", {}).get("stacked"))

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.recipe} {self.row} seed {self.seed}"


def checkpoints(job: Job) -> Path:
    """The folder of a job's checkpoints, beside its record."""
    return job.path.with_suffix(".checkpoint")

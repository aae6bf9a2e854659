"""A block to be, which grows module by module."""

from typing import Any

from infohebb.errors import naming
from infohebb.functional.convolution import Geometry
from infohebb.functional.nonlinearities import IDENTITY
from infohebb.networks.blocks import Block
from infohebb.networks.stages import ORDER, PARTS, STAGES, Place, Shape, Standing, flat, map_size, resized


class Draft:
    """A layer of weights, Block's arguments, the modules they come from, and the shape of a sample's output so far.

    Raises MismatchError for a layer that no block can have.
    """

    def __init__(self, place: Place, received: Shape | None):
        self.place = place
        self.options: dict[str, Any] = {"nonlinearity": IDENTITY}
        self.sources: dict[str, Place] = {}
        geometry, neurons = self.block(place).geometry, len(place.module.weight)
        self.shape: Shape = (neurons,)
        if geometry is not None:
            size = (None, None) if received is None else received[1:]
            self.shape = resized(place, (neurons, *size), geometry)
            self.options["map_size"] = map_size(self.shape)

    def block(self, judged: Place) -> Block:
        """The block as it is so far; what is wrong with it is the fault of `judged`."""
        with naming(judged):
            return Block(self.place.module, **self.options)

    def add(self, place: Place) -> None:
        """Take a module as the stage that it is.  Raises MismatchError, GroupingError where it cannot be one."""
        stage, read = PARTS[type(place.module)]
        self.check_order(stage, place)
        value = read(Standing(place, self.block(place), self.shape))
        if isinstance(value, Geometry):
            self.shape = resized(place, self.shape, value)
        if value is not None:
            self.put(stage, place, value)

    def put(self, stage: str, place: Place, value: Any) -> None:
        """Set one of Block's arguments."""
        self.options[stage], self.sources[stage] = value, place
        if stage == "pool":
            self.options["map_size"] = map_size(self.shape)
        self.block(place)

    def check_order(self, stage: str, place: Place) -> None:
        """Raise MismatchError for a stage that the block has already, or is past."""
        for known, by in reversed(self.sources.items()):
            if known == stage:
                raise place.wrong(f"its block has {STAGES[stage]} already, {by}; leave one out")
            if (known, stage) == ("pool", "nonlinearity") and "residual" not in self.sources:
                continue  # that of a maximum is the maximum of theirs, for all activations here increase
            if ORDER.index(known) > ORDER.index(stage):
                raise place.wrong(f"a block has its {STAGES[stage]} before its {STAGES[known]}, {by}; move it there")

    def flatten(self) -> None:
        """Rows of numbers instead of a map."""
        self.shape = flat(self.shape)

"""Rules whose kernel may see groups of neurons: which groups, of which block, and whether its divisive norm agrees."""

from typing import Any, NamedTuple

from infohebb.errors import MismatchError, is_number, naming
from infohebb.networks import Layered
from infohebb.networks.blocks import check_groups
from infohebb.rules.layered import LayeredRule

NUMBERS = {  # what each setting may be, and in words
    "sigma": (lambda sigma: is_number(sigma) and sigma > 0, "a width above 0"),
    "gamma": (is_number, "a finite number"),
    "power": (lambda power: power is None or is_number(power), "a finite number"),
    "delta": (lambda delta: delta is None or (is_number(delta) and delta >= 0), "a number of at least 0"),
}


class Grouping(NamedTuple):
    """Groups of a block, the power of their variance in the kernel, and delta."""

    groups: int
    power: float
    delta: float


class GroupedRule(LayeredRule):
    """A rule with a kernel of width `sigma`, on groups of neurons or on the plain activity, and a weight `gamma`.

    `groups`, `delta` and `power` are those of the block's divisive norm if it has one (power = 1 - its power) and may
    then be left out; without groups the kernel sees the plain activity.
    """

    def __init__(self, sigma: float, groups: int | None, power: float | None, delta: float | None, gamma: float):
        super().__init__()
        self.sigma, self.gamma = sigma, gamma
        self.groups_per_block, self.power, self.delta = groups, power, delta

    def check_settings(self, network: Layered) -> None:
        """Raise MismatchError or GroupingError for numbers that cannot be, and groups that do not fit a block."""
        self.check_numbers()
        for name, block in network.named_blocks():
            self.check_grouping(name, block, block.width)

    def check_numbers(self) -> None:
        """Raise MismatchError for numbers that cannot be."""
        for name, (fits, wanted) in NUMBERS.items():
            if not fits(getattr(self, name)):
                raise MismatchError(f"{name} {getattr(self, name)!r}: give {wanted}")

    def check_grouping(self, name: str, unit: Any, width: int | None) -> None:
        """Raise MismatchError or GroupingError for groups that do not fit a unit of that width and its norm."""
        settings = self.grouping(unit)
        if settings:
            if width is not None:
                with naming(name):
                    check_groups(settings.groups, width)
        elif (self.power, self.delta) != (None, None):
            raise MismatchError(f"{name} has no groups for power and delta to act on; give groups too, or neither")
        check_agreement(name, settings, unit.divisive_norm)

    def grouping(self, unit: Any) -> Grouping | None:
        """The unit's groups in the kernel: the rule's own, or those of its divisive norm; None for a plain kernel."""
        norm = unit.divisive_norm
        groups = (norm.groups if norm else None) if self.groups_per_block is None else self.groups_per_block
        if groups is None:
            return None
        power = (1 - norm.power if norm else 0.5) if self.power is None else self.power
        delta = (norm.delta if norm else 1.0) if self.delta is None else self.delta
        return Grouping(groups, power, delta)

    def fewest_groups(self) -> int:
        """Groups that the kernel needs to learn of them."""
        return 2

    def fitting_norm(self, norm: dict[str, Any] | None) -> dict[str, Any] | None:
        """A divisive norm by which this rule can group: its own groups, power and delta in place of those given.

        None for groups that were not asked for, if the kernel learns nothing of so few.
        """
        power = None if self.power is None else 1 - self.power
        given = {"groups": self.groups_per_block, "power": power, "delta": self.delta}
        own = {key: value for key, value in given.items() if value is not None}
        norm = {**(norm or {}), **own}
        fits = "groups" in own or norm.get("groups", 0) >= self.fewest_groups()
        return norm if fits else None


def check_agreement(name: str, settings: Grouping | None, norm: Any) -> None:
    """Raise MismatchError unless a rule's grouping is that of the block's divisive norm, where it has one."""
    if settings is None or norm is None:
        return
    if (settings.groups, settings.delta) != (norm.groups, norm.delta) or abs(settings.power - 1 + norm.power) > 1e-9:
        raise MismatchError(
            f"{name}: the rule groups by {tuple(settings)}, its divisive norm by "
            f"{(norm.groups, 1 - norm.power, norm.delta)} (groups, power, delta); leave them out of the rule"
        )

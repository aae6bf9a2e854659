"""Which model each rule was given to last: a rule in two learners would mix what it keeps of both."""

import weakref

from torch import nn

from infohebb.rules.contract import LearningRule


class Owners:
    """The model that each rule was given to last; `given` counts all that were, so that a change is seen at once."""

    def __init__(self) -> None:
        self.models: weakref.WeakKeyDictionary[LearningRule, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
        self.given = 0

    def give(self, rule: LearningRule, model: nn.Module) -> bool:
        """Note that a rule is given to a model; return whether it was before."""
        last = self.models.get(rule)
        self.models[rule] = weakref.ref(model)
        self.given += 1
        return last is not None and last() is model


OWNERS = Owners()

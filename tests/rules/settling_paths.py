"""A rule and a settling network, driven as in version 1 and by a Learner: what golden cases are tried on."""

import pytest

from infohebb import Learner


class Version1:
    """`attach` and `learn`."""

    def __init__(self, network, rule):
        self.network, self.rule = network, rule
        rule.attach(network)

    def learn(self, inputs, targets):
        return self.rule.learn(self.network, inputs, targets)

    def groups(self):
        return self.rule.groups(self.network)


class ByLearner:
    """`Learner.backward`; groups are those of its parameter groups."""

    def __init__(self, network, rule):
        self.learner = Learner(network, rule)

    def learn(self, inputs, targets):
        self.learner.zero_grad()
        return self.learner.backward(inputs, targets)

    def groups(self):
        return {group["role"]: group["params"] for group in self.learner.param_groups()}


both_paths = pytest.mark.parametrize("path", [Version1, ByLearner], ids=["version 1", "learner"])

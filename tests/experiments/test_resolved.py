"""A record's configuration says everything, for every rule of the registry."""

import json

import pytest

from infohebb.experiments.build import check_config, resolved
from infohebb.rules import registry


@pytest.mark.parametrize("name", registry())
def test_every_rule_has_a_configuration_that_json_can_hold(name):
    training = {"batch": 1} if registry()[name].consumes == "sample" else {}
    words = {"data": {}, "network": {}, "rule": {"name": name}, "optimizer": {}, "training": training}
    check_config(words)
    full = resolved(words)
    assert json.loads(json.dumps(full)) == full
    assert full["training"]["epochs"] == 10
    assert full["network"]["slope"] == 0.01
    check_config(full)
    assert resolved(full) == full

"""Networks side by side: the loop gives each the numbers that it gives one by one."""

import pytest
import torch
from training_toys import data

from infohebb import MLP, HSICMemory, evaluate, predict, side_by_side, train
from infohebb.errors import MismatchError, NonFiniteLossError
from infohebb.networks import alone
from infohebb.rules import Backprop
from infohebb.training import Diagnose, split_curves
from infohebb.training.loop import Checkpoints

OPTIONS = {"batch": 4, "hold": 2, "epoch_samples": 25, "order_seed": 1, "optimizer": {"name": "adam", "lr": 0.01}}


def networks(count=3, outputs=2):
    found = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(MLP(8, outputs, (6, 5)).double())
    return found


def rule(**options):
    return HSICMemory(objective=True, **options)


def close(mine, theirs):
    for name, line in theirs.items():
        if isinstance(line, dict):
            close(mine[name], line)
        elif name != "seconds":
            assert mine[name] == pytest.approx(line, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("memory", ["recompute", "stale"])
def test_curves_and_weights_are_those_of_each_alone(memory):
    singles, together = networks(), side_by_side(networks())
    curves = train(together, rule(memory=memory), data(), epochs=3, **OPTIONS)
    assert len(curves["train_loss"]) == len(curves["test_accuracy"]) == 3
    assert len(curves["train_loss"][0]) == 3
    for place, single in enumerate(singles):
        own = train(single, rule(memory=memory), data(), epochs=3, **OPTIONS)
        part = split_curves(curves, place)
        assert part.keys() == own.keys()
        assert part["objective"].keys() == own["objective"].keys() == {"block1", "block2"}
        close(part, own)
        for name, weight in alone(together, place).state_dict().items():
            torch.testing.assert_close(weight, single.state_dict()[name], rtol=1e-9, atol=1e-12)
    assert curves["train_loss"][2][0] != pytest.approx(curves["train_loss"][2][1], rel=1e-6)


def test_numbers_to_predict_have_an_error_each():
    inputs = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).double()
    pieces = (inputs, inputs[:, :2], inputs[:10], inputs[:10, :2])
    singles, together = networks(2), side_by_side(networks(2))
    curves = train(together, rule(), pieces, epochs=1, **OPTIONS)
    for place, single in enumerate(singles):
        own = train(single, rule(), pieces, epochs=1, **OPTIONS)
        close(split_curves(curves, place), own)
        assert evaluate(together, pieces)["error"][place] == pytest.approx(evaluate(single, pieces)["error"], rel=1e-9)
        torch.testing.assert_close(predict(together, inputs, batch=7)[place], predict(single, inputs))


def test_they_go_on_from_their_checkpoint_to_the_same_bits(tmp_path):
    whole, part, rest = (side_by_side(networks()) for _ in range(3))
    curves = train(whole, rule(memory="stale"), data(), epochs=3, **OPTIONS)
    train(part, rule(memory="stale"), data(), epochs=1, checkpoints=Checkpoints(tmp_path), **OPTIONS)
    resumed = train(rest, rule(memory="stale"), data(), epochs=3, checkpoints=Checkpoints(tmp_path), **OPTIONS)
    assert all(resumed[name] == curves[name] for name in curves if name != "seconds")
    for name, weight in rest.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])


def test_the_one_that_explodes_is_named():
    together = side_by_side(networks())
    with torch.no_grad():
        together.readout.weight[1] = torch.inf
    with pytest.raises(NonFiniteLossError, match="readout's loss of network 1 is no longer finite"):
        train(together, rule(), data(), epochs=1, **OPTIONS)


def test_what_needs_a_network_alone_says_so():
    with pytest.raises(MismatchError, match="diagnose measures one network, not several side by side"):
        train(side_by_side(networks()), rule(), data(), epochs=1, diagnose=Diagnose(Backprop()), **OPTIONS)
    with pytest.raises(MismatchError, match="Backprop trains one network at a time"):
        train(side_by_side(networks()), Backprop(), data(), epochs=1)

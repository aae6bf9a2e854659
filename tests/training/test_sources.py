"""Where batches come from."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from training_toys import Diary, data, network, rule, same, weights

from infohebb import evaluate, train
from infohebb.data import DataSet, Split, from_arrays, random_like
from infohebb.errors import EmptyBatchError, LabelError, MismatchError, NonFiniteDataError, UsageError
from infohebb.training.loop import prepare_optimizer
from infohebb.training.sources import as_source

CPU = torch.device("cpu")
SGD = {"name": "sgd", "lr": {"local": 1.0, "readout": 0.05}, "momentum": 0.9, "weight_decay": 1e-3}


def trained(source, **options):
    net = network()
    curves = train(net, rule(), source, epochs=2, batch=16, optimizer=SGD, **options)
    return weights(net), curves


def test_arrays_tensors_lists_and_data_sets_train_alike():
    split = data().train
    whole, curves = trained(DataSet("mine", split, None, 2))
    assert same(trained((split.inputs, split.targets))[0], whole)
    assert same(trained((split.inputs.numpy(), split.targets.numpy().astype(np.uint8)))[0], whole)
    assert same(trained((split.inputs.tolist(), split.targets.tolist()))[0], whole)
    assert "test_accuracy" not in curves


def test_double_precision_arrays_train_a_network_in_single_precision():
    split = data().train
    inputs = split.inputs.double().numpy()
    assert same(trained((inputs, split.targets.numpy()))[0], trained((split.inputs, split.targets))[0])
    batches = [(split.inputs.double(), split.targets)]
    assert same(trained(batches)[0], trained([(split.inputs, split.targets)])[0])
    assert evaluate(network(), (inputs, split.targets.numpy())) == evaluate(network(), (split.inputs, split.targets))


def test_single_precision_arrays_train_a_network_in_double_precision():
    net = network().double()
    targets = torch.rand(20, 2)
    curves = train(net, rule(), (torch.randn(20, 8), targets), epochs=1, optimizer=SGD)
    assert len(curves["train_loss"]) == 1
    assert net.readout.weight.dtype == torch.float64


def test_four_arrays_have_a_test_set():
    train_split, test_split = data().train, data().test
    _, curves = trained((*train_split, *test_split))
    assert len(curves["test_accuracy"]) == 2
    assert not {"validation_accuracy", "test_error"} & curves.keys()


def test_a_list_of_batches_is_the_training_step_of_the_contract():
    split = data().train
    batches = [(split.inputs[i : i + 16], split.targets[i : i + 16]) for i in range(0, 60, 16)]
    by_loop, curves = trained(batches)
    net, by_hand = network(), rule()
    by_hand.attach(net)
    optimizer = prepare_optimizer(by_hand, net, SGD)
    learning = [p for group in by_hand.groups(net).values() for p in group]
    right = 0
    for _ in range(2):
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            right += int(by_hand.learn(net, inputs, targets).correct.sum())
            by_hand.finish(learning)
            optimizer.step()
    assert same(by_loop, weights(net))
    assert sum(curves["train_accuracy"]) == pytest.approx(100 * right / 60)


def test_torchs_data_loader_trains_as_the_batches_it_gives():
    split = data().train
    loader = DataLoader(TensorDataset(*split), batch_size=25)
    assert same(trained(loader)[0], trained([tuple(batch) for batch in loader])[0])


def test_a_shuffling_data_loader_follows_the_seed():
    loader = DataLoader(TensorDataset(*data().train), batch_size=25, shuffle=True)
    assert same(trained(loader, seed=1)[0], trained(loader, seed=1)[0])
    assert not same(trained(loader, seed=1)[0], trained(loader, seed=2)[0])


def test_a_data_set_is_augmented_in_training_and_normalised_always():
    raw = Split(torch.arange(6, dtype=torch.uint8).reshape(6, 1), torch.tensor([0, 1] * 3))
    diary, net = Diary(), torch.nn.Sequential()
    dataset = DataSet("raw", raw, raw, 2, normalise=lambda x: x.float() / 10, augment=lambda x: x + 100)
    source = as_source(dataset, 4, CPU)
    seen = torch.cat([inputs for inputs, _ in source.training()])
    assert sorted(seen.flatten().tolist()) == pytest.approx([10.0, 10.1, 10.2, 10.3, 10.4, 10.5])
    assert [len(targets) for _, targets in source.training()] == [4, 2]
    plain = torch.cat([inputs for inputs, _ in source.held_out()]).flatten().tolist()
    assert plain == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert plain == torch.cat([inputs for inputs, _ in source.final_training()]).flatten().tolist()
    assert (diary.events, len(source), len(net)) == ([], 2, 0)


def test_each_epoch_has_its_own_order():
    source = as_source(random_like((4,), 3, 50), 50, CPU)
    (first, _), (second, _) = (next(iter(source.training())) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, second.sort(0).values)


def test_single_continuous_targets_become_a_column():
    net, diary = network(outputs=1), Diary()
    train(net, diary, [(torch.randn(3, 8), torch.randn(3))], epochs=1)
    assert diary.events[0][4].shape == (3, 1)


x, y = torch.randn(6, 8), torch.tensor([0, 1] * 3)


@pytest.mark.parametrize(
    ("error", "words", "source"),
    [
        (EmptyBatchError, "no batches", []),
        (EmptyBatchError, "empty batch", [(x[:0], y[:0])]),
        (EmptyBatchError, "no samples", (np.zeros((0, 8)), np.zeros(0, dtype=int))),
        (MismatchError, "pair of tensors", [x]),
        (MismatchError, "pair of tensors", [(x, y, y)]),
        (MismatchError, "pair of tensors", [{"x": x, "y": y}]),
        (MismatchError, "pair of tensors", [(x.numpy(), y.numpy())]),
        (MismatchError, "6 inputs but 4 targets", [(x, y[:4])]),
        (MismatchError, "6 inputs and 4 targets", (x, y[:4])),
        (MismatchError, r"continuous targets \(6, 3\)", (x, torch.rand(6, 3))),
        (LabelError, "0 to 2.*classes 0 to 1; it takes a network of 3 outputs", [(x, y * 2)]),
        (LabelError, "-1", (x, y - 1)),
        (LabelError, "-1 to 0", [(x, y - 1)]),
        (LabelError, "one label per sample", [(x, y[:, None])]),
        (NonFiniteDataError, "sample 2", (x.clone().index_fill_(0, torch.tensor([2]), torch.nan), y)),
        (NonFiniteDataError, "loader", [(x / 0, y)]),
        (UsageError, "complex", (x.to(torch.complex64), y)),
        (UsageError, "not numbers", (np.array([["a"]] * 6), y)),
    ],
)
def test_data_that_cannot_be_learned_from_is_named(error, words, source):
    net = network()
    before = weights(net)
    with pytest.raises(error, match=words) as caught:
        train(net, rule(), source, epochs=1)
    assert "\n" not in str(caught.value)
    assert same(weights(net), before)


def test_a_generator_that_is_used_up_is_named():
    source = (pair for pair in [(x, y)] * 2)
    with pytest.raises(EmptyBatchError, match="generator can be read once"):
        train(network(), rule(), source, epochs=3)


def test_the_batch_size_must_hold_a_sample():
    with pytest.raises(EmptyBatchError, match="batch size 0"):
        train(network(), rule(), from_arrays(x, y), epochs=1, batch=0)

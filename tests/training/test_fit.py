"""fit: what it trains on, what it returns, and what it leaves as it was."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from fit_toys import Own, arrays, learner, own_learner, same, sequential, weights
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import infohebb
from infohebb import data

SGD = torch.optim.SGD


def fit(learner, train, validation=None, **options):
    return infohebb.fit(learner, train, validation, **{"epochs": 1, "batch": 20, "progress": False, **options})


def rates(learner, **options):
    return SGD(learner.param_groups(units=0.1, head=0.2), **options)


def test_the_history_has_a_number_per_epoch():
    history = fit(learner(), arrays(), arrays(40, seed=1), epochs=3)
    assert history["epoch"] == [1, 2, 3]
    assert history["samples"] == [60, 120, 180]
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds"):
        assert len(history[name]) == 3
    assert history["learning_rate"] == {"units": [1e-3] * 3, "head": [1e-2] * 3}
    assert set(history["objective"]) == {"0:3", "4:6"}
    assert len(history["objective"]["4:6"]["relevance"]) == 3


def test_a_step_is_the_learners_own_and_the_optimizers():
    x, y = arrays(20)
    one, other = learner(dropout=0.0), learner(dropout=0.0)
    fit(one, [(x, y)], optimizer=rates(one))
    optimizer = rates(other)
    other.backward(x, y)
    optimizer.step()
    assert same(weights(one), weights(other))


def test_it_learns():
    one = own_learner()
    optimizer = torch.optim.Adam(one.param_groups(), lr=1e-2)
    history = fit(one, arrays(200), arrays(100, seed=1), epochs=8, optimizer=optimizer)
    assert history["validation_accuracy"][-1] > 90
    assert history["train_loss"][-1] < history["train_loss"][0]


def test_numbers_as_targets_give_an_error_instead_of_an_accuracy():
    x, _ = arrays()
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    history = fit(infohebb.Learner(model, infohebb.Backprop()), (x, x[:, 0]), (x, x[:, 0]), epochs=2)
    assert "train_accuracy" not in history
    assert history["validation_error"] == pytest.approx(history["validation_loss"])
    assert fit(infohebb.Learner(model, infohebb.Backprop()), [(x, x[:, 0])])["samples"] == [60]  # become a column


def test_validation_scores_in_eval_mode():
    one = learner()
    history = fit(one, arrays(), arrays(40, seed=1))
    assert infohebb.evaluate(one.model, arrays(40, seed=1))["accuracy"] == history["validation_accuracy"][-1]
    assert one.model.training


def test_arrays_numpy_lists_and_data_sets_train_alike():
    x, y = arrays()
    results = []
    alike = [(x, y), (x.numpy(), y.numpy().astype(np.uint8)), (x.double().numpy(), y), (x.tolist(), y.tolist())]
    for given in (*alike, data.from_arrays(x, y)):
        one = learner()
        torch.manual_seed(3)
        fit(one, given)
        results.append(weights(one))
    assert all(same(results[0], other) for other in results[1:])


def test_a_loader_of_pairs_trains_as_the_same_batches_of_arrays():
    x, y = arrays()
    one, other = learner(), learner()
    torch.manual_seed(1)
    order = torch.randperm(60)
    fit(one, [(x[part], y[part]) for part in order.split(20)])
    torch.manual_seed(1)
    fit(other, (x, y))
    assert same(weights(one), weights(other))


def test_dictionaries_go_through_unpack_as_keyword_arguments():
    x, y = arrays()
    rows = [{"image": a, "scale": torch.ones(1), "label": b} for a, b in zip(x, y, strict=True)]

    def unpack(batch):
        return {"x": batch["image"], "scale": batch["scale"]}, batch["label"]

    history = fit(own_learner(), DataLoader(rows, 20), DataLoader(rows, 30), unpack=unpack)
    assert history["samples"] == [60]
    assert "validation_accuracy" in history


def test_a_tuple_of_inputs_is_the_models_arguments():
    x, y = arrays(20)
    history = fit(own_learner(), [((x, torch.ones(20, 1)), y)])
    assert history["samples"] == [20]


def test_token_ids_stay_integers():
    torch.manual_seed(0)
    tokens = torch.randint(0, 30, (40, 6))
    y = tokens[:, 0] % 2
    model = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 2))
    one = infohebb.Learner(model, infohebb.Backprop())
    assert fit(one, (tokens.numpy(), y), (tokens, y))["samples"] == [40]
    assert infohebb.predict(model, tokens).shape == (40, 2)


def test_uint8_images_become_numbers_of_the_models_type():
    images = torch.randint(0, 255, (20, 1, 4, 4), dtype=torch.uint8)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).double()
    one = infohebb.Learner(model, infohebb.Backprop())
    y = torch.arange(20) % 2
    assert fit(one, (images, y))["samples"] == fit(one, DataLoader(TensorDataset(images, y), 20))["samples"] == [20]


def test_called_again_it_goes_on_in_a_new_order_at_the_rates_left():
    x, y = arrays()
    seen = []
    one = learner()
    optimizer = rates(one)

    def unpack(batch):
        seen.append(batch[0][:, 0].tolist())
        return batch

    torch.manual_seed(0)
    fit(one, (x, y), optimizer=optimizer, unpack=unpack)
    optimizer.param_groups[0]["lr"] = 0.03
    history = fit(one, (x, y), optimizer=optimizer, unpack=unpack)
    assert seen[0] != seen[3]
    assert history["learning_rate"] == {"units": [0.03], "head": [0.2]}


def test_torchs_seed_governs_all_that_is_drawn():
    def run():
        one = learner()
        torch.manual_seed(7)
        fit(one, arrays())
        return weights(one)

    assert same(run(), run())


def test_schedulers_step_per_epoch_or_per_step():
    one = learner()
    optimizer = rates(one)
    per_epoch = fit(one, arrays(), epochs=3, optimizer=optimizer, scheduler=StepLR(optimizer, 1, 0.1))
    assert per_epoch["learning_rate"]["units"] == pytest.approx([0.1, 0.01, 0.001])
    optimizer = rates(one)
    scheduler = ExponentialLR(optimizer, 0.5)
    per_step = fit(one, arrays(), epochs=2, scheduler=scheduler, scheduler_per="step")  # three steps in an epoch
    assert per_step["learning_rate"]["units"] == pytest.approx([0.1, 0.1 / 8])


def test_reduce_on_plateau_gets_the_validation_loss_or_else_the_training_loss():
    for validation, name in ((arrays(), "validation_loss"), (None, "train_loss")):
        one = learner()
        optimizer = rates(one)
        scheduler = ReduceLROnPlateau(optimizer)
        history = fit(one, arrays(), validation, optimizer=optimizer, scheduler=scheduler)
        assert scheduler.best == history[name][0]


def test_gradients_are_clipped():
    one = own_learner()
    optimizer = SGD(one.param_groups(), lr=1.0)
    before = weights(one.model)
    fit(one, [arrays(20)], optimizer=optimizer, clip_norm=1e-3)
    moved = torch.cat([(after - before[name]).flatten() for name, after in weights(one.model).items()])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_the_optimizer_may_leave_parameters_out_but_says_so():
    one = own_learner()
    before = weights(one.model)
    with pytest.warns(UserWarning, match=r"the optimizer lacks model\.stem\.weight, model\.stem\.bias"):
        fit(one, arrays(), epochs=2, optimizer=SGD(one.model.fc.parameters(), lr=0.1))
    assert torch.equal(one.model.stem.weight, before["stem.weight"])
    assert not torch.equal(one.model.fc.weight, before["fc.weight"])


def test_a_frozen_batch_norm_stays_in_eval_mode():
    one = learner()
    norm = one.model[1].eval()
    fit(one, arrays(), arrays(), epochs=2)
    assert not norm.training
    assert one.model.training
    assert torch.equal(norm.running_mean, torch.zeros(16))


def test_a_model_in_eval_mode_is_put_in_train_mode_with_a_warning():
    one = learner()
    one.eval()
    with pytest.warns(UserWarning, match="was in eval mode"):
        fit(one, arrays())
    assert all(module.training for module in one.modules())


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*arrays(), strict=True))


def test_loaders_without_a_length_train():
    history = fit(learner(), DataLoader(Stream(), batch_size=20), DataLoader(Stream(), batch_size=30), epochs=2)
    assert history["samples"] == [60, 120]


def test_a_sampler_that_draws_by_epoch_is_told_the_epoch():
    class Sampler(torch.utils.data.SequentialSampler):
        epochs: ClassVar[list] = []

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    dataset = TensorDataset(*arrays())
    fit(learner(), DataLoader(dataset, 20, sampler=Sampler(dataset)), epochs=3)
    assert Sampler.epochs == [0, 1, 2]


def test_a_model_that_returns_a_dictionary_is_scored_as_the_learner_picks():
    class Dictionary(Own):
        def forward(self, x, scale=None):
            return {"logits": super().forward(x, scale)}

    rule = infohebb.KernelizedBottleneck()
    one = infohebb.Learner(Dictionary(), rule, units=["stem", "body"], head="fc", output=lambda out: out["logits"])
    assert "validation_accuracy" in fit(one, arrays(), arrays())


def test_under_autocast_the_weights_of_the_last_step_are_used():
    x, y = arrays()
    for rule in (infohebb.Backprop(), infohebb.KernelizedBottleneck()):
        whole, steps = learner(rule, dropout=0.0), learner(rule, dropout=0.0)
        with torch.autocast("cpu", torch.bfloat16):
            fit(whole, [(x, y)] * 3, optimizer=rates(whole))
        optimizer = rates(steps)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                fit(steps, [(x, y)], optimizer=optimizer)
        assert same(weights(whole), weights(steps))


def test_labels_of_numpy_types_are_fine_in_loaders():
    x, y = arrays(20)
    fixed = x.numpy().astype(">f4")
    fixed.flags.writeable = False
    loader = [(x.numpy(), y.numpy().astype(np.int32)), (x.numpy()[::-1], y.tolist()), (fixed, y.numpy()[::-1])]
    assert fit(learner(), loader)["samples"] == [60]


def test_evaluate_and_predict_leave_each_modules_mode():
    model = sequential()
    model[1].eval()
    x, y = arrays()
    model(x)
    before = weights(model)
    infohebb.evaluate(model, (x, y))
    first, second = infohebb.predict(model, x), infohebb.predict(model, x)
    assert torch.equal(first, second)  # no dropout
    assert same(weights(model), before)
    assert model.training and model[3].training and not model[1].training


def test_a_second_fit_binds_the_optimizer_once():
    class Doubling(infohebb.KernelizedBottleneck):
        calls = 0

        def before_step(self, parameters):
            self.calls += 1

    one = learner(Doubling())
    optimizer = rates(one)
    for _ in range(2):
        fit(one, arrays(), optimizer=optimizer)
    assert one.rule.calls == 6

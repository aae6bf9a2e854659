"""LocalClassifier, held to scikit-learn's own checks and to what its docstring says."""

import copy
import io
import pickle
import warnings
from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from infohebb import (
    Backprop,
    DirectFeedbackAlignment,
    HSICMemory,
    KernelizedBottleneck,
    KernelizedBottleneckOnline,
    LastLayer,
    Learner,
    LocalClassifier,
    LocalError,
    LocalRule,
    SignSymmetry,
    fit,
)
from infohebb.errors import (
    GroupingError,
    LabelError,
    MismatchError,
    NonFiniteLossError,
    UnknownKeyError,
    UnknownNameError,
    UsageError,
    WrongTypeError,
)
from infohebb.estimator import largest_groups, nearest_probabilities
from infohebb.functional import kernels
from infohebb.networks import CorInfoMaxNetwork, EquilibriumNetwork, PredictiveCodingNetwork
from infohebb.networks.plain import MLP
from infohebb.rules import CorInfoMax, PredictiveCoding, SettlingRule, registry
from infohebb.rules import LayerwiseClassification as HeadsRule
from infohebb.training.seeding import seeded

X, Y = load_iris(return_X_y=True)
RULES = [None, Backprop(), LastLayer(), HeadsRule(), CorInfoMax()]
NAMES = ["default", "Backprop", "LastLayer", "rule with parameters of its own", "CorInfoMax"]
SETTLING = [make() for make in registry().values() if issubclass(make, SettlingRule)]
FIRST = "layers.0.activity.linear.weight"
ONE_CLASS = "all labels are the same"  # in some of scikit-learn's checks too
EPOCHS = {"CorInfoMax": 15, "EquilibriumPropagation": 5, "PredictiveCoding": 5}  # whose output learns at a low rate
NOT_OURS = ("sample_weight", "multilabel", "multioutput")  # sample weights, and several labels for one sample


def small(rule=None, **settings):
    return LocalClassifier(rule, **{"hidden": (16,), "epochs": 3, "random_state": 0, **settings})


def weights(model):
    return {**model.network_.state_dict(), **{f"rule.{key}": value for key, value in model.rule_.state_dict().items()}}


def assert_same(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def own_checks(estimator):
    """Names and outcomes of scikit-learn's checks, sorted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        warnings.filterwarnings("ignore", ONE_CLASS, UserWarning)
        return sorted((check["check_name"], check["status"]) for check in check_estimator(estimator, on_fail=None))


# scikit-learn's checks


@pytest.mark.slow
@pytest.mark.parametrize("rule", [None, *(make() for make in registry().values())], ids=["default", *registry()])
def test_scikit_learns_own_checks_all_pass_with_every_rule(rule):
    one = rule is not None and rule.consumes != "batch"  # a window for each sample makes many steps of an epoch
    few = EPOCHS.get(type(rule).__name__, 1 if one else 2)
    checks = own_checks(LocalClassifier(rule, epochs=few))
    assert [name for name, status in checks if status not in ("passed", "skipped")] == []
    skipped = {name for name, status in checks if status == "skipped"}
    assert skipped <= {"check_array_api_input", "check_classifier_data_not_an_array"}  # no pandas, no array API here


def test_no_check_is_left_out_that_mlp_classifier_passes():
    reference = {name for name, _ in own_checks(MLPClassifier(max_iter=2))}
    missing = reference - {name for name, _ in own_checks(small())}
    assert [name for name in missing if not any(word in name for word in NOT_OURS)] == []


# what it learns


@pytest.mark.parametrize(
    ("data", "least"),
    [
        (load_iris(return_X_y=True), 0.9),
        (load_digits(return_X_y=True), 0.95),
        (make_moons(400, noise=0.2, random_state=0), 0.9),
    ],
    ids=["iris", "digits", "moons"],
)
def test_it_learns_small_data_with_its_defaults(data, least):
    x, x_test, y, y_test = train_test_split(*data, random_state=0, stratify=data[1])
    assert LocalClassifier(random_state=0).fit(x, y).score(x_test, y_test) >= least


def test_its_rule_learns_hidden_layers_where_a_readout_alone_does_not_do():
    x = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    y = x[:, 0] * x[:, 1] > 0
    accuracy = [
        LocalClassifier(rule, epochs=25, random_state=0).fit(x[:900], y[:900]).score(x[900:], y[900:])
        for rule in (None, LastLayer())
    ]
    assert accuracy[0] > 0.9
    assert accuracy[0] > accuracy[1] + 0.1


def test_fit_does_what_the_function_fit_does():
    model = small(batch=32, epochs=4).fit(X, Y)
    with seeded(int(np.random.RandomState(0).randint(2**31 - 1))):
        network = MLP(4, 3, (16,), divisive_norm={"groups": 8}, bias=True).double()
        learner = Learner(network, KernelizedBottleneck("cosine"))
        optimizer = torch.optim.Adam(learner.param_groups(units=1e-3, head=1e-2), fused=True)
        curves = fit(learner, (X, Y), epochs=4, batch=32, optimizer=optimizer, progress=False)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in weights(model).items())
    assert model.loss_curve_ == curves["train_loss"]
    assert model.n_iter_ == 4


@pytest.mark.parametrize("hidden", [16, [16], np.int64(16), np.array(16), np.array([16]), torch.tensor([16])])
def test_hidden_widths_may_be_one_number_or_a_row(hidden):
    assert_same(small(hidden=hidden).fit(X, Y), small(hidden=(16,)).fit(X, Y))


def test_hidden_widths_may_be_an_array():
    model = clone(small(hidden=np.array([16, 8], dtype=np.uint8))).fit(X, Y)
    assert_same(model, small(hidden=(16, 8)).fit(X, Y))


# precision


@pytest.mark.parametrize(("given", "computed"), [(np.float64, torch.float64), (np.float32, torch.float32)])
@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_it_computes_in_the_precision_of_its_input(rule, given, computed):
    model = small(rule).fit(X.astype(given), Y)
    assert {value.dtype for value in weights(model).values()} == {computed}
    moments = [value for table in model.optimizer_.state.values() for value in table.values() if value.dim()]
    assert {value.dtype for value in moments} == {computed}
    assert model.predict_proba(X.astype(given)).dtype == given


def test_it_goes_on_in_the_precision_that_it_began_in():
    model = small().fit(X.astype(np.float32), Y).partial_fit(X, Y)
    assert {value.dtype for value in weights(model).values()} == {torch.float32}
    assert model.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("given", [np.int64, np.uint8, np.float16, ">f8"])
def test_other_numbers_are_computed_in_double(given):
    assert small().fit(X.astype(given), Y).network_.readout.weight.dtype == torch.float64


def test_double_precision_sees_what_single_does_not():
    near = X * (1 + 1e-12)
    double, nearby = small().fit(X, Y), small().fit(near, Y)
    difference = (weights(double)[FIRST] - weights(nearby)[FIRST]).abs().max()
    assert 0 < difference < 1e-8
    assert_same(small().fit(X.astype(np.float32), Y), small().fit(near.astype(np.float32), Y))


def test_both_precisions_start_alike_and_agree():
    single, double = small().fit(X.astype(np.float32), Y), small().fit(X, Y)
    np.testing.assert_allclose(single.predict_proba(X.astype(np.float32)), double.predict_proba(X), atol=1e-4)
    assert np.abs(single.predict_proba(X) - double.predict_proba(X)).max() > 0


def test_without_hidden_layers_the_head_learns_alone():
    model = small(hidden=()).fit(X, Y)
    assert isinstance(model.rule_, LastLayer)
    assert_same(model, small(LastLayer(), hidden=()).fit(X, Y))
    assert isinstance(small(Backprop(), hidden=(), epochs=1).fit(X, Y).rule_, Backprop)


# the user's rule


class Shrink(LocalRule):
    """A rule of one's own: each unit makes its activity smaller."""

    def error(self, z, signal, context, unit):
        return LocalError(None, z, z)


def test_a_rule_of_ones_own_trains_units():
    size = {}
    for rule in (Shrink(), LastLayer()):
        layer = small(rule, groups=0, epochs=20, learning_rate=1e-2).fit(X, Y).network_.layers[0]
        size[type(rule)] = layer(torch.from_numpy(X)).square().mean()
    assert size[Shrink] < 0.5 * size[LastLayer]


@pytest.mark.filterwarnings("ignore:.* got no gradient in the first step")
def test_a_fit_that_leaves_units_without_gradients_is_refused():
    words = "got no gradient in an epoch, though the rule trains it; give a larger batch, or more samples$"
    with pytest.raises(MismatchError, match=words):
        small(batch=1).fit(X[::5], Y[::5])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule], ids=NAMES[1:])
def test_fit_leaves_the_users_rule_as_it_was(rule):
    before = copy.deepcopy(rule)
    model = small(rule).fit(X, Y)
    assert model.rule is rule
    assert model.rule_ is not rule
    assert repr(rule.__dict__) == repr(before.__dict__)


def test_no_rule_is_the_kernelized_bottleneck():
    assert isinstance(small().fit(X, Y).rule_, KernelizedBottleneck)
    assert small().rule is None


def test_a_clone_has_a_rule_of_its_own_with_the_same_settings():
    first = small(KernelizedBottleneck(kernel=kernels.gaussian(2.0), gamma=1.5))
    second = clone(first)
    assert second.rule is not first.rule
    assert second.rule.gamma == 1.5
    assert_same(first.fit(X, Y), second.fit(X, Y))


def test_parameters_are_got_and_set():
    model = small().set_params(rule=LastLayer(), hidden=(8, 4), epochs=1)
    assert isinstance(model.get_params()["rule"], LastLayer)
    assert [unit.shape for unit in Learner(model.fit(X, Y).network_, LastLayer()).units] == [(8,), (4,)]
    assert "LastLayer" in repr(model)


# rules on networks that settle


def test_a_settling_rule_makes_the_network_that_it_trains():
    made = {type(rule).__name__: small(rule, hidden=(16, 8), epochs=1).fit(X, Y).network_ for rule in SETTLING}
    assert {name: type(network) for name, network in made.items()} == {
        "ContrastiveSimilarityMatching": EquilibriumNetwork,
        "CorInfoMax": CorInfoMaxNetwork,
        "EquilibriumPropagation": EquilibriumNetwork,
        "PredictiveCoding": PredictiveCodingNetwork,
        "PredictiveCodingNudge": PredictiveCodingNetwork,
    }
    assert {network.sizes for network in made.values()} == {(4, 16, 8, 3)}
    assert [len(made[name].laterals) for name in ("ContrastiveSimilarityMatching", "EquilibriumPropagation")] == [2, 0]
    rates = [made[name].nonlinearity for name in ("PredictiveCoding", "PredictiveCodingNudge")]
    assert rates == ["sigmoid", "relu"]


@pytest.mark.parametrize("rule", SETTLING, ids=lambda rule: type(rule).__name__)
def test_it_learns_small_data_by_settling(rule):
    x = StandardScaler().fit_transform(X)
    assert LocalClassifier(rule, hidden=(64,), random_state=0).fit(x, Y).score(x, Y) > 0.75  # two classes are 0.67


@pytest.mark.parametrize("rule", SETTLING, ids=lambda rule: type(rule).__name__)
def test_probabilities_of_what_settles_are_those_nearest_to_its_outputs(rule):
    model = small(rule).fit(X, Y)
    outputs, found = model.network_(torch.from_numpy(X)).numpy(), model.predict_proba(X)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    for output, probabilities in zip(outputs, found, strict=True):  # as the optimum of a distance wants it
        off = (output - probabilities)[probabilities > 1e-300]
        np.testing.assert_allclose(off, off[0], atol=1e-12)
        assert (output[probabilities <= 1e-300] <= off[0] + 1e-12).all()
    np.testing.assert_array_equal(model.predict(X), model.classes_[outputs.argmax(1)])
    np.testing.assert_array_equal(outputs.argmax(1), found.argmax(1))
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(found), rtol=1e-12)


@pytest.mark.parametrize(
    ("outputs", "probabilities"),
    [
        ([0.2, 0.5, 0.3], [0.2, 0.5, 0.3]),
        ([0.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]),
        ([0.9, 0.3, 0.1], [0.8, 0.2, 0.0]),
        ([-0.7, -0.4, -2.0], [0.35, 0.65, 0.0]),
        ([3.0, 1e9, -1e9], [0.0, 1.0, 0.0]),
        ([0.1], [1.0]),
    ],
)
def test_the_nearest_probabilities(outputs, probabilities):
    found = nearest_probabilities(torch.tensor([outputs], dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), [probabilities], rtol=1e-12, atol=1e-300)
    assert bool(found.log().isfinite().all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"groups": 4}, "groups = 4: CorInfoMax makes its own network, which settles and .* leave groups out"),
        ({"nonlinearity": "tanh"}, "nonlinearity = 'tanh': CorInfoMax makes its own .* leave nonlinearity out"),
    ],
)
def test_settings_of_an_mlp_are_refused_for_what_settles(settings, words):
    with pytest.raises(MismatchError, match=words) as caught:
        small(CorInfoMax(), **settings).fit(X, Y)
    assert "\n" not in str(caught.value)
    small(CorInfoMax(), groups=0, epochs=1).fit(X, Y)


# groups


@pytest.mark.parametrize(
    ("widths", "groups"),
    [
        ((128, 128), 32),
        ((1024,), 32),
        ((100, 50), 25),
        ((100, 30), 10),
        ((48,), 24),
        ((12,), 6),
        ((7,), None),
        ((2,), None),
        ((9, 16), None),
        ((), None),
    ],
)
def test_groups_are_as_many_as_fit(widths, groups):
    assert largest_groups(widths) == groups
    norms = [layer.divisive_norm for layer in small(hidden=widths, epochs=1).fit(X, Y).network_.layers]
    assert [norm and norm.groups for norm in norms] == [groups] * len(widths)


def test_two_groups_are_taken_only_by_rules_that_learn_of_them():
    for rule, groups in ((None, None), (KernelizedBottleneck(), 2), (LastLayer(), 2)):
        norm = small(rule, hidden=(10, 14), epochs=1).fit(X, Y).network_.layers[0].divisive_norm
        assert (norm and norm.groups) == groups


@pytest.mark.parametrize("own", [{"groups": 4}, {"groups": 4, "power": 0.5, "delta": 2.0}, {"power": 0.5}])
def test_a_rules_own_groups_are_the_networks(own):
    layer = small(KernelizedBottleneck(**own), hidden=(16,), epochs=1).fit(X, Y).network_.layers[0]
    wanted = {"groups": 8, "power": 0.8, "delta": 1.0} | own
    norm = layer.divisive_norm
    assert (norm.groups, 1 - norm.power, norm.delta) == pytest.approx(tuple(wanted.values()))


def test_groups_are_as_given():
    assert small(groups=4).fit(X, Y).network_.layers[0].divisive_norm.groups == 4
    assert small(groups=0).fit(X, Y).network_.layers[0].divisive_norm is None
    assert small(KernelizedBottleneck(groups=4), groups=0).fit(X, Y).rule_.groups_per_block == 4


@pytest.mark.parametrize("groups", [3, 16, 32, 1, -4])
def test_groups_that_do_not_fit_are_refused(groups):
    with pytest.raises(GroupingError, match=f"{groups} groups"):
        small(groups=groups).fit(X, Y)


# chance


def test_the_same_random_state_gives_the_same_bits_and_another_one_others():
    assert_same(small().fit(X, Y), small().fit(X, Y))
    assert_same(small(random_state=np.random.RandomState(3)).fit(X, Y), small(random_state=3).fit(X, Y))
    assert not np.array_equal(small().fit(X, Y).predict_proba(X), small(random_state=1).fit(X, Y).predict_proba(X))


def test_without_a_random_state_numpys_global_one_decides():
    np.random.seed(5)  # noqa: NPY002  (scikit-learn's random_state=None)
    first, second = small(random_state=None).fit(X, Y), small(random_state=None).fit(X, Y)
    assert not torch.equal(first.network_.readout.weight, second.network_.readout.weight)
    np.random.seed(5)  # noqa: NPY002
    assert_same(first, small(random_state=None).fit(X, Y))


def test_torchs_random_numbers_are_left_alone_and_do_not_matter():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model = small().fit(X, Y).partial_fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same(model, small().fit(X, Y).partial_fit(X, Y))


# labels


@pytest.mark.parametrize(
    "names",
    [np.array(["low", "medium", "very high"]), np.array(["a", "b", "c"], dtype=object), np.array([-7, 3, 100])],
    ids=["strings", "objects", "gaps"],
)
def test_labels_may_be_strings_or_have_gaps(names):
    y = names[Y]
    model = small().fit(X, y)
    assert model.classes_.tolist() == names.tolist()
    assert model.predict(X).dtype == y.dtype
    np.testing.assert_array_equal(model.predict(X), names[small().fit(X, Y).predict(X)])


@pytest.mark.parametrize(("other", "kinds"), [(None, "NoneType and str"), (1, "int and str")])
def test_labels_of_two_types_get_one_line(other, kinds):
    y = np.array(["a", other], dtype=object)[Y // 2]
    for learn in (small().fit, lambda X, y: small().partial_fit(X, y, classes=["a", "b"])):
        with pytest.raises(LabelError, match=f"^y: labels of types {kinds}; give all as strings or all as numbers$"):
            learn(X, y)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_one_class_is_always_predicted(rule):
    with pytest.warns(UserWarning, match=ONE_CLASS):
        model = small(rule).fit(X, np.full(len(X), "only"))
    assert set(model.predict(X)) == {"only"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))


def test_probabilities_are_the_softmax_of_the_networks_outputs():
    model = small().fit(X, Y)
    expected = model.network_(torch.from_numpy(X)).detach().softmax(1).numpy()
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-12)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(expected), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(X), model.classes_[expected.argmax(1)])


def test_one_class_is_warned_of_where_a_model_begins():
    with pytest.warns(UserWarning, match=ONE_CLASS) as caught:
        model = small().partial_fit(X[:9], Y[:9], classes=[0])
    assert len(caught) == 1
    model.partial_fit(X[:9], Y[:9])  # silent, as are many classes of which a batch has one
    small().partial_fit(X[:9], Y[:9], classes=[0, 1])


# inputs


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_input_gives_the_same_bits(form):
    dense, thin = small().fit(X, Y), small().fit(form(X), Y)
    assert_same(dense, thin)
    np.testing.assert_array_equal(dense.predict_proba(X), thin.predict_proba(form(X)))


@pytest.mark.parametrize("view", [np.asfortranarray(X), X[::-1][::-1], X.tolist()], ids=["columns", "backward", "list"])
def test_any_layout_in_memory_gives_the_same_bits(view):
    assert_same(small().fit(view, Y), small().fit(X, Y))


def test_many_samples_are_predicted_in_parts():
    many = np.tile(X, (20, 1))
    np.testing.assert_allclose(small().fit(X, Y).predict_proba(many)[-150:], small().fit(X, Y).predict_proba(X))


# partial_fit


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_partial_fit_n_times_is_fit_with_n_epochs(rule):
    once, often = small(rule, epochs=3, batch=32).fit(X, Y), small(rule, batch=32)
    for _ in range(3):
        often.partial_fit(X, Y, classes=[0, 1, 2])
    assert_same(once, often)
    assert once.loss_curve_ == often.loss_curve_
    assert often.n_iter_ == 3


def test_partial_fit_goes_on_after_fit_and_fit_starts_anew():
    longer = small(epochs=4).fit(X, Y)
    model = small(epochs=3).fit(X, Y).partial_fit(X, Y)
    assert_same(longer, model)
    assert_same(model.fit(X, Y), small(epochs=3).fit(X, Y))
    assert model.n_iter_ == len(model.loss_curve_) == 3


def test_a_warm_start_goes_on():
    model = small(epochs=2, warm_start=True).fit(X, Y)
    assert_same(model.fit(X, Y), small(epochs=4).fit(X, Y))
    assert model.n_iter_ == 4
    with pytest.raises(ValueError, match="previously unseen labels"):
        model.fit(X, Y + 1)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_partial_fit_takes_one_sample_at_a_time(rule):
    model = small(rule)
    for sample, label in zip(X[::25], Y[::25], strict=True):
        model.partial_fit(sample[None], [label], classes=[0, 1, 2])
    assert np.isfinite(model.predict_proba(X)).all()
    assert model.n_iter_ == 6


def test_a_rule_on_single_samples_takes_a_stream_in_its_order_whatever_the_calls():
    rule = KernelizedBottleneckOnline(sigma=0.5)
    once = small(rule).partial_fit(X[::5], Y[::5], classes=[0, 1, 2])
    often = small(rule)
    for sample, label in zip(X[::5], Y[::5], strict=True):
        often.partial_fit(sample[None], [label], classes=[0, 1, 2])
    assert_same(once, often)
    assert often.rule_.teaching.stimuli == 30
    backward = small(rule).partial_fit(X[::-5], Y[::-5], classes=[0, 1, 2])
    assert not torch.equal(backward.network_.readout.weight, once.network_.readout.weight)


def test_a_rule_on_single_samples_fits_each_of_them_in_random_order_once_an_epoch():
    rule = KernelizedBottleneckOnline(sigma=0.5)
    model = small(rule, epochs=2).fit(X, Y)
    assert model.rule_.teaching.stimuli == 300
    assert_same(model, small(rule, epochs=2).fit(X, Y))
    in_order = small(rule).partial_fit(X, Y, classes=[0, 1, 2])
    assert not torch.equal(small(rule, epochs=1).fit(X, Y).network_.readout.weight, in_order.network_.readout.weight)
    assert small(rule, epochs=10).fit(X, Y).score(X, Y) > 0.9


class Watcher(LastLayer):
    """A rule on windows that writes down what it is given."""

    consumes = "window"

    def __init__(self):
        super().__init__()
        self.seen = []

    def backward(self, walk, inputs, targets):
        self.seen.append((inputs, targets))
        return super().backward(walk, inputs, targets)


def test_a_rule_on_windows_has_a_batch_in_sight_that_slides_by_one():
    model = small(Watcher(), batch=4).partial_fit(X[:10], Y[:10], classes=[0, 1, 2])
    assert [inputs.tolist() for inputs, _ in model.rule_.seen] == [X[first : first + 4].tolist() for first in range(7)]
    model.partial_fit(X[20:24], Y[20:24])
    assert torch.equal(model.rule_.seen[-1][0], torch.from_numpy(X[20:24]))
    shuffled = small(Watcher(), batch=4, epochs=1).fit(X, Y).rule_.seen
    assert len(shuffled) == 147
    assert torch.equal(shuffled[0][0][1:], shuffled[1][0][:3])
    assert not torch.equal(shuffled[0][0], torch.from_numpy(X[:4]))


@pytest.mark.parametrize(
    ("samples", "window"), [(2, 2), (3, 2), (4, 2), (5, 3), (10, 5), (126, 63), (127, 64), (150, 64)]
)
def test_without_a_batch_windows_are_at_most_half_of_the_samples(samples, window):
    """A memory that is filled by what was current before is then full within one pass."""
    places = np.arange(samples) * 7 % 150
    model = small(Watcher()).partial_fit(X[places], Y[places], classes=[0, 1, 2])
    assert {len(inputs) for inputs, _ in model.rule_.seen} == {window}
    assert len(model.rule_.seen) == samples - window + 1
    assert samples < 3 or len(model.rule_.seen) >= window


def test_without_a_batch_other_rules_take_64_or_what_is_there():
    for places in (slice(None), slice(None, None, 10)):
        assert_same(small().fit(X[places], Y[places]), small(batch=64).fit(X[places], Y[places]))


MOONS = make_moons(60, noise=0.1, random_state=0)


@pytest.mark.parametrize("memory", ["recompute", "stale"])
@pytest.mark.parametrize("batch", [None, 8])
def test_a_working_memory_learns_small_data(memory, batch):
    model = small(HSICMemory(memory=memory), groups=0, batch=batch, epochs=5).fit(*MOONS)
    assert model.score(*MOONS) > 0.75
    assert np.isfinite(model.loss_curve_).all()


@pytest.mark.parametrize(
    ("samples", "batch", "words"),
    [
        (3, 4, "batch = 4: a window of 4 samples does not fit into 3 samples; bring 4 or more in one call, or lower"),
        (1, 4, "batch = 4: a window of 4 samples does not fit into 1 sample; bring 4 or more in one call"),
        (1, 2, "batch = 2: a window of 2 samples does not fit into 1 sample; bring 2 or more in one call"),
        (1, None, "batch = None: a window of 2 samples does not fit into 1 sample; bring 2 or more in one call"),
    ],
)
@pytest.mark.parametrize("memory", ["recompute", "stale"])
def test_windows_longer_than_the_data_are_refused_before_anything_is_made(memory, samples, batch, words):
    model = small(HSICMemory(memory=memory), batch=batch)
    with pytest.raises(MismatchError, match=f"^{words}") as caught:
        model.partial_fit(X[:samples], Y[:samples], classes=[0, 1, 2])
    assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.partial_fit(X[::10], Y[::10], classes=[0, 1, 2])
    before = copy.deepcopy(model)
    with pytest.raises(MismatchError, match=f"^{words}"):
        model.partial_fit(X[:samples], Y[:samples])
    assert_same(before, model)


def test_a_fit_with_windows_longer_than_the_data_is_refused():
    with pytest.raises(MismatchError, match=r"^batch = 64: a window of 64 samples does not fit into 60 samples"):
        small(HSICMemory(), batch=64).fit(*MOONS)


class NeverReady(KernelizedBottleneckOnline):
    """A rule on single samples that waits for ever."""

    def backward(self, walk, inputs, targets):
        return replace(super().backward(walk, inputs, targets), waiting=True)


@pytest.mark.parametrize(
    ("rule", "batch", "words"),
    [
        (HSICMemory(), 1, r"a window of one sample remembers none; give two or more \(batch\)$"),
        (HSICMemory(source="reservoir", pretraining=40), 4, "give batch and rule.window the same number$"),
        (
            HSICMemory(memory="stale"),
            50,
            "still waited for samples .* steps; give more samples, or a smaller batch$",
        ),
        (NeverReady(), None, "NeverReady still waited for samples .* steps; give more samples$"),
    ],
    ids=["one", "reservoir", "stale", "samples"],
)
def test_what_a_rule_refuses_is_told_by_the_estimators_own_names(rule, batch, words):
    with pytest.raises(MismatchError, match=words):
        small(rule, groups=0, batch=batch).fit(*MOONS)


ONE_CLASS_STREAM = "^all labels are of one class, so there is nothing to tell apart; give two classes or more$"


@pytest.mark.parametrize("rule", [KernelizedBottleneckOnline(), HSICMemory()], ids=["sample", "window"])
def test_a_stream_of_one_class_is_refused_as_by_fit(rule):
    only = np.zeros(len(X), dtype=int)
    with pytest.raises(LabelError, match=r"of one class.* nothing to tell apart; give two"):
        fit(Learner(MLP(4, 3, (16,)), rule), (X.astype(np.float32), only), epochs=1, batch=1, progress=False)
    model = small(rule, epochs=1, warm_start=True)
    for learn in (model.fit, lambda X, y: model.partial_fit(X, y, classes=[0])):
        with pytest.raises(LabelError, match=ONE_CLASS_STREAM):
            learn(X, only)
        with pytest.raises(NotFittedError):
            model.predict(X)
    model.partial_fit(X[:9], only[:9], classes=[0, 1])  # others may come in later calls
    with pytest.raises(LabelError, match=ONE_CLASS_STREAM):
        model.fit(X, only)


def test_a_first_sample_that_teaches_nothing_has_no_loss():
    model = small(KernelizedBottleneckOnline(sigma=0.5))
    for sample, label in zip(X[::50], Y[::50], strict=True):
        model.partial_fit(sample[None], [label], classes=[0, 1, 2])
    assert np.isfinite(model.loss_curve_).tolist() == [False, True, True]


def test_partial_fit_knows_its_classes():
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        small().partial_fit(X, Y)
    model = small().partial_fit(X[:50], Y[:50], classes=[2, 0, 1])
    assert model.predict_proba(X).shape == (150, 3)
    assert model.partial_fit(X, Y, classes=[0, 1, 2]).n_iter_ == 2
    with pytest.raises(ValueError, match="are not those of the first call"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="previously unseen labels"):
        model.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(X[:, :3], Y)


@pytest.mark.parametrize(
    ("settings", "classes"), [({"groups": 3}, [5, 6, 7]), ({"groups": 4}, [0, 1, 2])], ids=["groups", "labels"]
)
def test_partial_fit_can_begin_again_after_a_first_call_that_failed(settings, classes):
    model = small(**settings)
    with pytest.raises(UsageError):
        model.partial_fit(X, Y + 5, classes=classes)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert model.set_params(groups=4).partial_fit(X, Y + 5, classes=[5, 6, 7]).n_iter_ == 1
    assert_same(model, small(groups=4).partial_fit(X, Y + 5, classes=[5, 6, 7]))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (2, "classes: give a row of labels"),
        ([], r"classes: give a row of labels"),
        ([[0, 1]], r"classes: give a row of labels"),
        ([[0, 1], [2]], "classes: give a row of labels"),
        ({0, 1, 2}, "classes: give a row of labels"),
        ([0, 1, np.nan], "classes: leave out NaN and infinity"),
        ([0, 1, np.inf], "classes: leave out NaN and infinity"),
        (np.array([0, 1, np.nan], dtype=object), "classes: leave out NaN and infinity"),
        (np.array(["a", 1], dtype=object), "classes: labels of types .* and str; give all"),
        (np.array(["a", None], dtype=object), "classes: labels of types .* and str; give all"),
    ],
)
def test_classes_that_cannot_be_get_one_line(classes, words):
    with pytest.raises(LabelError, match=words) as caught:
        small().partial_fit(X, Y, classes=classes)
    assert "\n" not in str(caught.value)
    with pytest.raises(LabelError, match=words):
        small().partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y, classes=classes)


# copies, pipelines, searches


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("through", [lambda model: pickle.loads(pickle.dumps(model)), by_joblib, copy.deepcopy])  # noqa: S301
@pytest.mark.parametrize("rule", [*RULES, SignSymmetry(gradient_signs=True)], ids=[*NAMES, "bound to the optimizer"])
def test_a_copy_predicts_the_same_and_learns_on_the_same(rule, through):
    model = small(rule).fit(X, Y)
    other = through(model)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    before = copy.deepcopy(model)
    other.partial_fit(X, Y)
    assert_same(before, model)
    assert_same(other, model.partial_fit(X, Y))


def test_a_pipeline_and_cross_validation():
    scores = cross_val_score(make_pipeline(StandardScaler(), small(epochs=20)), X, Y, cv=3)
    assert scores.mean() > 0.8


def test_a_grid_search_over_rules_widths_and_rates():
    grid = {"rule": [None, Backprop(), LastLayer()], "hidden": [(16,), (8, 8)], "learning_rate": [None, 1e-2]}
    search = GridSearchCV(small(epochs=2), grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 12
    assert search.best_estimator_.n_iter_ == 2
    assert set(search.best_params_) == {"rule", "hidden", "learning_rate"}


# slips


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"rule": Backprop}, WrongTypeError, "rule = .*: give an instance of a rule"),
        ({"rule": "backprop"}, WrongTypeError, "rule = 'backprop': give an instance of a rule"),
        ({"rule": KernelizedBottleneck(groups=4), "groups": 2}, MismatchError, "leave them out of the rule"),
        ({"rule": KernelizedBottleneck(kernel="cosin")}, UnknownNameError, "did you mean 'cosine'"),
        ({"hidden": "wide"}, WrongTypeError, "hidden = 'wide': give a whole number or a row of them"),
        ({"hidden": b"wide"}, WrongTypeError, "hidden = b'wide': give a whole number"),
        ({"hidden": (16.0,)}, WrongTypeError, "hidden = .*: give a whole number"),
        ({"hidden": np.array([16.0])}, WrongTypeError, "hidden = .*: give a whole number"),
        ({"hidden": np.array([[16], [8]])}, WrongTypeError, "hidden = .*: give a whole number"),
        ({"hidden": np.array([True])}, WrongTypeError, "hidden = .*: give a whole number"),
        ({"hidden": (16, 0)}, MismatchError, "no layer may be empty"),
        ({"hidden": None}, WrongTypeError, "hidden = None: give a whole number"),
        ({"groups": 4.0}, WrongTypeError, "groups = 4.0: give a whole number"),
        ({"hidden": (), "rule": DirectFeedbackAlignment()}, MismatchError, "no unit beside its head; take LastLayer"),
        ({"nonlinearity": "rellu"}, UnknownNameError, "did you mean 'relu'"),
        ({"epochs": 0}, WrongTypeError, "epochs = 0: give a whole number of at least 1"),
        ({"batch": 0}, WrongTypeError, "batch = 0: give a whole number of at least 1"),
        ({"batch": 1.5}, WrongTypeError, "batch = 1.5: give a whole number of at least 1"),
        ({"optimizer": "adamm"}, UnknownNameError, "did you mean"),
        ({"optimizer": None}, WrongTypeError, "optimizer = None: give a name"),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, UnknownKeyError, "optimizer.momentun"),
        ({"optimizer": {"name": "sgd", "lr": 0.1}, "learning_rate": 0.1}, MismatchError, "leave one out"),
        ({"learning_rate": -1.0}, WrongTypeError, "^learning_rate is -1.0; it must be a number of at least 0"),
        ({"learning_rate": {"head": -1.0}}, WrongTypeError, "^learning_rate.head is -1.0; it must be a number"),
        ({"learning_rate": "fast"}, WrongTypeError, "learning_rate = 'fast': give a number"),
        ({"learning_rate": {"hidden": 0.1}}, UnknownNameError, "'hidden'; roles are units, head and rule"),
        ({"random_state": "lucky"}, ValueError, "lucky"),
    ],
)
def test_a_setting_that_cannot_be_gets_one_line(settings, error, words):
    with pytest.raises(error, match=words) as caught:
        small(**settings).fit(X, Y)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def rates_of(model):
    return {group["role"]: group["lr"] for group in model.optimizer_.param_groups}


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (None, {"units": 1e-3, "head": 1e-2}),
        (Backprop(), {"units": 1e-3, "head": 1e-2}),
        (LastLayer(), {"head": 1e-2}),
        (HeadsRule(), {"units": 1e-3, "head": 1e-2, "rule": 1e-3}),
        (CorInfoMax(), {"forward": 1e-3, "feedback": 1e-3}),
        (PredictiveCoding(), {"forward": 1e-3, "bias": 1e-3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_head_learns_at_a_hundredth_by_default_all_else_at_a_thousandth(rule, rates):
    assert rates_of(small(rule, epochs=1).fit(X, Y)) == rates
    first, *others = rates
    given = small(rule, epochs=1, learning_rate={first: 0.5}).fit(X, Y)
    assert rates_of(given) == {first: 0.5, **{role: rates[role] for role in others}}


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        (None, {"local": 0.3, "readout": 0.2}, {"units": 0.3, "head": 0.2}),
        (HeadsRule(), {"local": 0.3}, {"units": 0.3, "rule": 0.3}),
        (LastLayer(), {"readout": 0.2}, {"head": 0.2}),
        (Backprop(), {"readout": 0.2}, {"units": 0.2, "head": 0.2}),
        (DirectFeedbackAlignment(), {"readout": 0.2}, {"units": 0.2, "head": 0.2}),
        (PredictiveCoding(), {"local": 0.3}, {"forward": 0.3, "bias": 0.3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_roles_of_version_1_get_a_warning_that_shows_those_of_now(rule, old, new):
    wanted = small(rule, epochs=1, learning_rate=new).fit(X, Y)
    optimizer = {"name": "adam", "lr": old}
    for place, settings in (("learning_rate", {"learning_rate": old}), ("optimizer.lr", {"optimizer": optimizer})):
        with pytest.warns(FutureWarning) as told:
            model = small(rule, epochs=1, **settings).fit(X, Y)
        spelled = " ".join(str(each.message) for each in told)
        assert all(f"{place}.{role}" in spelled for role in (*old, *new)), spelled
        assert rates_of(model) == rates_of(wanted)
        assert_same(model, wanted)


def test_optimizers_and_rates_are_those_asked_for():
    sgd = {"name": "sgd", "momentum": 0.5, "lr": {"units": 0.3, "head": 0.2}}
    tables = small(optimizer=sgd).fit(X, Y).optimizer_.param_groups
    assert [(table["lr"], table["momentum"]) for table in tables] == [(0.3, 0.5), (0.2, 0.5)]
    tables = small(optimizer="sgd", learning_rate=np.float64(0.25)).fit(X, Y).optimizer_.param_groups
    assert [table["lr"] for table in tables] == [0.25, 0.25]


def test_what_was_not_fitted_says_so():
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(small(), method)(X)


def test_weights_that_run_away_are_told():
    with pytest.raises(NonFiniteLossError, match=r"is not finite; lower [a-z ']*$"):
        small(learning_rate=1e300).fit(X, Y)


def test_progress_is_silent_where_there_is_no_terminal(capfd):
    small(verbose=True).fit(X, Y)
    assert capfd.readouterr() == ("", "")

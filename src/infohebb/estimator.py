"""Local rules in scikit-learn's terms: fit, predict, pipelines, grid searches."""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.optim import Optimizer

from infohebb.data import Split, batches, count_batches
from infohebb.errors import (
    InfohebbError,
    LabelError,
    MismatchError,
    WrongTypeError,
    is_number,
    is_whole,
)
from infohebb.learner import Learner
from infohebb.networks import Settling
from infohebb.networks.plain import MLP
from infohebb.networks.plain.randomness import restored_random_state
from infohebb.rules import KernelizedBottleneck, LastLayer, SettlingRule
from infohebb.rules.contract import LearningRule, LocalRule
from infohebb.training import predict
from infohebb.training.batches import Home, LoaderBatches
from infohebb.training.callbacks import Progress
from infohebb.training.callbacks.base import State
from infohebb.training.devices import keep_freed_memory
from infohebb.training.evaluation import home_of
from infohebb.training.fitting import Fitting, Settings
from infohebb.training.plain import named_optimizer
from infohebb.training.renamed import RATES, rename_roles
from infohebb.training.sampling import SamplingConfig
from infohebb.training.seeding import seeded

MOST_GROUPS = 32
BATCH = 64
HEAD_RATE, OTHER_RATE = 1e-2, 1e-3
OF_AN_MLP = "leaky_relu"  # its nonlinearity, if none is named
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {  # what each setting may be, and in words
    "rule": (
        lambda rule: rule is None or isinstance(rule, LearningRule),
        "an instance of a rule, such as KernelizedBottleneck() or one of your own (infohebb.LocalRule), or None",
    ),
    "hidden": (
        lambda hidden: widths_of(hidden) is not None,
        "a whole number or a row of them, such as (128, 128)",
    ),
    "groups": (
        lambda groups: groups is None or is_whole(groups),
        "a whole number, 0 for no divisive normalisation, or None for as many as fit",
    ),
    "epochs": (lambda epochs: is_whole(epochs) and epochs >= 1, "a whole number of at least 1"),
    "batch": (
        lambda batch: batch is None or (is_whole(batch) and batch >= 1),
        "a whole number of at least 1, or None",
    ),
    "optimizer": (
        lambda given: isinstance(given, (str, Mapping)),
        'a name such as "adam", or a dict such as {"name": "sgd", "momentum": 0.9}',
    ),
    "learning_rate": (
        lambda given: given is None or is_number(given) or isinstance(given, Mapping),
        'a number, a dict such as {"units": 0.001, "head": 0.01}, or None',
    ),
}


class LocalClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose fully connected network is trained by a local rule.

    `rule`: any rule that works with a `Learner`, of which a copy learns; None is `KernelizedBottleneck(kernel=
    "cosine")`. A SettlingRule makes its own network, which settles and has no divisive normalisation and no
    nonlinearity to choose: `groups` and `nonlinearity` stay as they are.
    `hidden`: widths of the hidden layers (a sequence or an array), or one width; with () there is the readout alone,
    which `LastLayer` then trains in place of a local rule. `groups` of their divisive normalisation: a number that
    divides each width, 0 for no normalisation; None is the largest number, up to 32, that leaves two neurons or more in
    each group, and no normalisation where there is none (nor of 2 groups for the cosine kernel, which learns nothing of
    them); a KernelizedBottleneck with groups of its own has those. `nonlinearity`: one of MLP's. `epochs`: passes over
    the data, in batches of `batch`; a rule that consumes samples takes them one by one in random order, one that
    consumes windows takes windows of `batch` samples, and needs that many in a call. None is 64, of windows at most
    half of a call's samples. `optimizer`: one of torch's, by name, or a dict of name and options.
    `learning_rate`: a number, or a dict of one for each role of `Learner.param_groups`: `units`, `head`, `rule` (what
    the rule owns), or the roles of a SettlingRule. A role that is left out, or all of them for None if the optimizer's
    options have no `lr` either, has 1e-2 for `head` and 1e-3 for the others. The names of version 1, `local` and
    `readout`, are accepted with a FutureWarning. With `warm_start` another `fit` goes on where the last one ended.
    `random_state` is scikit-learn's; torch's own random numbers are left alone. `verbose` shows a progress bar on a
    terminal.

    Computes on the CPU (`infohebb.fit` takes a GPU), in float32 where X is float32, else in float64. Features are
    taken as they are; StandardScaler brings them to one scale. A single class gets a UserWarning, and is predicted; by
    a rule that consumes samples or windows it is refused. Estimators that are fitted in several threads (joblib's
    "threading") take turns, one epoch at a time, and get the same bits as alone; processes run side by side.

    Attributes: `classes_`, `n_features_in_`, `feature_names_in_`, `network_` (an `infohebb.networks.plain.MLP`, or the
    network that settles), `rule_` (the copy that learned), `optimizer_`, `n_iter_` (epochs so far), `loss_curve_` (the
    mean label loss while learning, one per epoch, NaN of a pass from which nothing could be learned yet).
    """

    def __init__(  # noqa: PLR0913  (scikit-learn wants each setting by its name, and taken as it is: `fit` looks at it)
        self,
        rule=None,
        hidden=(128, 128),
        *,
        groups=None,
        nonlinearity=OF_AN_MLP,
        epochs=50,
        batch=None,
        optimizer="adam",
        learning_rate=None,
        warm_start=False,
        random_state=None,
        verbose=False,
    ):
        self.rule = rule
        self.hidden = hidden
        self.groups = groups
        self.nonlinearity = nonlinearity
        self.epochs = epochs
        self.batch = batch
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "LocalClassifier":
        """Train a new network on X (n, features), dense or sparse, and labels y (n) of any kind.

        Raises ValueError for data that scikit-learn refuses, UsageError (one too) for settings that cannot be, and
        NonFiniteLossError.
        """
        first = not (self.warm_start and hasattr(self, "network_"))
        X, y = self._check(X, y, reset=first)
        return self._learn(X, y, np.unique(y) if first else None, self.epochs, shuffle=True)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "LocalClassifier":
        """One pass over X (n, features) and y (n), going on with weights, rule and optimizer as they are.

        The first call needs `classes`, all labels that will ever come. n calls with the same data are what `fit` with
        n epochs does, for a rule that consumes batches; one sample will do, but if it compares samples it then teaches
        the head only. For a rule that consumes samples or windows the calls are one stream, taken in its order (a
        window does not reach back into an earlier call, so that each call brings one at least).
        Raises LabelError for labels that are not among the classes, and the errors of `fit`.
        """
        first = not hasattr(self, "network_")
        X, y = self._check(X, y, reset=first)
        given = all_classes(classes) if first or classes is not None else None
        if first:
            return self._learn(X, y, given, 1, shuffle=False)
        if given is not None and not np.array_equal(self.classes_, given):
            raise LabelError(f"classes {classes} are not those of the first call, {self.classes_}; leave them out")
        return self._learn(X, y, None, 1, shuffle=False)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class (m,) of each sample of X (m, features)."""
        winners = self._outputs(X).argmax(1)  # first, for it tells whether there are classes
        return self.classes_[winners.numpy()]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (m, classes), in the order of `classes_`: the softmax of the network's outputs.

        A network that settles learns by squared error to say 1 for the right class and 0 for others, so that its
        outputs are themselves estimates of probabilities: these are then the ones nearest to them (least squares).
        """
        outputs = self._outputs(X)
        return (nearest_probabilities(outputs) if self._settles() else outputs.softmax(1)).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of `predict_proba` (m, classes), all finite."""
        outputs = self._outputs(X)
        return (nearest_probabilities(outputs).log() if self._settles() else outputs.log_softmax(1)).numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, np.ndarray]:
        for name, (fits, wanted) in CHECKS.items():
            value = getattr(self, name)
            if not fits(value):
                raise WrongTypeError(f"{name} = {' '.join(repr(value).split())}: give {wanted}")
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=(np.float64, np.float32), reset=reset)
        distinct(y, "y")  # first, for scikit-learn takes them to be of one type
        check_classification_targets(y)
        return X, y

    def _start(self, X: Any, classes: np.ndarray) -> None:
        """A new network for X (n, features), rule and optimizer; one draw from `random_state` decides all chance."""
        if len(classes) == 1:
            warnings.warn("all labels are the same class, so nothing can be learned", UserWarning, stacklevel=4)
        dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        with seeded(int(check_random_state(self.random_state).randint(2**31 - 1))):
            rule = self._own_rule()
            network = self._network(X.shape[1], len(classes), rule).to(dtype)
            learner = Learner(network, rule).to(dtype)
            random_numbers = torch.get_rng_state()
        self.optimizer_ = self._make_optimizer(learner)
        self.network_, self.rule_, self.classes_ = network, rule, classes
        self.loss_curve_, self.n_iter_, self._learner, self._random_numbers = [], 0, learner, random_numbers

    def _own_rule(self) -> LearningRule:
        """Return a copy of the rule, or LastLayer in its place where there is only a head, and it does the same."""
        rule = KernelizedBottleneck(kernel="cosine") if self.rule is None else copy.deepcopy(self.rule)
        return LastLayer() if not widths_of(self.hidden) and trains_head_as_last_layer(rule) else rule

    def _network(self, features: int, classes: int, rule: LearningRule) -> MLP | Settling:
        widths = widths_of(self.hidden) or []
        if isinstance(rule, SettlingRule):
            self._check_settling(rule)
            return rule.make_network(features, classes, widths)
        groups = largest_groups(widths) if self.groups is None else int(self.groups)
        norm = {"groups": groups} if groups else None
        if self.groups is None:
            norm = rule.fitting_norm(norm)
        return MLP(features, classes, widths, nonlinearity=self.nonlinearity, divisive_norm=norm, bias=True)

    def _check_settling(self, rule: SettlingRule) -> None:
        """Raise MismatchError for settings of an MLP."""
        makes = f"{type(rule).__name__} makes its own network, which settles"
        if self.groups:
            raise MismatchError(f"groups = {self.groups}: {makes} and has no divisive normalisation; leave groups out")
        if self.nonlinearity != OF_AN_MLP:
            raise MismatchError(f"nonlinearity = {self.nonlinearity!r}: {makes}; leave nonlinearity out")

    def _make_optimizer(self, learner: Learner) -> Optimizer:
        """Return the optimizer over all that learns.  Raises the errors of `named_optimizer`."""
        given = {"name": self.optimizer} if isinstance(self.optimizer, str) else self.optimizer
        options: dict[str, Any] = {**given}
        names = {name: f"optimizer.{name}" for name in RATES}
        if self.learning_rate is not None:
            if "lr" in options:
                raise MismatchError("learning_rate and the optimizer's lr are both given; leave one out")
            options["lr"], names["lr"] = self.learning_rate, "learning_rate"
        for name, place in names.items():
            if isinstance(options.get(name), Mapping):
                options[name] = rename_roles(learner.rule, place, options[name], tell=True)
        roles = [group["role"] for group in learner.param_groups()]
        rates = {role: HEAD_RATE if role == "head" else OTHER_RATE for role in roles}
        asked = options.get("lr", {})
        options["lr"] = {**rates, **asked} if isinstance(asked, Mapping) else asked
        with in_own_words({"optimizer.lr": names["lr"]}):
            return named_optimizer(learner, **options)

    def _learn(
        self, X: Any, y: np.ndarray, classes: np.ndarray | None, epochs: int, *, shuffle: bool
    ) -> "LocalClassifier":
        """Go on with X (n, features) and y (n), or begin anew if `classes` (k,) are given.

        Batches are always shuffled, samples and windows if `shuffle`.
        """
        keep_freed_memory()
        labels = numbered(y, self.classes_ if classes is None else classes)
        rule = self.rule_ if classes is None else self.rule
        consumes = "batch" if rule is None else rule.consumes
        if consumes != "batch":
            check_stream(labels if shuffle else classes)
        rows = Rows(X, torch.from_numpy(labels), samples_in_sight(self.batch, consumes, len(y)), consumes, shuffle)
        if classes is not None:
            self._start(X, classes)
        sampling = SamplingConfig(consumes=self.rule_.consumes)
        data = LoaderBatches(rows, Home(*home_of(self.network_)), sampling=sampling)
        callbacks = [Progress()] if self.verbose else []
        state = State(self._learner, self.optimizer_, None, int(epochs), data, callbacks)
        settings = Settings(may_wait=not shuffle or len(self.classes_) == 1)
        Fitting(state, settings, None).to_the_end(partial(self._around_epoch, state))
        return self

    @contextlib.contextmanager
    def _around_epoch(self, state: State) -> Iterator[None]:
        """Have an epoch draw this estimator's random numbers, and add it to the curve."""
        with self._own_random_numbers(), in_own_words(words_of(state.learner.rule.consumes)):
            yield
        self.loss_curve_.append(state.statistics.loss.value())
        self.n_iter_ += 1

    def _settles(self) -> bool:
        return isinstance(self.network_, Settling)

    def _outputs(self, X: Any) -> Float[Tensor, "m classes"]:
        check_is_fitted(self, "network_")
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        return torch.cat([predict(self.network_, dense(X[part])) for part in gen_batches(X.shape[0], 1024)]).cpu()

    @contextlib.contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Go on with torch's random numbers where this estimator left them, and give the caller's back.

        Estimators in several threads take turns at this.
        """
        with restored_random_state([]):
            torch.set_rng_state(self._random_numbers)
            yield
            self._random_numbers = torch.get_rng_state()


@dataclass(frozen=True)
class Rows:
    """Rows of X (n, features), an array or a sparse matrix, with their labels, as a rule consumes them.

    Batches of `size` in random order; windows of `size` (samples are windows of one) that slide by one, in random order
    if `shuffle`.
    """

    X: Any
    labels: Int64[Tensor, "n"]
    size: int
    consumes: str = "batch"
    shuffle: bool = True

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in self._parts():
            yield torch.from_numpy(dense(self.X[index.numpy()])), self.labels[index]

    def _parts(self) -> Iterator[Tensor]:
        numbers = torch.arange(len(self.labels))
        if self.consumes == "batch":
            yield from (index for index, _ in batches(Split(numbers, self.labels), self.size, shuffle=True))
        else:
            order = torch.randperm(len(numbers)) if self.shuffle else numbers
            yield from order.unfold(0, self.size, 1)

    def __len__(self) -> int:
        if self.consumes == "batch":
            return count_batches(len(self.labels), self.size)
        return len(self.labels) - self.size + 1


def samples_in_sight(batch: int | None, consumes: str, samples: int) -> int:
    """How many samples a rule is given at a time.  Raises MismatchError for a window longer than there are samples."""
    if consumes != "window":
        return int(batch or BATCH) if consumes == "batch" else 1
    window = min(BATCH, max(2, (samples + 1) // 2)) if batch is None else int(batch)
    if window > samples:
        there = "1 sample" if samples == 1 else f"{samples} samples"
        raise MismatchError(
            f"batch = {batch}: a window of {window} samples does not fit into {there}; bring {window} or more in one "
            f"call{', or lower batch' if samples > 1 else ''}"
        )
    return window


def check_stream(labels: np.ndarray | None) -> None:
    """Raise LabelError for a stream whose labels are of one class, if they are known."""
    if labels is not None and len(np.unique(labels)) == 1:
        raise LabelError("all labels are of one class, so there is nothing to tell apart; give two classes or more")


def trains_head_as_last_layer(rule: LearningRule) -> bool:
    """Whether it is a local rule whose head learns from the batch by the delta rule, as that of LastLayer does."""
    if not isinstance(rule, LocalRule) or rule.consumes != "batch":
        return False
    return (type(rule).readout, type(rule).backward) == (LocalRule.readout, LocalRule.backward)


def words_of(consumes: str) -> dict[str, str]:
    """Return what messages of `fit` and of rules speak of, and what it is here, by what the rule consumes."""
    return {
        "training.batch": "batch",
        "optimizer.lr": "learning_rate",
        ", or give fit clip_norm=1.0": "",
        ", or a larger epoch_samples": ", or a smaller batch" if consumes == "window" else "",
        "does the model use it? Freeze it with requires_grad_(False) if it is not meant to learn": (
            "give a larger batch, or more samples" if consumes == "batch" else "give more samples"
        ),
    }


@contextlib.contextmanager
def in_own_words(words: Mapping[str, str]) -> Iterator[None]:
    """Raise what is raised inside with this estimator's settings in place of those of `fit`."""
    try:
        yield
    except InfohebbError as error:
        message = str(error)
        for of_fit, own in words.items():
            message = message.replace(of_fit, own)
        raise type(error)(message) from error


def nearest_probabilities(outputs: Float[Tensor, "m classes"]) -> Float[Tensor, "m classes"]:
    """Numbers above 0 that add up to 1, by which as little as possible (squared) of the outputs changes.

    One number is taken off all outputs of a sample, and what would fall below 0 stays at the smallest number above it.
    """
    outputs = outputs - outputs.amax(1, keepdim=True)
    largest = outputs.sort(1, descending=True).values
    places = torch.arange(1, outputs.shape[1] + 1, dtype=outputs.dtype)
    excess = (largest.cumsum(1) - 1) / places  # what is taken off, were only the largest so many left above 0
    off = excess.amax(1, keepdim=True)
    return (outputs - off).clamp(min=torch.finfo(outputs.dtype).tiny)


def dense(rows: Any) -> np.ndarray:
    """Rows (m, features) as an array, if they are sparse."""
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def largest_groups(widths: Sequence[int]) -> int | None:
    """The most groups, 2 to MOST_GROUPS, that cut each width into equal groups of two or more; None if none do."""
    common, narrowest = math.gcd(*widths), min(widths, default=0)
    fitting = [c for c in range(2, min(MOST_GROUPS, narrowest // 2) + 1) if common % c == 0]
    return max(fitting, default=None)


def widths_of(hidden: Any) -> list[int] | None:
    """The widths that one whole number, or a row or array of them, gives; None if it is something else."""
    plain = hidden.tolist() if hasattr(hidden, "tolist") else hidden
    row = [plain] if is_whole(plain) else plain
    if isinstance(row, str | bytes) or not isinstance(row, Sequence) or not all(map(is_whole, row)):
        return None
    return [int(width) for width in row]


def all_classes(classes: Any) -> np.ndarray:
    """The classes (k,) that the first call of `partial_fit` is given, sorted.  Raises LabelError if it is not."""
    if classes is None:
        raise LabelError("classes must be passed on the first call to partial_fit: all labels that will ever come")
    row = row_of(classes)
    if row is None or len(row) == 0:
        raise LabelError("classes: give a row of labels, at least one, such as [0, 1, 2]")
    found = distinct(row, "classes")
    if not np.all(np.isfinite(found) if found.dtype.kind in "fc" else found == found):  # None but NaN is unlike itself
        raise LabelError("classes: leave out NaN and infinity, which name no class")
    return found


def row_of(values: Any) -> np.ndarray | None:
    """A row as an array; None if it is something else."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of unequal lengths
        return None
    return array if array.ndim == 1 else None


def distinct(labels: np.ndarray, name: str) -> np.ndarray:
    """The labels that differ, sorted.  Raises LabelError where there is no order among them."""
    try:
        return np.unique(labels)
    except TypeError as error:
        kinds = " and ".join(sorted({type(label).__name__ for label in labels}))
        raise LabelError(f"{name}: labels of types {kinds}; give all as strings or all as numbers") from error


def numbered(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The number of each label's class.  Raises LabelError for a label that is none of the classes."""
    try:
        return LabelEncoder().fit(classes).transform(labels)
    except (TypeError, ValueError) as error:
        raise LabelError(str(error)) from error

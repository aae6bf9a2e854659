"""fit: a learner trained on arrays or a loader, with any torch optimizer, scheduler and callbacks."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from infohebb.errors import MismatchError
from infohebb.learner import Learner
from infohebb.training.batches import ArrayBatches, Batches, Home, Unpack, as_batches, is_loader
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.callbacks.progress import Progress
from infohebb.training.evaluation import home_of
from infohebb.training.fit_checks import (
    MissingGradients,
    as_callbacks,
    check_arguments,
    check_finite,
    check_loader_size,
    check_scheduler,
    check_several_classes,
    choose_optimizer,
    naming_epoch,
    naming_model,
    put_in_train_mode,
    refuse_iterator,
    step_scheduler,
)
from infohebb.training.optimizers import changes_seldom
from infohebb.training.sampling import BATCH, SamplingConfig, batch_size
from infohebb.training.seeding import seeded
from infohebb.training.statistics import History, Number, Statistics, extend_history, rates_of, validate

Around = Callable[[], contextlib.AbstractContextManager[Any]]
LONELY = "more than 1 value per channel"  # of torch's message for a batch norm that is given one sample


def fit(  # noqa: PLR0913  (the public face: each setting by its name)
    learner: Learner,
    train: Any,
    validation: Any = None,
    *,
    epochs: int,
    optimizer: Optimizer | None = None,
    scheduler: Any = None,
    scheduler_per: Literal["epoch", "step"] = "epoch",
    callbacks: Sequence[Any] | Callback = (),
    batch: int | None = None,
    order: Literal["random", "balanced", "blocked", "drifting"] = "random",
    order_seed: int | None = None,
    epoch_samples: int | None = None,
    steps_per_sample: int = 1,
    unpack: Unpack | None = None,
    clip_norm: float | None = None,
    check_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train a learner's model in place, and return its history: a dictionary of curves, one entry per epoch.

    Called again it goes on from where the model is: in a new order, drawn from torch's global generator, and at the
    rates that the optimizer has.

    Args:
        learner: the model and the rule.
        train: (x, y), arrays or tensors, x (n, ...) and y (n) labels or (n, d) numbers; a DataSet, of which the
            training samples are taken; or a loader: a DataLoader or any other iterable of batches that can be read
            again, with or without a length. Numbers are moved to the model's device and type; integers (token ids)
            stay integers, except uint8 images.
        validation: the same, scored after each epoch in eval mode (of a DataSet the test samples). Default: nothing.
        epochs: number of passes over the training data, or of epochs of `epoch_samples`; with a Checkpoint, those
            already done included.
        optimizer: a torch optimizer over `learner.param_groups(...)`. Default: AdamW with rate 1e-3 for units, 1e-2 for
            the head, 1e-3 for what the rule owns and for roles of a rule's own, such as CorInfoMax's `feedback`; no
            weight decay. It is made anew in each call.
        scheduler: a torch scheduler over that optimizer. ReduceLROnPlateau gets the validation loss, or else the
            training loss.
        scheduler_per: whether the scheduler steps per "epoch" (default) or per "step".
        callbacks: instances from infohebb.callbacks, or functions of a State called at the end of each epoch.
        batch: number of samples per step and per batch of validation, for arrays and DataSets. Default: 256. A rule
            that consumes samples takes 1, the default then. For one that consumes windows it is the length of a window,
            and has no default; windows slide by one sample and never reach from one pass into the next. Streams are
            scored in batches of 256.
        order: of samples in arrays and DataSets: "random", or by class "balanced" (in turn), "blocked" (one class after
            the other) or "drifting" (they come and go).
        order_seed: a number from which the order of each pass is drawn anew, the same ones in each call. Default: for
            batches in random order none, they are shuffled by torch's global generator; else one that is drawn from it
            as the fit begins, and kept by Checkpoint.
        epoch_samples: number of samples, or of windows, of an epoch; epochs go on over the ends of passes. Default: as
            many as there are in one pass.
        steps_per_sample: number of steps for which a sample or a window is presented to a rule that consumes those.
            Default: 1.
        unpack: function of a loader's batch that returns (inputs, targets); inputs are a tensor, a tuple of arguments
            or a mapping of keyword arguments of the model. Default: a batch is such a pair already.
        clip_norm: largest norm of all gradients together; larger ones are scaled down. Default: no limit.
        check_every: number of steps after which loss, objectives and weights must be finite. Default: at the end of
            each epoch.
        progress: whether to show a progress bar, on a terminal only.

    Returns:
        Curves `epoch`, `samples` (since the start), `train_loss` (the label loss), `train_accuracy` (percent, while
        learning), `validation_loss`, `validation_accuracy` or `validation_error` (mean squared error), `seconds`,
        `learning_rate` by parameter group as an epoch begins, `objective` by unit and term, and what callbacks add.
        Rules that consume samples or windows: `samples` counts each once, and means are over steps. Stacked networks:
        a list of numbers, one per network, where they differ.

    Raises:
        UsageError: for what cannot be right; MismatchError, after an epoch, for a parameter that the rule trains and
            that got no gradient.
        NonFiniteLossError: for a loss, objective or weight that is not finite; no checkpoint of that epoch is written.
        DivergenceError: with epoch and layer, for a network that settles no longer, or to the same for each sample.
    """
    check_arguments(locals())
    optimizer = choose_optimizer(learner, optimizer, scheduler)
    check_scheduler(scheduler, scheduler_per, optimizer)
    home = Home(*home_of(learner.model), learner.classes)
    sampling = SamplingConfig.of_rule(learner.rule, order, order_seed, epoch_samples, steps_per_sample)
    size = batch_size(learner.rule, batch, sampling.steps_per_sample, loader=is_loader(train))
    check_loader_size(train, validation, batch)
    batches = as_batches(train, size, home, unpack=unpack, sampling=sampling)
    check_several_classes(batches)
    held_out = None
    if validation is not None:
        size = BATCH if sampling.is_stream else size
        held_out = as_batches(validation, size, home, shuffle=False, unpack=unpack, name="validation")
    called = as_callbacks(callbacks)
    if progress and not any(isinstance(callback, Progress) for callback in called):
        called.append(Progress())
    settings = Settings(scheduler_per == "step", clip_norm, check_every)
    state = State(learner, optimizer, scheduler, int(epochs), batches, called)
    refuse_iterator(train, int(epochs), "train")
    refuse_iterator(validation, int(epochs), "validation")
    return Fitting(state, settings, held_out).to_the_end()


@dataclass(frozen=True)
class Settings:
    """How steps and scores are made; `scored` begins the names of the curves of held-out data.

    `may_wait`: whether an epoch may be so short that nothing, or only a part of what the rule trains, learns from it.
    """

    scheduler_per_step: bool = False
    clip_norm: float | None = None
    check_every: int | None = None
    scored: str = "validation"
    may_wait: bool = False


class Fitting:
    """One fit: its state, its settings and what it is scored on."""

    def __init__(self, state: State, settings: Settings, held_out: Batches | None):
        self.state, self.settings, self.held_out = state, settings, held_out
        state.validation = held_out
        if state.train.needs_seed():
            given = state.train.sampling.order_seed
            state.order_seed = int(torch.randint(2**63 - 1, ())) if given is None else given
        self.inward = sorted(state.callbacks, key=lambda callback: not callback.outermost)
        self.outward = sorted(state.callbacks, key=lambda callback: callback.outermost)
        groups = state.optimizer.param_groups
        stepped = [parameter for group in groups for parameter in group["params"]]
        self.stepped = stepped
        self.parameters = list({id(p): p for p in [*state.learner.parameters(), *stepped]}.values())
        self.missing = MissingGradients(state.learner)
        alike = settings.clip_norm is None and not settings.scheduler_per_step and changes_seldom(state.scheduler)
        self.joined = state.learner.make_step(state.optimizer) if state.learner.is_compiled and alike else None

    def to_the_end(self, around_epoch: Around = contextlib.nullcontext) -> History:
        """Run all epochs that are still to be done, each in a context of `around_epoch`, and return the history."""
        state = self.state
        put_in_train_mode(state.learner)
        self._check_held_out()
        state.learner.bind(state.optimizer)
        with contextlib.ExitStack() as stack:
            stack.enter_context(naming_epoch(state))
            try:
                for callback in self.inward:
                    callback.on_fit_start(state)
                    stack.callback(callback.on_fit_end, state)
                while state.epoch < state.epochs and not state.stop:
                    with around_epoch():
                        self._epoch()
            except BaseException:
                state.failed = True
                raise
        return state.history

    def _check_held_out(self) -> None:
        """Score one batch, so that arrays which do not fit are refused before the first epoch and not after it."""
        if isinstance(self.held_out, ArrayBatches):
            learner = self.state.learner
            with naming_model(self.settings.scored, learner.model), seeded(0, home_of(learner.model)[0]):
                validate(learner, [next(iter(self.held_out))])

    def _score(self) -> dict[str, Number]:
        if self.held_out is None:
            return {}
        with naming_model(self.settings.scored, self.state.learner.model):
            return validate(self.state.learner, self.held_out)

    def _epoch(self) -> None:
        state, began = self.state, time.perf_counter()
        state.epoch, state.statistics = state.epoch + 1, Statistics(state.train.sampling.is_stream)
        rates = rates_of(state.optimizer)
        if self.joined is None or self.joined.join is None:  # else only the first, plain steps of a fit leave gradients
            self.missing.begin_epoch()
        self._begin_pass()
        for inputs, targets, onset in state.train.training(state.epoch, state.order_seed):
            self._step(inputs, targets, onset=onset)
        self._check_learned()
        self._check_finite()
        named = {f"{self.settings.scored}_{name}": value for name, value in self._score().items()}
        seconds = time.perf_counter() - began
        extend_history(state.history, state.epoch, state.statistics, rates, named, seconds)
        if state.scheduler is not None and not self.settings.scheduler_per_step:
            self._schedule()
        for callback in self.outward:
            callback.on_epoch_end(state)
        if not self.settings.may_wait:
            self.missing.check()

    def _begin_pass(self) -> None:
        """Tell a sampler that draws by epoch (DistributedSampler) which one it is."""
        set_epoch = getattr(getattr(self.state.train.source, "sampler", None), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.state.epoch - 1)

    def _step(self, inputs: Any, targets: torch.Tensor, *, onset: bool) -> None:
        state = self.state
        for parameter in self.parameters:
            parameter.grad = None
        torch.clear_autocast_cache()  # an autocast around fit would keep casts of weights from before the last step
        try:
            step = (self.joined or state.learner.backward)(inputs, targets, onset=onset)
        except ValueError as error:
            if LONELY not in str(error):
                raise
            fix = "give another batch size, or a DataLoader with drop_last=True"
            fix = "call eval() on it" if state.train.sampling.is_stream else fix
            raise MismatchError(
                f"a batch of {len(targets)} sample, too few for batch norm in train mode; {fix}"
            ) from error
        if self.joined is None:
            if self.settings.clip_norm is not None:
                clip_grad_norm_(self.stepped, self.settings.clip_norm)
            state.optimizer.step()
        state.step, state.last = state.step + 1, step
        state.statistics.add(step, onset=onset)
        in_one_graph = self.joined is not None and self.joined.in_one_graph
        if not (step.waiting or self.settings.may_wait or in_one_graph):
            self.missing.see()
        if state.scheduler is not None and self.settings.scheduler_per_step:
            step_scheduler(state.scheduler)
        if self.settings.check_every and state.step % self.settings.check_every == 0:
            self._check_finite()
        for callback in self.outward:
            callback.on_step_end(state)

    def _check_learned(self) -> None:
        if self.state.statistics.learned == 0 and not self.settings.may_wait:
            raise MismatchError(
                f"{type(self.state.learner.rule).__name__} still waited for samples after an epoch of "
                f"{self.state.statistics.steps} steps; give more samples, or a larger epoch_samples"
            )

    def _check_finite(self) -> None:
        state = self.state
        when = f"epoch {state.epoch}, step {state.step}"
        check_finite(state.statistics, state.learner, when)

    def _schedule(self) -> None:
        if not isinstance(self.state.scheduler, ReduceLROnPlateau):
            step_scheduler(self.state.scheduler)
            return
        history = self.state.history
        name = f"{self.settings.scored}_loss"
        losses = history.get(name) or history.get("train_loss")
        if not losses:
            raise MismatchError("ReduceLROnPlateau needs a loss, and there is none; give validation data, or a head")
        if isinstance(losses[-1], list):
            raise MismatchError(
                f"ReduceLROnPlateau needs one loss, and the {len(losses[-1])} stacked networks have one each; give "
                "another scheduler"
            )
        self.state.scheduler.step(losses[-1])

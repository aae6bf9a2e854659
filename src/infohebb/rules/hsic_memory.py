"""The HSIC bottleneck whose batch is a working memory: the current sample learns from what is remembered."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, is_whole, unknown_name
from infohebb.functional import working_memory
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.normalisation import Normalised
from infohebb.functional.readout import one_hot
from infohebb.networks import Block, Layered, LeakyMLP, Response
from infohebb.networks.comparing import Channels, comparing_wiring
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.plain.leaky import LeakyIntegrator
from infohebb.networks.plain.stacked import StackedLinear
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.third_factor import Objective, ReservoirModulator
from infohebb.networks.unit import Unit
from infohebb.rules.base import Diagnostics, Inputs, Signals, Targets, attached_before, check_kernels
from infohebb.rules.contract import LocalError, Locality, LocalRule, Output, Signal, Step, Walk, label_loss
from infohebb.rules.layered import LayeredRule, LocalStep, check_fit, with_slope
from infohebb.rules.memories import Auxiliary, Remembered

Modulator = Literal["exact", "row", "pub", "head"]
Policy = Literal["recompute", "stale"]
Source = Literal["computed", "reservoir"]
BATCH_NORM = nn.modules.batchnorm._BatchNorm
WANTED_HEAD = "memory 'stale' teaches the head from features as they were: the head must be a single nn.Linear"
STREAMED = ("potential", "start", "inputs", "targets", "activity", "features", "logits")  # buffers of a stream


class Window(NamedTuple):
    """What all blocks are told of a window: its length, whether it has just come, whether there is something to learn,
    w_q of each remembered sample with the Q that they are of, or, for auxiliary networks, x and one-hot y of the
    current sample, and the memory or the auxiliary network of each block."""

    capacity: int
    onset: bool
    learns: bool = False
    weights: Tensor | None = None
    coupling: Tensor | None = None
    current: tuple[Tensor, Tensor] | None = None
    memories: list[Any] = []  # noqa: RUF012  (replaced for each walk, which takes one for each block)


class HSICMemory(LocalRule, LayeredRule):
    """Each hidden layer minimises HSIC(X, Z) - gamma HSIC(Y, Z) over a window of samples of which the last is current.

    Only the current sample's traces learn; the others are a working memory, from which the third factor comes.
    `modulator`: "exact" (the gradient), "row", "pub" (of the published curves) or "head" (of the published code).
    `memory`: "recompute" runs the window's samples through the weights of now; "stale" keeps the rule's own memory of
    what was current before, inputs, targets and activities as they were, and learns when that is full. `sigma_x`,
    `sigma_y`, `sigma_z`: widths of the Gaussian kernels of input, target and activity, each times the root of its
    dimension. The readout learns by its delta rule from all samples of the window, and `Diagnostics` tells of them all.
    `objective` also measures each layer's objective, which learning does not need.

    `source`: the third factor is "computed" from the window, or is what an auxiliary network of each layer says, a
    "reservoir" of `auxiliary_units` read units that hears x, y and z of the current sample only, for 20 of its own time
    steps; what came before is in its potential, so that hidden layers need no memory of activities. `attach` wires it
    for windows of `window` samples (no other length is taken), and fits its readout to what `modulator` says of
    `pretraining` random samples of the layer's shape, of nothing else; there it stays. Learning begins when it has
    heard a window of samples. For fully connected networks without leak, one at a time, and class labels.
    Raises UnknownNameError, MismatchError, also for a window of one sample, and for batch norm and dropout.
    """

    consumes: ClassVar[Literal["batch", "sample", "window", "time_step"]] = "window"
    compares_inputs = True
    updated_buffers: ClassVar[frozenset[str]] = frozenset(STREAMED)
    stacks: ClassVar[bool] = True
    learns_from_last: ClassVar[bool] = True
    side_by_side = True
    order_matters = True
    broadcasts = frozenset({"third_factor", "layer_factors"})
    advances: ClassVar[tuple[str, ...]] = STREAMED

    def __init__(  # noqa: PLR0913, PLR0917  (each setting by its name)
        self,
        modulator: Modulator = "exact",
        memory: Policy = "recompute",
        gamma: float = 2.0,
        sigma_x: float = 0.5,
        sigma_y: float = 0.1,
        sigma_z: float = 1.0,
        objective: bool = False,
        source: Source = "computed",
        window: int = 8,
        auxiliary_units: int = 160,
        pretraining: int = 3000,
    ):
        super().__init__()
        self.modulator, self.memory, self.gamma = modulator, memory, gamma
        self.sigma_x, self.sigma_y, self.sigma_z = sigma_x, sigma_y, sigma_z
        self.objective = objective
        self.source, self.window = source, window
        self.auxiliary_units, self.pretraining = auxiliary_units, pretraining
        self.layers = nn.ModuleList()
        self.remembered = Remembered()
        self._held: Window | None = None
        self._first: int | None = None  # numbers that the network's first Linear receives
        self._pretrained: tuple[Any, ...] | None = None  # settings of the auxiliary networks that are there

    @property
    def locality(self) -> Locality:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Which signals neurons share: a number per remembered sample or, from a reservoir, one for each of them."""
        return Locality(shared=frozenset({"samples" if self.source == "computed" else "neurons"}))

    def attach(self, network: Layered) -> None:
        """Check names, numbers and blocks; what was remembered is forgotten, also by auxiliary networks.

        Those are made and pre-trained for a network that is new to the rule, and for settings that are.
        """
        super().attach(network)
        self._check_settings()
        self._check_network(network)
        self.remembered = Remembered()
        self._held = None
        if self.source == "computed":
            self.layers, self._pretrained = nn.ModuleList(Remembered() for _ in network.blocks), None
            return
        self._check_auxiliary(network)
        widths = [len(block.weight) for _, block in network.named_blocks()]
        received = next(block.weight.shape[1] for _, block in network.named_blocks())
        known, like = attached_before(self, network), network.readout.weight
        self._allocate_auxiliaries(received, widths, network.outputs, like=like, known=known)

    def _check_settings(self) -> None:
        """Raise UnknownNameError, MismatchError for names and numbers that cannot be."""
        words = {
            "modulator": working_memory.MODULATORS,
            "memory": ("recompute", "stale"),
            "source": ("computed", "reservoir"),
        }
        for name, known in words.items():
            if str(getattr(self, name)) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        check_kernels(self.gamma, sigma_x=self.sigma_x, sigma_y=self.sigma_y, sigma_z=self.sigma_z)
        if not isinstance(self.objective, bool):
            raise MismatchError(f"objective {self.objective!r}: give true or false")

    def _allocate_auxiliaries(
        self, features: int, widths: Sequence[int], classes: int, *, like: Tensor, known: bool
    ) -> None:
        """Make and pre-train a network for each unit, where those that are there are not for this one already."""
        settings = (self.window, self.auxiliary_units, self.pretraining, self.modulator, self.gamma)
        settings += (self.sigma_x, self.sigma_y, self.sigma_z, features, tuple(widths), classes)
        if not known or settings != self._pretrained or len(self.layers) != len(widths):
            made = [] if like.is_meta else self._auxiliaries(features, widths, classes)  # meta tensors have no numbers
            self.layers, self._pretrained = nn.ModuleList(made), settings
        for auxiliary in self.layers:
            assert isinstance(auxiliary, Auxiliary)
            auxiliary.to(like.device).rest()

    def setup_model(self, model: nn.Module, /) -> None:
        """Check settings and the network, none of whose modules may depend on the other samples of a window."""
        self._check_settings()
        for name, module in model.named_modules():
            if isinstance(module, BATCH_NORM) or drops(module):
                raise MismatchError(
                    f"{name} is a {type(module).__name__}, which a current sample cannot have: HSICMemory wants "
                    "networks without batch norm and dropout"
                )
        slots = [len(module.potential) for module in model.modules() if isinstance(module, LeakyIntegrator)]
        if self.memory == "stale" and slots and max(slots) > 1:
            raise MismatchError(
                f"memory 'stale' runs the current sample alone; give the network slots = 1, not {max(slots)}"
            )
        self._first = next((m.in_features for m in model.modules() if isinstance(m, nn.Linear)), None)
        if self.source == "reservoir":
            stacked = any(isinstance(module, StackedLinear) for module in model.modules())
            if slots or stacked:
                what = "stacked networks" if stacked else f"a {type(model).__name__}, which has leak"
                raise MismatchError(f"source 'reservoir' does not train {what}; take an MLP, one at a time")
            self._check_reservoir()

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Allocate memories, or make and pre-train auxiliary networks; what was remembered is forgotten."""
        if classes is None:
            raise MismatchError("HSICMemory needs the number of outputs: give Learner(..., classes=10)")
        self.remembered, self._held = Remembered(), None
        if self.source == "computed":
            self.layers, self._pretrained = nn.ModuleList(Remembered() for _ in units), None
            return
        for unit in units:
            if unit.shape is None:
                raise MismatchError(
                    f"source 'reservoir' needs the shape of unit {unit.name}'s activity; give Learner(..., example=x)"
                )
            if len(unit.shape) != 1:
                raise MismatchError(
                    f"source 'reservoir' takes units of rows of numbers, and unit {unit.name} has activities of "
                    f"{unit.shape}"
                )
        if self._first is None:
            raise MismatchError("source 'reservoir' takes networks whose first layer is an nn.Linear")
        widths = [unit.shape[0] for unit in units if unit.shape is not None]
        self._allocate_auxiliaries(self._first, widths, classes, like=head[0], known=True)

    def reset(self) -> None:
        """Forget what is remembered, and the auxiliary networks."""
        self.layers, self.remembered, self._held, self._pretrained = nn.ModuleList(), Remembered(), None, None

    def _check_network(self, network: Layered) -> None:
        """Raise MismatchError for blocks that no single current sample can train, and slots that nothing would fill."""
        slots = network.readout.get_buffer("potential").shape[-2] if isinstance(network, LeakyMLP) else 1
        if self.memory == "stale" and slots != 1:
            raise MismatchError(
                f"memory 'stale' runs the current sample alone; give the network slots = 1, not {slots}"
            )
        for name, block in network.named_blocks():
            if block.batch_norm is not None or block.dropout:
                raise MismatchError(f"{name} has batch norm or dropout, which a current sample cannot have; drop it")
            if block.pool is not None:
                raise MismatchError(f"{name} takes maxima; for this rule blocks average (pooling = 'average')")

    def _check_reservoir(self) -> None:
        """Raise MismatchError for settings of which no auxiliary network can be made."""
        for name, least in (("window", 2), ("auxiliary_units", 1), ("pretraining", 2 * self.window)):
            number = getattr(self, name)
            if not is_whole(number) or number < least:
                raise MismatchError(f"{name} {number!r} of source 'reservoir'; give a whole number of {least} or more")
        if self.objective:
            raise MismatchError(
                "objective is of a window's activities, and source 'reservoir' keeps none; leave it out"
            )

    def _check_auxiliary(self, network: Layered) -> None:
        """Raise MismatchError for what no auxiliary network could be wired or heard for."""
        self._check_reservoir()
        if network.networks is not None or isinstance(network, LeakyMLP):
            what = "a network with leak" if isinstance(network, LeakyMLP) else "networks side by side"
            raise MismatchError(f"source 'reservoir' does not train {what}; take an MLP, one at a time")
        for name, block in network.named_blocks():
            if block.geometry is not None:
                raise MismatchError(f"{name} is a convolution, of which a reservoir hears nothing; take an MLP")

    def _auxiliaries(self, features: int, widths: Sequence[int], classes: int) -> Iterator[Auxiliary]:
        """A network for each unit, on the CPU, pre-trained by random numbers of their own."""
        chance = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        objective = Objective(self.gamma, (self.sigma_x, self.sigma_y, self.sigma_z), self.modulator)
        for width in widths:
            channels = Channels(features, classes, width)
            wiring = comparing_wiring(channels, self.window, self.auxiliary_units, chance=chance)
            modulator = ReservoirModulator(Reservoir(wiring), channels, self.window, objective)
            modulator.pretrain(self.pretraining, chance=chance)
            yield Auxiliary(modulator)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._held = None

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Let each unit learn from the window's last sample, and the head from all of them."""
        capacity, onset, stale = len(targets), walk.onset, self.memory == "stale"
        check_window_length(capacity)
        if not onset and self._held is not None and self._held.capacity != capacity:
            raise MismatchError(
                f"a window of {capacity} samples is held with onset=False, and the last one had {self._held.capacity}: "
                "present the same window, or give onset=True"
            )
        if self.source == "reservoir":
            self._check_window(inputs, targets)
            self._check_features(inputs)
        kept = targets
        if stale or self.source == "reservoir":
            kept = self.remembered.push("targets", targets[-1:], capacity, onset=onset)
        if stale:
            walk.restrict(slice(-1, None))
            inputs = self.remembered.push("inputs", inputs[-1:], capacity, onset=onset)
        assert walk.classes is not None
        if onset or self._held is None:
            seen = self._told if self.source == "computed" else self._shown
            self._held = seen(walk.classes, inputs, kept, Window(capacity, onset))
        window = self._held._replace(onset=onset)
        output = walk.local(partial(self._learn, window), once=stale or self.source == "reservoir")
        if output.logits is None:
            return Step(None, None, targets, walk.terms, waiting=not window.learns)
        logits = output.logits.detach()
        if stale:
            return self._read_out_remembered(walk, output, kept, window)
        loss, error = label_loss(logits, targets)
        if window.learns:
            walk.send(output.logits, error, loss.sum())
        return Step(loss, logits, targets, walk.terms, waiting=not window.learns)

    def _learn(self, window: Window, unit: Unit, z: Tensor) -> LocalError | None:
        return self.error(z, Signal(), window, unit)

    def _read_out_remembered(self, walk: Walk, output: Output, targets: Tensor, window: Window) -> Step:
        """Let the head learn from all samples in the window, remembered ones as they were."""
        assert output.logits is not None
        assert output.features is not None
        name, linear, step_fraction = linear_head(walk)
        if not window.learns and step_fraction == 1 and not torch.compiler.is_compiling():  # a plain step comes first
            check_logits(linear, output.features, output.logits)
        keep = partial(self.remembered.push, capacity=window.capacity, onset=window.onset)
        logits, features = keep("logits", output.logits.detach()), keep("features", output.features)
        loss, error = label_loss(logits, targets)
        if window.learns:
            swapped = (features, error) if error.dim() == 2 else (features.transpose(0, 1), error.transpose(0, 1))
            walk.give(name, swapped[0], swapped[1] * step_fraction, value=loss.sum())
        return Step(loss, logits, targets, walk.terms, waiting=not window.learns)

    def error(self, z: Tensor, signal: Signal, context: Window, unit: Unit) -> LocalError | None:
        """Return the error at the current sample's activity, zero at the remembered ones'."""
        del signal
        memory, remembers = self.layers[unit.place], z
        if context.current is not None:
            assert isinstance(memory, Auxiliary)
            factor = memory.say(*context.current, z[-1:], onset=context.onset)
            if not context.learns:
                return None
            error = at_last(factor, z)
            return LocalError(error, torch.ones_like(z), error, shared="neurons")
        if self.memory == "stale":
            assert isinstance(memory, Remembered)
            remembers = memory.push("activity", z, context.capacity, onset=context.onset)
        if context.weights is None:
            return None
        rows = remembers.flatten(1) if unit.stacked is None else remembers.transpose(0, 1)
        away = working_memory.away_from_memory(rows)
        factors = working_memory.third_factor(away, context.weights, self.sigma_z)
        current = working_memory.heed(factors, away)
        error = at_last((current if unit.stacked is None else current.transpose(0, 1)).reshape(z[-1:].shape), z)
        terms = self._terms(rows, context.coupling) if self.objective else {}
        if unit.stacked is not None:
            return LocalError(None, error, error, terms, "samples")
        third_factor = at_last(factors[None], factors.new_empty(len(z), len(factors)))
        return LocalError(third_factor, away.view(-1, *z.shape[1:]), error, terms, "samples")

    @torch.no_grad()
    def learn(
        self, network: Layered, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """One window (N, ...), or one time step of one that is held: Hebbian traces of the last sample, and readout."""
        check_fit(network, inputs, targets)
        check_window_length(len(inputs))
        if self.source == "reservoir":
            self._check_heard(network, inputs, targets)
        window, x, kept = Window(len(inputs), onset), inputs, targets
        if self.memory == "stale" or self.source == "reservoir":
            kept = self.remembered.push("targets", targets[-1:], window.capacity, onset=onset)
        if self.memory == "stale":
            x, targets = inputs[-1:], kept
            inputs = self.remembered.push("inputs", x, window.capacity, onset=onset)
        if onset or self._held is None:
            told = self._told if self.source == "computed" else self._shown
            self._held = told(network.outputs, inputs, kept, window)
        window = self._held._replace(onset=onset, memories=[*self.layers])
        seen = self.walk(network, x, targets, window, record=record)
        if window.learns:
            return seen
        for parameter in network.parameters():
            parameter.grad = None
        return Diagnostics(seen.loss, seen.correct, waiting=True)

    def _check_window(self, inputs: Tensor, targets: Tensor) -> None:
        """Raise MismatchError for windows that the auxiliary networks are not made for."""
        if len(inputs) != self.window:
            raise MismatchError(
                f"a window of {len(inputs)} samples for auxiliary networks of window = {self.window}; "
                "give training.batch and rule.window the same number"
            )
        if targets.is_floating_point():
            raise MismatchError("targets are numbers, and source 'reservoir' hears class labels; take 'computed'")

    def _check_features(self, inputs: Tensor) -> None:
        """Raise MismatchError for samples of another size than the first layer, for which networks are made."""
        features = inputs[0].numel()
        if features != self._first:
            raise MismatchError(
                f"samples of {features} numbers, and the first Linear takes {self._first}: source 'reservoir' trains "
                "networks whose first layer takes the sample itself"
            )

    def _check_heard(self, network: Layered, inputs: Tensor, targets: Tensor) -> None:
        """Raise MismatchError for windows and networks that the auxiliary networks are not made for."""
        self._check_window(inputs, targets)
        if len(self.layers) != len(network.blocks):
            raise MismatchError("the rule has no auxiliary networks for this network; call rule.attach(network) first")

    def _shown(self, classes: int, inputs: Tensor, heard: Tensor, window: Window) -> Window:
        """The same with what auxiliary networks hear of the current sample, whose label is the last one heard."""
        y = one_hot(heard[-1:], classes, inputs.dtype)
        return window._replace(learns=len(heard) == window.capacity, current=(inputs[-1:].flatten(1), y))

    def _told(self, classes: int, inputs: Tensor, targets: Tensor, window: Window) -> Window:
        """The same with what inputs and targets say of the remembered samples, once there are as many as it holds."""
        if len(inputs) < window.capacity:
            return window
        last = self.modulator in working_memory.LAST_ROW and not self.objective
        Q = working_memory.window_coupling(
            inputs.flatten(1), targets, classes, self.gamma, self.sigma_x, self.sigma_y, last=last
        )
        return window._replace(learns=True, weights=working_memory.memory_weights(Q, self.modulator), coupling=Q)

    def local_step(self, block: Block, response: Response, context: Window) -> LocalStep:
        """The current sample's traces, and what its layer is told of each remembered one.  [WMH 4.2]"""
        z, current = response.activity, last_sample(response)
        if context.current is not None:
            said = context.memories.pop(0).say(*context.current, current.activity, onset=context.onset)
            signals = with_slope(block, current, {"third_factor": said}, activity_error) if context.learns else None
            return LocalStep(signals, terms={})
        if self.memory == "stale":
            memory = context.memories.pop(0)
            z = memory.push("activity", z, context.capacity, onset=context.onset, over=_samples(z))
        if context.weights is None:
            return LocalStep(None, terms={})
        flat = z.flatten(1) if z.dim() == 4 else z
        away = working_memory.away_from_memory(flat)
        signals = {
            "third_factor": working_memory.third_factor(away, context.weights, self.sigma_z),
            "memory": away if z.dim() < 4 else away.view(-1, *z.shape[1:]),
        }
        terms = self._terms(flat, context.coupling) if self.objective else {}
        return LocalStep(with_slope(block, current, signals, activity_error), terms)

    def _terms(self, z: Tensor, Q: Tensor | None) -> dict[str, Tensor]:
        assert Q is not None
        return {"objective": working_memory.window_hsic(Q, gaussian_gram(z, self.sigma_z, "per_sqrt_dim"))}

    def recalled(self, features: Tensor, logits: Tensor, context: Window) -> tuple[Tensor, Tensor]:
        """Those of all samples in the window, remembered ones as they were.  [WMH 4.4]"""
        if self.memory == "recompute":
            return features, logits
        keep = partial(self.remembered.push, capacity=context.capacity, onset=context.onset, over=-2)
        return keep("features", features), keep("logits", logits)

    def activity_error(self, signals: Signals) -> Tensor:
        """The error at the current activity, as below."""
        return activity_error(signals)


def drops(module: nn.Module) -> bool:
    """Whether a module drops units in train mode."""
    if isinstance(module, Dropout):
        return module.rate > 0
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


def check_window_length(samples: int) -> None:
    """Raise MismatchError for a window that remembers nothing."""
    if samples < 2:
        raise MismatchError("a window of one sample remembers none; give two or more (training.batch)")


def at_last(current: Tensor, like: Tensor) -> Tensor:
    """Return zeros of the shape of `like`, with the numbers of the current sample (1 × …) in the last row."""
    if len(like) == 1:
        return current
    return torch.cat([like.new_zeros(len(like) - 1, *like.shape[1:]), current.to(like.dtype)])


def linear_head(walk: Walk) -> tuple[str, nn.Module, float]:
    """Return the head's only Linear, its name, and the step fraction of a leaky integrator that follows it.

    Raises MismatchError for any other head.
    """
    inside = [
        (f"{top}.{name}" if name else top, module)
        for top in walk.head_modules
        for name, module in walk.model.get_submodule(top).named_modules()
        if not isinstance(module, nn.Sequential)
    ]
    kinds = [type(module) for _, module in inside]
    if kinds not in ([nn.Linear], [StackedLinear], [nn.Linear, LeakyIntegrator], [StackedLinear, LeakyIntegrator]):
        raise MismatchError(f"{WANTED_HEAD}, not {', '.join(kind.__name__ for kind in kinds)}")
    (name, linear), last = inside[0], inside[-1][1]
    return name, linear, last.step_fraction if isinstance(last, LeakyIntegrator) else 1.0


def check_logits(linear: nn.Module, features: Tensor, logits: Tensor) -> None:
    """Raise MismatchError for logits that are not what the head's Linear gives."""
    with torch.no_grad():
        given = linear(features)
    if given.shape != logits.shape or not torch.allclose(given, logits, rtol=0, atol=0.01 * float(given.abs().max())):
        raise MismatchError(f"{WANTED_HEAD}, whose output the network returns as it is")


def activity_error(signals: Signals) -> Tensor:
    """ξ: what each neuron makes of the third factors, one for each remembered sample, from how far it is from each.

    Where an auxiliary network says them there is one for each neuron, and nothing to be made of it.
    """
    if "memory" not in signals:
        return signals["third_factor"]
    away = signals["memory"]
    if away.dim() < 4:
        return working_memory.heed(signals["third_factor"], away)
    return working_memory.heed(signals["third_factor"], away.flatten(1)).view(1, *away.shape[1:])


def _samples(z: Tensor) -> int:
    """The dimension of samples: of maps the first, else the last but one."""
    return 0 if z.dim() == 4 else -2


def last_sample(response: Response) -> Response:
    """What a block did with the current sample."""
    layer, activity = response.layer, _last(response.activity)
    pre, hidden = _last(response.pre), activity if layer is None else _last(response.hidden)
    return Response(pre, hidden, activity, None, None if layer is None else Normalised(activity, _last(layer.scale)))


def _last(z: Tensor) -> Tensor:
    return z[-1:] if z.dim() == 4 else z[..., -1:, :]

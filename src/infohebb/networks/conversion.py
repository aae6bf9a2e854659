"""A user's own nn.Sequential as a network of blocks that share its weights."""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, is_whole
from infohebb.networks.drafts import Draft
from infohebb.networks.layered import Layered
from infohebb.networks.residual import Residual
from infohebb.networks.stages import ORDER, PARTS, STAGES, Place, Shape, flat

WEIGHTS = (nn.Linear, nn.Conv2d)
KNOWN = ", ".join(kind.__name__ for kind in (*WEIGHTS, Residual, *PARTS, nn.Flatten, nn.Identity))
LOGITS = "the readout gives logits, and the loss takes them; leave it out"
CHANNELS = "a block drops single units, not channels; take nn.Dropout or nn.AlphaDropout"
READOUT = "a network ends with its readout, an nn.Linear"
HINTS = {
    nn.Softmax: LOGITS,
    nn.LogSoftmax: LOGITS,
    nn.PReLU: "its slope would not learn; take nn.LeakyReLU",
    nn.Dropout2d: CHANNELS,
    nn.FeatureAlphaDropout: CHANNELS,
    nn.LazyLinear: "its shape is not known yet; pass a batch through the nn.Sequential first",
    nn.LazyConv2d: "its shape is not known yet; pass a batch through the nn.Sequential first",
}


def from_sequential(sequential: nn.Module, inputs: int | Sequence[int] | None = None) -> Layered:
    """A Layered network of the modules of an nn.Sequential, whose parameters and batch norms it shares.

    Each Linear, Conv2d or Residual begins a block, to which the modules after it belong, in the order that Block has;
    the last Linear is the readout. `network(x)` is `sequential(x)` in evaluation mode. `inputs` is the shape of a
    sample, such as (3, 32, 32): with it the sizes of maps are known, which AdaptiveAvgPool2d, GroupNorm of maps and
    DirectFeedbackAlignment need, and layers that do not fit are found at once.
    GroupNorm becomes a divisive norm; its weights, if it has any, stay one and zero and do not learn.
    Raises MismatchError or GroupingError, naming the first module that has no place in a block.
    """
    if not is_chain(sequential):
        raise MismatchError(f"from_sequential takes an nn.Sequential, not a {type(sequential).__name__}")
    plan = Plan(None if inputs is None else sample_shape(inputs))
    for place in places(sequential):
        plan.add(place)
    check_hooks(sequential)
    return plan.network()


def check_hooks(sequential: nn.Module) -> None:
    """Raise MismatchError for a forward hook: blocks compute what the modules do, and do not call them."""
    for name, module in sequential.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            place = Place(name or "the whole", module)
            raise place.wrong("its forward hook would not be called; remove it, or hook the blocks of the network")


def is_chain(module: nn.Module) -> bool:
    """Whether it is an nn.Sequential that calls its modules one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def places(module: nn.Module, name: str = "") -> Iterator[Place]:
    """All modules of a chain and of the chains in it, one after the other, but for those that do nothing."""
    if is_chain(module):
        for key, inner in module._modules.items():  # unlike named_children, these tell a module again at each place
            if inner is not None:
                yield from places(inner, f"{name}.{key}" if name else key)
    elif type(module) is not nn.Identity:
        yield Place(name, module)


def sample_shape(inputs: int | Sequence[int]) -> Shape:
    """The shape of a sample.  Raises MismatchError unless it is whole numbers above 0."""
    shape = tuple(inputs) if isinstance(inputs, Sequence) else (inputs,)
    if not shape or not all(is_whole(length) and length > 0 for length in shape):
        raise MismatchError(f"inputs {inputs!r}: give the shape of a sample, such as (3, 32, 32)")
    return tuple(map(int, shape))


class Plan:
    """The blocks so far, and who has which parameter; `received` is the shape of a sample, None where it is unknown."""

    def __init__(self, received: Shape | None):
        self.received = received
        self.drafts: list[Draft] = []
        self.owners: dict[Parameter, Place] = {}

    @property
    def shape(self) -> Shape | None:
        """Of a sample after the blocks so far."""
        return self.drafts[-1].shape if self.drafts else self.received

    def add(self, place: Place) -> None:
        """Put the module where it belongs.  Raises MismatchError, GroupingError."""
        kind = type(place.module)
        if kind in PARTS:
            if not self.drafts:
                words = STAGES[PARTS[kind][0]]
                raise place.wrong(f"{words} comes after a Linear or Conv2d; put one before it, or do it to the data")
            self.own(place)
            self.drafts[-1].add(place)
        elif kind in WEIGHTS:
            self.begin(place)
        elif kind is Residual:
            self.add_residual(place)
        elif kind is nn.Flatten:
            self.flatten(place)
        else:
            raise place.wrong(HINTS.get(kind, f"no block has such a stage; known: {KNOWN}"))

    def begin(self, place: Place) -> None:
        """Begin a block with its layer of weights."""
        check_fit(place, self.shape)
        self.own(place)
        self.drafts.append(Draft(place, self.shape))

    def add_residual(self, place: Place) -> None:
        """Add a block that adds what it received."""
        inside = list(places(place.module.inner, f"{place.name}.inner"))
        if not inside or type(inside[0].module) not in WEIGHTS:
            first = inside[0] if inside else place
            raise first.wrong("a Residual is one block, which begins with its Linear or Conv2d; put that first")
        self.begin(inside[0])
        check_shape_kept(inside[0], self.drafts[-1])
        for each in inside[1:]:
            check_inside(each)
            self.add(each)
        self.drafts[-1].put("residual", place, True)

    def flatten(self, place: Place) -> None:
        """Rows of numbers from here on."""
        if (place.module.start_dim, place.module.end_dim) != (1, -1):
            raise place.wrong("blocks are flattened sample by sample; take nn.Flatten()")
        if self.drafts:
            self.drafts[-1].flatten()
        else:
            self.received = (None,) if self.received is None else flat(self.received)

    def own(self, place: Place) -> None:
        """Note whose the parameters are.  Raises MismatchError for what is shared, or made of other parameters."""
        for name, parameter in place.module.named_parameters():
            if name not in ("weight", "bias"):
                raise place.wrong(f"its weight is computed from {name}, which would not learn; leave that out")
            if parameter in self.owners:
                raise place.wrong(f"it shares its {name} with {self.owners[parameter]}; give it one of its own")
            self.owners[parameter] = place

    def network(self) -> Layered:
        """Blocks and readout.  Raises MismatchError where the last layer is none."""
        if not self.drafts:
            raise MismatchError(f"no Linear and no Conv2d in the nn.Sequential: {READOUT}; add one")
        *drafts, last = self.drafts
        if not isinstance(last.place.module, nn.Linear):
            raise last.place.wrong(f"{READOUT}; add nn.Flatten() and nn.Linear(features, classes) to its end")
        for place in last.sources.values():
            raise place.wrong(f"{READOUT}; add one to its end, or leave this out")
        return Layered([draft.block(draft.place) for draft in drafts], last.place.module)


def check_fit(place: Place, shape: Shape | None) -> None:
    """Raise MismatchError unless a layer of weights takes samples of that shape."""
    if shape is None:
        return
    layer = place.module
    if isinstance(layer, nn.Conv2d):
        if len(shape) != 3:
            raise place.wrong(f"it takes maps (channels, rows, columns), but receives {shape}; move or reshape it")
        if shape[0] != layer.in_channels:
            raise place.wrong(f"it takes {layer.in_channels} channels, but receives {shape[0]}; change one of them")
        return
    if len(shape) != 1:
        raise place.wrong("it would act on the last dimension of a map; put nn.Flatten() before it")
    if shape[0] not in (None, layer.in_features):
        raise place.wrong(f"it takes {layer.in_features} numbers, but receives {shape[0]}; change one of them")


def check_shape_kept(place: Place, draft: Draft) -> None:
    """Raise MismatchError unless what a layer gives has the shape of what it receives."""
    geometry, (outputs, inputs) = draft.block(place).geometry, place.module.weight.shape[:2]
    if geometry is not None and any(s != 1 or k != 2 * p + 1 for k, s, p in zip(*geometry, strict=True)):
        raise place.wrong("a Residual adds maps of one size; take stride 1 and a padding of half the (odd) kernel")
    if outputs != inputs:
        raise place.wrong(f"a Residual adds what it received, {inputs}, to {outputs}; give as many outputs as inputs")


def check_inside(place: Place) -> None:
    """Raise MismatchError for what a Residual does not hold beside its layer of weights."""
    kind = type(place.module)
    if kind in WEIGHTS or kind is Residual:
        raise place.wrong(
            "a second layer of weights in a Residual, but a local objective belongs to one block; wrap each layer in a "
            "Residual of its own"
        )
    stage = PARTS[kind][0] if kind in PARTS else None
    if kind is nn.Flatten or (stage and ORDER.index(stage) > ORDER.index("residual")):
        raise place.wrong("it works on what the Residual has added; put it after the Residual")

"""Training steps as torch.compile makes them: fused, on the CPU with the optimizer's step, on a GPU replayed if asked.

A local rule has no backward pass to wait for, so that all of a step can be one graph: what a synapse learns is added to
its weight where it is computed, and no gradient is ever written.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infohebb.errors import MismatchError
from infohebb.learner.updates import UPDATES, has_state, states_of
from infohebb.rules.base import Diagnostics, LearningRule
from infohebb.training.epoch import Step, parameters_of, plain_step

SAME_DRAWS: dict[str, Any] = {"fallback_random": True}  # compiled code draws torch's own random numbers
IN_ONE_PASS: dict[str, Any] = {"realize_reads_threshold": 16}  # what a weight is changed by is not stored before
PER_LAYER = 8  # times that code is made anew for one module: sizes of batches, learning or not


def compile_step(rule: LearningRule, optimizer: Optimizer, *, whole: bool, cuda_graphs: bool = False) -> Step:
    """A training step whose `rule.learn` is compiled; if `whole`, with the optimizer's step where that can be.

    That is on the CPU, by torch's own SGD, Adam and AdamW, once they have state for each parameter. Hooks of an
    optimizer are not called by it, it leaves no gradient behind, and Adam's count of steps is float32 in any precision.
    """
    apart = plain_step(rule, optimizer, compile_learning(rule, cuda_graphs=cuda_graphs))
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters_of(optimizer))
    return WholeStep(rule, optimizer, apart) if whole and on_cpu and type(optimizer) in UPDATES else apart


def compile_learning(rule: LearningRule, *, cuda_graphs: bool = False) -> Callable[..., Diagnostics]:
    """`rule.learn`, compiled; with `cuda_graphs` its kernels are recorded once and replayed at each step."""
    options = {**SAME_DRAWS, "triton.cudagraphs": True} if cuda_graphs else SAME_DRAWS
    learn = torch.compile(rule.learn, dynamic=False, options=options)
    if not cuda_graphs:
        return learn

    def replay(*batch: Any, **asked: Any) -> Diagnostics:
        torch.compiler.cudagraph_mark_step_begin()
        return kept(learn(*batch, **asked))

    return replay


def kept(seen: Diagnostics) -> Diagnostics:
    """The same in memory of its own: the next replay writes over what a graph gave."""
    objectives = {
        block: {term: value.clone() for term, value in terms.items()} for block, terms in seen.objectives.items()
    }
    correct = seen.correct.clone() if isinstance(seen.correct, Tensor) else None
    return replace(seen, loss=seen.loss.clone(), correct=correct, objectives=objectives)


class WholeStep:
    """Learning and the optimizer's step in one graph.

    Until the optimizer has state for all that it steps, steps are the plain ones; where it still lacks some after
    something was learned, they are `apart` for good.
    """

    def __init__(self, rule: LearningRule, optimizer: Optimizer, apart: Step):
        self.rule, self.optimizer, self.apart = rule, optimizer, apart
        self.plain = plain_step(rule, optimizer)
        self.step: Step | None = None

    def __call__(self, network: nn.Module, inputs: Tensor, targets: Tensor, **presented: bool) -> Diagnostics:
        """Take one step."""
        if self.step is None and has_state(self.optimizer):
            self.step = self._compiled()
        if self.step is not None:
            return self.step(network, inputs, targets, **presented)
        seen = self.plain(network, inputs, targets, **presented)
        if not seen.waiting and not has_state(self.optimizer):
            self.step = self.apart
        return seen

    def _compiled(self) -> Step:
        rule, learning = self.rule, parameters_of(self.optimizer)
        update = UPDATES[type(self.optimizer)]
        tables = [(table, table["params"], states_of(self.optimizer, table)) for table in self.optimizer.param_groups]

        @torch.no_grad()
        def step(network: nn.Module, inputs: Tensor, targets: Tensor, **presented: bool) -> Diagnostics:
            for parameter in learning:
                parameter.grad = None
            seen = rule.learn(network, inputs, targets, **presented)
            rule.finish(learning)
            for table, parameters, states in tables:
                learned = [k for k, parameter in enumerate(parameters) if parameter.grad is not None]
                if learned:
                    update(table, [parameters[k] for k in learned], [states[k] for k in learned])
            for parameter in learning:
                parameter.grad = None
            return seen

        return torch.compile(step, dynamic=False, options={**SAME_DRAWS, **IN_ONE_PASS})


@contextlib.contextmanager
def every_shape_compiled(network: nn.Module) -> Iterator[None]:
    """Have torch.compile make code for each block, in each size of batch, where it would soon give up.

    What was compiled before is forgotten: torch counts the code of all trainings in a process together.
    Raises MismatchError where torch finds no C++ compiler.
    """
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=PER_LAYER * len(list(network.modules()))):
        try:
            yield
        except RuntimeError as error:
            if "InvalidCxxCompiler" in str(error):
                raise MismatchError(
                    "compiled = true, and torch finds no C++ compiler: install g++, name one by CXX, or leave it out"
                ) from error
            raise

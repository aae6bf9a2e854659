"""A rule's `learn` as torch.compile makes it: the same step, fused, and on a GPU replayed as one graph if asked."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from infohebb.rules.base import Diagnostics, LearningRule

SAME_DRAWS: dict[str, Any] = {"fallback_random": True}  # compiled code draws torch's own random numbers
PER_LAYER = 8  # times that code is made anew for one module: sizes of batches, learning or not


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


def every_shape_compiled(network: nn.Module) -> AbstractContextManager[None]:
    """Have torch.compile make code for each block, in each size of batch, where it would soon give up."""
    return torch._dynamo.config.patch(recompile_limit=PER_LAYER * len(list(network.modules())))

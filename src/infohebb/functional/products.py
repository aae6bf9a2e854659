"""Matrix products, in float32 or with bf16 operands: the two that a layer cannot avoid."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["fp32", "bf16"]


def product(
    a: Float[Tensor, "*nets m k"], b: Float[Tensor, "*others k n"], precision: Precision = "fp32"
) -> Float[Tensor, "*both m n"]:
    """a @ b in the dtype of a, of networks side by side too.

    "bf16" rounds float32 operands to bf16 and adds up in float32; where oneDNN does not do so by itself the sum is
    rounded to bf16 in the end.
    float64 is never rounded.
    """
    if precision == "fp32" or a.dtype != torch.float32:
        return a @ b if a.dim() >= b.dim() else side_by_side(a, b)
    if a.device.type == "cpu" and onednn_rounds():
        with rounded_operands():
            return a @ b
    coarse_a, coarse_b = rounded(precision, a, b)
    return (coarse_a @ coarse_b).to(a.dtype)


@torch.compiler.assume_constant_result
@functools.cache
def onednn_rounds() -> bool:
    """Whether oneDNN rounds operands to bf16 where it is asked to: CPUs with AMX do, others may ignore it."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    between = torch.full((256, 256), 1 + 2**-9)  # of two bf16 numbers, the nearer of which is 1
    with rounded_operands():
        return bool((between @ torch.eye(256))[0, 0] == 1)


def side_by_side(a: Float[Tensor, "m k"], b: Float[Tensor, "nets k n"]) -> Float[Tensor, "nets m n"]:
    """a @ b of an operand that all networks share: one product, far faster than one for each."""
    together = a @ b.transpose(0, 1).flatten(1)
    return together.unflatten(1, (len(b), -1)).transpose(0, 1)


def rounded(precision: Precision, *operands: Tensor) -> tuple[Tensor, ...]:
    """The operands, in bf16 if that is the precision; float64 is never rounded."""
    return tuple(a.bfloat16() if precision == "bf16" and a.dtype == torch.float32 else a for a in operands)


@contextlib.contextmanager
def rounded_operands() -> Iterator[None]:
    """Let oneDNN round the operands of CPU products to bf16 itself: no copies, and the sum stays in float32."""
    setting = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before

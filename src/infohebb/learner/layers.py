"""Which of torch's modules are weight layers, and how many channels they give."""

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
NORMS_OF_CHANNELS = NORMS[1:]


def is_weight_layer(module: nn.Module) -> bool:
    """Whether a module has weights of its own that are no scale and shift of a norm."""
    return any(p.dim() > 1 for p in module.parameters(recurse=False)) and not isinstance(module, NORMS)


def channel_axis(modules: list[nn.Module], z: Tensor) -> int:
    """Return the axis of an activity (m × ...) along which its channels, or features, lie.

    That of vectors is 1. Else it is the one of axes 1 and -1 that is as long as the last weight layer has channels;
    where both are, or neither, 1 for a convolution and -1 for all else.
    """
    if z.dim() < 3:
        return 1
    inside = [module for top in modules for module in top.modules()]
    weights = [module for module in inside if is_weight_layer(module)]
    last = (weights or [module for module in inside if isinstance(module, NORMS)] or [None])[-1]
    by_type = 1 if isinstance(last, (*CONVOLUTIONS, *NORMS_OF_CHANNELS)) else z.dim() - 1
    count = channels_of(last)
    fitting = [axis for axis in (1, z.dim() - 1) if z.shape[axis] == count]
    return fitting[0] if len(fitting) == 1 else by_type


def channels_of(module: nn.Module | None) -> int | None:
    """Return the number of channels that a weight layer or norm gives; None where it does not tell."""
    if isinstance(module, nn.RNNBase):
        return (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    if isinstance(module, nn.LayerNorm):
        return int(module.normalized_shape[-1])
    for name in ("out_features", "out_channels", "embedding_dim", "embed_dim", "num_features", "num_channels"):
        count = getattr(module, name, None)
        if isinstance(count, int):
            return count
    return None

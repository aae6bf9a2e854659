"""The random states that a fit draws from: torch's, NumPy's, Python's, and those of a DataLoader."""

import random
from typing import Any

import numpy as np
import torch

from infohebb.training.seeding import random_state, restore_random_state


def generators_of(source: Any) -> list[torch.Generator]:
    """Return the generators that a loader and its samplers have of their own, each once."""
    batch_sampler = getattr(source, "batch_sampler", None)
    places = [source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = [getattr(place, "generator", None) for place in places]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def all_random_states(generators: list[torch.Generator]) -> dict[str, Any]:
    """Return them as plain values and tensors."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (users' augmentations may draw from it)
    return {
        "torch": random_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(float, rest)],
        "python": random.getstate(),
        "generators": [each.get_state() for each in generators],
    }


def restore_all(states: dict[str, Any], generators: list[torch.Generator]) -> None:
    """Go on from states that `all_random_states` gave."""
    restore_random_state(states["torch"])
    name, keys, place, has_gauss, gauss = states["numpy"]
    state = (name, keys.numpy().astype(np.uint32), int(place), int(has_gauss), gauss)
    np.random.set_state(state)  # noqa: NPY002
    version, numbers, following = states["python"]
    random.setstate((version, tuple(numbers), following))
    for generator, kept in zip(generators, states["generators"], strict=True):
        generator.set_state(kept)

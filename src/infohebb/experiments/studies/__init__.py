"""Studies: measurements that train no network by the loop, each a function of a row's settings and a seed.

A study is given its settings by keyword, `seed`, and, where its signature asks for them, `validate` (leave the test set
alone), `device` and `data_dir`. It returns (final, curves, arrays): the numbers found, lists of numbers by name, and
pictures' raw material.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from infohebb.experiments.studies import agreement, closed_loop, reservoir

Findings = tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]

STUDIES: dict[str, Callable[..., Findings]] = {
    "agreement": agreement.agreement,
    "descent": closed_loop.descent,
    "predictability": reservoir.predictability,
    "tracking": reservoir.tracking,
}

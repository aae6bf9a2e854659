"""What all maps of colours share: the colours, their limits and the bar that tells what they mean."""

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

LEVELS = 48  # steps of the colour scale: no eye tells more, and the image packs to half
BAR = 0.09  # inches


def colours() -> Colormap:
    """From dark to light, with or without colour."""
    return mpl.colormaps["viridis"].resampled(LEVELS)


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """The range of the finite values, a half to either side where there is but one."""
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() == finite.max():
        middle = float(finite[0]) if finite.size else 0.0
        return middle - 0.5, middle + 0.5
    return float(finite.min()), float(finite.max())


def colour_bar(figure: Figure, corner: tuple[float, float], tall: float, limits: tuple[float, float], of: str) -> None:
    """A bar at `corner`, left and bottom in inches, of what is named `of`."""
    width, height = figure.get_size_inches()
    place = figure.add_axes((corner[0] / width, corner[1] / height, BAR / width, tall / height))
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), colours()), cax=place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.ax.set_title(of, fontsize=9, loc="left", pad=6)

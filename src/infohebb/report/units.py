"""How numbers are written: one function per kind of quantity."""

import re

NOTHING = "–"
LAYER = re.compile(r"^layers\.(\d+)(\.|\b)")
MIB = 2**20
GIB = 2**30


def is_percent(quantity: str) -> bool:
    """Whether a quantity of that name is written in percent: accuracies alone are."""
    return quantity.endswith("accuracy")


def words(key: str) -> str:
    """A name of a record as words: "r2_validation" as "R² validation"."""
    return re.sub(r"\br2\b", "R²", key.replace("_", " "))


def named(key: str) -> str:
    """That with its unit, where it is known to have one."""
    return f"{words(key)} (%)" if is_percent(key) else words(key)


def layer(name: str) -> str:
    """A layer as a reader counts: "layers.0" as "layer 1", "layers.0.conv1" as "layer 1, conv1", "stem" as it is."""
    return LAYER.sub(lambda found: f"layer {int(found[1]) + 1}{', ' if found[2] else ''}", name)


def score(value: float | None, quantity: str = "accuracy") -> str:
    """A mean: percent with two decimals, or another number with four significant digits."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if is_percent(quantity) else _plain(value, 4)


def deviation(value: float, quantity: str = "accuracy") -> str:
    """A standard deviation, as fine as the mean beside it."""
    return f"{value:.2f}" if is_percent(quantity) else _plain(value, 2)


def published(value: float | None, quantity: str = "accuracy", sd: float | None = None) -> str:
    """A paper's number: one decimal, or two where the paper gave them; with its s.d. as ours are written."""
    if value is not None and sd is not None:
        return f"{score(value, quantity)} ± {deviation(sd, quantity)}"
    if value is None or not is_percent(quantity):
        return NOTHING if value is None else f"{value:.4g}".replace("-", "−", value < 0)
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def degrees(value: float) -> str:
    """An angle, to a tenth."""
    return f"{value:.1f}"


def ratio(value: float) -> str:
    """A ratio, with three significant digits."""
    return f"{value:.3g}"


def signed(value: float | None, quantity: str = "accuracy") -> str:
    """A difference with its sign; a zero after rounding has none."""
    if value is None:
        return NOTHING
    digits = deviation(abs(value), quantity)
    if float(digits) == 0.0:
        return digits
    return f"{'+' if value > 0 else '−'}{digits}"


def duration(seconds: int | float) -> str:
    """Seconds as "4.2 s", "20 s", "3 m 20 s" or "1 h 05 m"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} m"


def memory(size: int | float) -> str:
    """Bytes as MiB, or GiB from one GiB on."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def whole_numbers(values: tuple[int, ...]) -> str:
    """Numbers as "0, 1, 2"; runs of three or more as "0–4"."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)


def _plain(value: float, digits: int) -> str:
    """With that many significant digits, or all those before the point."""
    text = f"{value:.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".removesuffix(".")
    return text.replace("-", "−", 1) if value < 0 else text

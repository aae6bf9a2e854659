"""Recipes: data, not code. One TOML file per published table, the paper's number in each row.

Each section of a row is the keyword arguments of one constructor, laid over the same section of `[base]`; a row that
names another network, rule or optimizer than the base starts from that one's own defaults. A row of a study has one
section, `study`: the arguments of a function of `infohebb.experiments.studies`.
"""

import fnmatch
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import pydantic

from infohebb.errors import RecipeError, UnknownKeyError, UnknownNameError, WrongTypeError, unknown_name

SECTIONS = ("data", "network", "rule", "optimizer", "training")
Config = dict[str, dict[str, Any]]


UNION = ("float", "int", "str", "bool")  # what pydantic says of the members of a union, which is no key


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Sections(_Strict):
    """Keyword arguments of data set, network, rule, optimizer and training loop, or of a study."""

    data: dict[str, Any] = {}
    network: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    training: dict[str, Any] = {}
    study: dict[str, Any] = {}


class Row(Sections):
    """One cell of a table: its name is dataset/method/mode."""

    name: str
    published: float | None = None
    published_sd: Annotated[float, pydantic.Field(ge=0)] | None = None


class Recipe(_Strict):
    """A table: what all rows share, and the rows."""

    title: str
    cost: str = ""
    paper: str | None = None
    seeds: list[int] = [0]
    base: Sections = Sections()
    row: list[Row]

    def config(self, row: Row) -> Config:
        """The row's sections laid over the base's; of a study, that one section."""
        study = _lay_over(self.base.study, row.study)
        if study:
            return {"study": study}
        return {section: _lay_over(getattr(self.base, section), getattr(row, section)) for section in SECTIONS}


def _lay_over(base: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    another = "name" in row and row["name"] != base.get("name", row["name"])
    own_arrays = "path" in row and "path" not in base
    return dict(row) if another or own_arrays else {**base, **row}


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    root = resources.files("infohebb") / "recipes"
    return sorted(_walk(root, ""))


def _walk(folder: Any, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield prefix + entry.name.removesuffix(".toml")


def load_recipe(name: str) -> tuple[str, Recipe]:
    """The recipe of that name, or of that `.toml` file, with the name its records go by.

    Raises UnknownNameError, RecipeError, UnknownKeyError, WrongTypeError.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"no recipe file {name}; see `infohebb list` for those that come with the package")
        return path.stem, parse_recipe(path.read_bytes(), name)
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names())
    text = (resources.files("infohebb") / "recipes" / f"{name}.toml").read_bytes()
    return name, parse_recipe(text, name)


def parse_recipe(text: bytes, place: str) -> Recipe:
    """A recipe from TOML.  Raises RecipeError, UnknownKeyError, WrongTypeError, each naming key and place."""
    try:
        recipe = Recipe.model_validate(tomllib.loads(text.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{place}: not TOML: {error}") from error
    except pydantic.ValidationError as error:
        raise recipe_error(error, place) from error
    for key, listed in (("row", recipe.row), ("seeds", recipe.seeds)):
        if not listed:
            raise RecipeError(f"{place}: {key} is empty: nothing would run")
    names = [row.name for row in recipe.row]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"{place}: two rows are named {twice[0]!r}")
    for row in recipe.row:
        _check_row(row, recipe.base, place)
    for name in names:
        if not all(part.strip(".") and part == part.strip() for part in name.split("/")):
            raise RecipeError(f"{place}: row name {name!r} is no dataset/method/mode")
    return recipe


def _check_row(row: Row, base: Sections, place: str) -> None:
    others = [section for section in SECTIONS if getattr(row, section)]
    if others and (row.study or base.study):
        raise RecipeError(f"{place}: row {row.name!r}: a study trains no network; leave out {', '.join(others)}")
    if row.published_sd is not None and row.published is None:
        raise RecipeError(f"{place}: row {row.name!r}: published_sd is of no published number; give both")


def recipe_error(error: pydantic.ValidationError, place: str) -> RecipeError:
    """The first thing that pydantic found wrong, as one line."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if "[" not in str(part) and part not in UNION)
    if first["type"] == "extra_forbidden":
        return UnknownKeyError(f"{place}: unknown key {key}")
    if first["type"] == "missing":
        return RecipeError(f"{place}: {key} is missing")
    return WrongTypeError(f"{place}: {key} = {first['input']!r}: {first['msg'].lower()}")


def select_rows(rows: Sequence[Row], pattern: str | None) -> list[Row]:
    """Rows whose leading name segments match the pattern's, each a glob.  Raises UnknownNameError for none."""
    if pattern is None:
        return list(rows)
    globs = pattern.strip("/").split("/")
    found = [row for row in rows if _matches(row.name.split("/"), globs)]
    if not found:
        raise UnknownNameError(f"no row matches {pattern!r}; rows: {', '.join(row.name for row in rows)}")
    return found


def _matches(segments: list[str], globs: list[str]) -> bool:
    return len(globs) <= len(segments) and all(map(fnmatch.fnmatchcase, segments, globs))


def override(config: Config, settings: Iterable[str]) -> Config:
    """`config` with settings such as "training.epochs=5" put in; values are TOML, or else plain words.

    Naming another network, rule or optimizer starts from that one's own defaults, as in a row of a recipe.
    Raises UnknownKeyError, WrongTypeError.
    """
    changed = {section: dict(table) for section, table in config.items()}
    chosen: dict[tuple[str, ...], Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        keys = tuple(path.strip().split("."))
        if not equals or len(keys) < 2 or "" in keys:
            raise WrongTypeError(f"--set {setting}: write section.key=value, such as training.epochs=5")
        if keys[0] not in changed:
            raise UnknownKeyError(f"--set {setting}: no section {keys[0]!r}; sections: {', '.join(changed)}")
        if keys in chosen:
            raise WrongTypeError(f"--set {setting}: {path.strip()} is {chosen[keys]!r} already; give it once")
        chosen[keys] = _value(text.strip())
    for (section, key, *_), name in chosen.items():
        if key in ("name", "path"):
            changed[section] = _lay_over(changed[section], {key: name})
    for keys, value in chosen.items():
        _put(changed, keys, value)
    return changed


def _put(table: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = table.get(key)
        table[key] = dict(inner) if isinstance(inner, dict) else {}
        table = table[key]
    table[keys[-1]] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

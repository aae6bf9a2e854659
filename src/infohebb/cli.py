"""Floor 6: the command line. Each command imports what it needs when it runs, so that --help answers at once."""

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from infohebb.errors import InfohebbError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train deep networks without backpropagation, by local rules from information theory, and measure them.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: where they are, and how to get them.")
app.add_typer(data_app, name="data")

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of data sets, laid out as torchvision does; else INFOHEBB_DATA, else cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.callback(invoke_without_command=True)
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options before the command."""
    del debug  # read in main, where errors are caught
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"infohebb {installed('infohebb')}")
        raise typer.Exit


@app.command("list")
def list_() -> None:
    """Rules, networks, data sets, studies and recipes."""
    from infohebb import data, rules
    from infohebb.experiments.build import NETWORKS
    from infohebb.experiments.recipe import load_recipe, recipe_names
    from infohebb.experiments.studies import STUDIES

    _print_names("rules", {name: _first_line(rule) for name, rule in rules.registry().items()})
    _print_names("networks", {name: _first_line(network) for name, network in NETWORKS.items()})
    _print_names("data sets", dict.fromkeys(data.names(), ""))
    _print_names("studies", {name: _first_line(study) for name, study in STUDIES.items()})
    _print_names("recipes", {name: load_recipe(name)[1].title for name in recipe_names()})


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _print_names(title: str, names: dict[str, str]) -> None:
    typer.echo(title)
    column = max(map(len, names), default=0)
    for name, words in names.items():
        typer.echo(f"  {name:<{column}}  {words}".rstrip())


@app.command()
def run(  # noqa: PLR0913, PLR0917  (each option of the command by its name)
    recipe: Annotated[str, typer.Argument(help="A recipe's name, see `infohebb list`, or a .toml file of yours.")],
    only: Annotated[str | None, typer.Option(help="Rows to run: globs of name segments, 'mnist/*/grouping'.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds to run, such as 0,1,2; else the recipe's.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, in any number.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set training.epochs=N.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16 products: --set training.precision=…")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Your own arrays in an .npz file: x, y and, if you have them, x_test, y_test.")
    ] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    validate: Annotated[
        bool, typer.Option("--validate", help="Score a tenth of the training set; test unread.")
    ] = False,
    diagnose: Annotated[
        str | None,
        typer.Option(
            metavar="every=N",
            help="Angle and norm ratio of each layer's gradient to backprop's, before learning and after every N-th "
            "epoch; changes no result, and the report shows it.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of records and checkpoints.")] = Path("results"),
) -> None:
    """Train every row and seed of a recipe that has no record yet, and print the table.

    A run that was stopped goes on from its last epoch when the same command is given again.
    """
    from infohebb.experiments.recipe import load_recipe
    from infohebb.experiments.run import Options, run_recipe
    from infohebb.report import terminal

    extra = [f"training.epochs={epochs}"] if epochs is not None else []
    extra += [f"training.precision={precision}"] if precision is not None else []
    chosen = Options(
        out=out,
        only=only,
        seeds=None if seeds is None else _numbers(seeds),
        settings=[*(settings or []), *extra],
        data_dir=data_dir,
        arrays=data,
        device=device,
        validate=validate,
        diagnose=None if diagnose is None else _every(diagnose),
        origin=recipe if recipe.endswith(".toml") else None,
        tell=typer.echo,
    )
    name, table = load_recipe(recipe)
    try:
        records, left_out = run_recipe(name, table, chosen)
        _console().print(terminal(records))
    except KeyboardInterrupt:
        typer.echo("infohebb: stopped; the same command goes on from the last whole epoch", err=True)
        raise typer.Exit(130) from None
    for reason, titles in left_out.items():
        typer.echo(f"infohebb: left out {_some(titles)}: {reason}", err=True)
    if left_out:
        raise typer.Exit(1)


def _some(titles: list[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{len(titles)} runs from {titles[0]} to {titles[-1]}"


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds {text}: give whole numbers with commas, such as 0,1,2") from error


def _every(text: str) -> int:
    found = re.fullmatch("every=([0-9]{1,9})", text)
    if not found or int(found[1]) == 0:
        raise UsageError(f"--diagnose {text}: give every=N, N a whole number of epochs, at least 1, such as every=5")
    return int(found[1])


def _console() -> Any:
    from rich.console import Console

    return Console()


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A folder seedN.checkpoint that `infohebb run` wrote.")],
    data: Annotated[Path | None, typer.Option(help="Your own arrays x, y in an .npz file; else the recipe's.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Score a checkpoint on the test samples of its recipe, or on your own arrays."""
    from infohebb.experiments.use import evaluate_checkpoint

    for name, value in evaluate_checkpoint(checkpoint, data, data_dir).items():
        typer.echo(f"{name} {value:.4f}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A folder seedN.checkpoint that `infohebb run` wrote.")],
    arrays: Annotated[Path, typer.Argument(help="A .npy file, or an .npz file with x.")],
    out: Annotated[
        Path, typer.Option(help="The .npz file to write: output, and label where classes were learned.")
    ] = Path("predictions.npz"),
) -> None:
    """Predict with a checkpoint: images (uint8) are normalised as in its recipe, numbers are taken as they are."""
    from infohebb.experiments.use import predict_file

    typer.echo(f"{predict_file(checkpoint, arrays, out)} predictions in {out}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="A folder of records.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="An .html page, or a .md table.")] = Path("report.html"),
) -> None:
    """One self-contained page, or Markdown, from records: measured beside published, curves, angles, Gram matrices."""
    from infohebb.report import write_html, write_markdown

    if out.suffix not in (".html", ".md"):
        raise UsageError(f"--out {out}: a report is an .html or an .md file")
    typer.echo((write_markdown if out.suffix == ".md" else write_html)(results, out))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist, kmnist, cifar10 or cifar100.")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set with checksum, or say exactly what to put where."""
    from infohebb.data import fetch

    files = fetch(name, data_dir)
    for path in files:
        typer.echo(path)
    if not files:
        typer.echo(f"{name} needs no files")


@app.command()
def check(rule: Annotated[str, typer.Argument(help="module:Class of a rule of yours.")]) -> None:
    """Hold a learning rule to the contract: gradients, locality, seeds, state, and that it learns."""
    from infohebb.testing import check_rule, import_rule

    checks = check_rule(import_rule(rule), strict=False)
    for line in checks:
        typer.echo(line)
    broken = sum(line.broken is not None for line in checks)
    typer.echo(f"{len(checks) - broken} hold, {broken} fail")
    if broken:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error on purpose is one line and its exit status, a warning one line, unless --debug."""
    words = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages for weights; torch looks once, when imported
    try:
        with warnings.catch_warnings():
            if "--debug" not in words:
                warnings.showwarning = _show_warning
            app(words, prog_name="infohebb")
    except InfohebbError as error:
        if "--debug" in words:
            raise
        _fail(str(error), error.exit_status)
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own for too large a tensor on the CPU
        if "--debug" in words or not (isinstance(error, MemoryError) or "memory" in str(error)):
            raise
        _fail("not enough memory; take a smaller network, batch or data set", 1)
    except OSError as error:  # a folder that is a file, or may not be written
        if "--debug" in words or error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)


def _show_warning(message: Warning | str, *place: Any, **options: Any) -> None:
    """Print a warning without the place in the code that it comes from."""
    del place, options
    typer.echo(f"infohebb: warning: {' '.join(str(message).split())}", err=True)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"infohebb: {' '.join(message.split())}", err=True)
    sys.exit(status)

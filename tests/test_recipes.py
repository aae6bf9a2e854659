"""Recipes: every one that comes with the package loads, builds and takes steps; table 1 is the paper's."""

import re
from pathlib import Path

import pytest
import torch

from infohebb import Learner, train
from infohebb.data import random_like
from infohebb.errors import MismatchError, RecipeError, UnknownKeyError, UnknownNameError, UsageError, WrongTypeError
from infohebb.experiments.build import build_network, build_rule, check_config, renamed
from infohebb.experiments.recipe import SECTIONS, load_recipe, override, parse_recipe, recipe_names
from infohebb.experiments.run import Options, jobs
from spec_pages import section, table

SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "kmnist": (1, 28, 28),
    **dict.fromkeys(("cifar10", "cifar100"), (3, 32, 32)),
    **dict.fromkeys(("xor", "xor_255", "linear", "linear_255"), (2,)),
}
WITH_OBJECTIVE = ("KernelizedBottleneck", "LayerwiseClassification", "HSICBottleneck")
WINDOW = 4  # samples in a batch or window here
ROWS = [(name, row) for name in recipe_names() for row in load_recipe(name)[1].row]
NAMES = [f"{name}:{row.name}" for name, row in ROWS]


def test_the_recipes_of_the_package_are_found_by_name():
    assert {"quickstart", "kib/smoke", "kib/mlp", "kib/table1"} <= set(recipe_names())
    assert all(load_recipe(name)[0] == name for name in recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_and_what_it_costs(name):
    _, recipe = load_recipe(name)
    assert recipe.title
    assert recipe.cost
    assert recipe.seeds
    assert recipe.row
    text = (Path(__file__).parents[1] / "src" / "infohebb" / "recipes" / f"{name}.toml").read_text()
    assert f"infohebb run {name}" in text.partition("title")[0], "the header gives the command"
    if any(row.published is not None for row in recipe.row):
        assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", recipe.paper)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=NAMES)
def test_every_row_builds_and_learns(name, row):
    config = load_recipe(name)[1].config(row)
    check_config(config)
    assert renamed(config, tell=True) == config, "a warning would be an error"
    assert row.name.count("/") == 2
    if row.study:
        return  # whose words are checked; tests of its own call it
    dataset = config["data"]["name"]
    assert row.name.startswith(f"{dataset}/")
    settings = small(config)
    rule = build_rule(config)
    data = random_like(SHAPES[dataset], 10, 8)
    network = build_network(config, data.input_shape, data.outputs)
    last = network.readout if hasattr(network, "readout") else network.layers[-1]
    weights = [weight for weight in last.parameters() if weight.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    curves = train(network, rule, data, **settings, optimizer=config["optimizer"], device="cpu")
    assert not any(map(torch.equal, before, weights))
    assert {role.partition(".")[0] for role in curves["learning_rate"]} == roles_of(rule, network)
    objectives = len(network.layers) if config["rule"]["name"] in WITH_OBJECTIVE else 0
    assert len(curves["objective"]) == objectives


def roles_of(rule, network):
    """What rates are for."""
    if rule.own_network is not None:
        return set(rule.roles(network))
    has = {"units": rule.trains_units, "head": True, "rule": rule.owns_parameters}
    return {role for role in has if has[role]}


def small(config):
    """A row's training, in a size that tests can afford; its network and rule are made to fit."""
    network, training, rule = config["network"], config["training"], config["rule"]
    if network["name"] == "convnet":  # here an eighth as wide
        network["factor"] = network.get("factor", 1.0) / 8
    if network["name"] == "corinfomax":  # likewise
        network["widths"] = [width // 8 for width in network["widths"]]
    if network.get("slots", 1) > 1:
        network["slots"] = WINDOW
    if "window" in rule:
        rule |= {"window": WINDOW, "auxiliary_units": 10, "pretraining": 100}
    batch = 1 if rule["name"] == "KernelizedBottleneckOnline" else WINDOW
    kept = {key: value for key, value in training.items() if key not in ("stacked", "epoch_samples")}
    steps = min(2, training.get("steps_per_sample", 1))
    return {**kept, "epochs": 1, "batch": batch, "steps_per_sample": steps, "progress": False}


# --- Table 1 against the pages that transcribe the paper and its code ---

DATA = {"MNIST": "mnist", "fashion-MNIST": "fashion_mnist", "Kuzushiji-MNIST": "kmnist", "CIFAR-10": "cifar10"}
COLUMNS = {  # of kib_results.md
    "backprop": "backprop/plain",
    "backprop div": "backprop/divnorm",
    "last layer": "last_layer/plain",
    "last layer div": "last_layer/divnorm",
    "cossim": "cosine/plain",
    "cossim grp [R only]": "cosine/grouping",
    "cossim grp+div": "cosine/grouping+divnorm",
    "Gaussian": "gaussian/plain",
    "Gaussian grp [R only]": "gaussian/grouping",
    "Gaussian grp+div": "gaussian/grouping+divnorm",
}
METHODS = {  # of kib_hyperparameters.md: (method, mode)
    "pHSIC Gaussian": ("gaussian", {"none": "plain", "grp": "grouping", "div": "grouping+divnorm"}),
    "pHSIC cossim": ("cosine", {"none": "plain", "grp": "grouping", "div": "grouping+divnorm"}),
    "backprop": ("backprop", {"none": "plain", "div": "divnorm"}),
    "last layer (local lr = 0)": ("last_layer", {"none": "plain", "div": "divnorm"}),
}


@pytest.fixture(scope="module")
def rows():
    _, recipe = load_recipe("kib/table1")
    return {row.name: (row, recipe.config(row)) for row in recipe.row}


def test_table_1_has_four_data_sets_and_ten_columns(rows):
    assert set(rows) == {f"{data}/{column}" for data in DATA.values() for column in COLUMNS.values()}
    assert len(rows) == 40
    assert load_recipe("kib/table1")[1].seeds == [0, 1, 2, 3, 4]
    assert load_recipe("kib/table1")[1].paper == "arXiv:2006.07123"


def test_table_1_gives_the_papers_numbers(rows):
    header, *lines = table(section("kib_results.md", "## 1. 3 x 1024 MLP"))
    published = {
        f"{DATA[line[0]]}/{COLUMNS[column]}": float(cell)
        for line in lines
        for column, cell in zip(header[1:], line[1:], strict=True)
    }
    assert len(published) == 40
    assert {name: row.published for name, (row, _) in rows.items()} == published


def published_settings():
    """(readout rate, local rate or None, groups or None) by row."""
    header, *lines = table(section("kib_hyperparameters.md", "### Per dataset and method: readout lr / local lr / c"))
    found = {}
    for method, mode, *cells in lines:
        name, modes = METHODS[method]
        for dataset, cell in zip(header[2:], cells, strict=True):
            readout, local, groups = (None if word == "-" else float(word) for word in cell.split(" / "))
            found[f"{DATA[dataset]}/{name}/{modes[mode]}"] = (readout, local, groups)
    return found


def test_table_1_has_the_authors_rates_and_groups(rows):
    wanted = published_settings()
    assert len(wanted) == 40
    for name, (_, config) in rows.items():
        readout, local, groups = wanted[name]
        rates = {"units": local, "head": readout} if local else {"head": readout}  # 0: it leaves hidden weights
        assert config["optimizer"]["lr"] == (readout if "/backprop/" in name else rates), name
        grouping = config["network"].get("divisive_norm", config["rule"])
        assert grouping.get("groups") == groups, name


def test_table_1_has_the_authors_modes(rows):
    for name, (_, config) in rows.items():
        _, method, mode = name.split("/")
        rules = {"backprop": "Backprop", "last_layer": "LastLayer"}
        assert config["rule"]["name"] == rules.get(method, "KernelizedBottleneck"), name
        norm, rule = config["network"].get("divisive_norm"), config["rule"]
        if "divnorm" in mode:
            assert (norm["power"], norm["delta"]) == (0.2, 1.0), name
        else:
            assert norm is None, name
        if rule["name"] != "KernelizedBottleneck":
            assert set(rule) == {"name"}, name
            continue
        assert (rule["kernel"], rule["sigma"], rule["gamma"]) == (method, 5.0, 2.0), name
        assert (rule.get("power"), rule.get("delta")) == ((0.5, 1.0) if mode == "grouping" else (None, None)), name
        assert not {"objective", "target_kernel", "centre"} & set(rule), name
        learner = Learner(build_network(config, [4], 10), build_rule(config))
        settings = {learner.rule.grouping(unit) for unit in learner.units}
        power = {"plain": None, "grouping": 0.5, "grouping+divnorm": 0.8}[mode]
        assert {found and found.power for found in settings} == {power}, name


def test_table_1_has_the_authors_common_settings(rows):
    common = dict(table(section("kib_hyperparameters.md", "## 1. MLP (3 x 1024), all datasets - common"))[1:8])
    epochs, batch = map(int, re.findall(r"\d+", common["epochs, batch"])[:2])
    *milestones, factor = re.findall(r"[\d.]+", common["milestones (after epoch)"].replace("each", ""))
    momentum = float(re.search(r"momentum ([\d.]+)", common["optimiser (local and readout)"])[1])
    local, readout = (float(x) for x in re.findall(r"\de-\d", common["weight decay"]))
    dropout = float(re.search(r"\*\*([\d.]+)\*\*", common["dropout"])[1])
    slope = float(re.search(r"slope \*\*([\d.]+)\*\*", common["nonlinearity"])[1])
    training = {"epochs": epochs, "batch": batch, "milestones": [int(m) for m in milestones], "factor": float(factor)}
    assert training == {"epochs": 100, "batch": 256, "milestones": [50, 75, 90], "factor": 0.25}
    for name, (_, config) in rows.items():
        assert config["training"] == training, name
        network = {key: value for key, value in config["network"].items() if key != "divisive_norm"}
        wanted = {"name": "mlp", "widths": [1024] * 3, "nonlinearity": "leaky_relu", "slope": slope, "dropout": dropout}
        assert network == wanted, name
        by_role = {"units": local, "head": readout}
        decay = {"backprop": readout, "last_layer": {"head": readout}}.get(name.split("/")[1], by_role)
        assert config["optimizer"]["weight_decay"] == decay, name
        assert (config["optimizer"]["name"], config["optimizer"]["momentum"]) == ("sgd", momentum), name
        assert set(config["optimizer"]) == {"name", "momentum", "weight_decay", "lr"}, name


def test_the_smoke_recipe_has_the_columns_of_table_1(rows):
    smoke = {
        row.name.partition("/")[2]: load_recipe("kib/smoke")[1].config(row) for row in load_recipe("kib/smoke")[1].row
    }
    assert set(smoke) == set(COLUMNS.values())
    for column, config in smoke.items():
        _, real = rows[f"mnist/{column}"]
        drop = {"groups", "inputs"}
        assert {k: v for k, v in config["rule"].items() if k not in drop} == {
            k: v for k, v in real["rule"].items() if k not in drop
        }, column
        assert ("divisive_norm" in config["network"]) == ("divisive_norm" in real["network"]), column


# --- What is no recipe ---

GOOD = 'title = "t"\n[base]\nrule = { name = "Backprop" }\n[[row]]\nname = "a/b/c"\n'


def test_a_published_deviation_needs_its_number():
    given = parse_recipe((GOOD + "published = 97.62\npublished_sd = 0.12\n").encode(), "t").row[0]
    assert (given.published, given.published_sd) == (97.62, 0.12)
    assert parse_recipe(GOOD.encode(), "t").row[0].published_sd is None
    with pytest.raises(RecipeError, match=r"^t: row 'a/b/c': published_sd is of no published number; give both"):
        parse_recipe((GOOD + "published_sd = 0.12\n").encode(), "t")
    with pytest.raises(WrongTypeError, match=r"published_sd = -0\.1"):
        parse_recipe((GOOD + "published = 97.62\npublished_sd = -0.1\n").encode(), "t")


def test_a_row_is_laid_over_the_base():
    text = """
    title = "t"
    [base]
    rule = { name = "KernelizedBottleneck", kernel = "cosine", gamma = 1.0 }
    training = { epochs = 3, batch = 4 }
    [[row]]
    name = "a/b/c"
    rule = { gamma = 2.0 }
    training = { epochs = 5 }
    [[row]]
    name = "a/b/d"
    rule = { name = "KernelizedBottleneck", sigma = 3.0 }
    [[row]]
    name = "a/b/e"
    rule = { name = "Backprop" }
    """
    recipe = parse_recipe(text.encode(), "t")
    first, second, third = (recipe.config(row) for row in recipe.row)
    assert first["rule"] == {"name": "KernelizedBottleneck", "kernel": "cosine", "gamma": 2.0}
    assert first["training"] == {"epochs": 5, "batch": 4}
    assert second["rule"] == {"name": "KernelizedBottleneck", "kernel": "cosine", "gamma": 1.0, "sigma": 3.0}
    assert third["rule"] == {"name": "Backprop"}
    assert set(first) == set(SECTIONS)
    assert recipe.seeds == [0]


@pytest.mark.parametrize(
    ("error", "words", "text"),
    [
        (RecipeError, "my.toml: not TOML", "title = "),
        (RecipeError, "my.toml: not TOML", b"\xff\xfe"),
        (RecipeError, "my.toml: not TOML.*overwrite", 'title = "a"\ntitle = "b"'),
        (RecipeError, "my.toml: title is missing", "[[row]]\nname = 'a/b/c'"),
        (RecipeError, "my.toml: row is missing", 'title = "t"'),
        (RecipeError, "my.toml: row.0.name is missing", 'title = "t"\n[[row]]\npublished = 1.0'),
        (UnknownKeyError, "my.toml: unknown key titel", GOOD.replace("title", 'titel = "x"\ntitle')),
        (UnknownKeyError, "my.toml: unknown key base.rules", GOOD.replace("rule =", "rules =")),
        (UnknownKeyError, "my.toml: unknown key row.0.publishd", GOOD + "publishd = 3.0"),
        (WrongTypeError, "my.toml: title = 3", GOOD.replace('"t"', "3")),
        (WrongTypeError, "my.toml: seeds.1 = 'one'", "seeds = [0, 'one']\n" + GOOD),
        (WrongTypeError, "my.toml: seeds = 3", "seeds = 3\n" + GOOD),
        (WrongTypeError, "my.toml: row.0.published = 'high'", GOOD + "published = 'high'"),
        (WrongTypeError, "my.toml: base.rule = 'Backprop'", GOOD.replace('{ name = "Backprop" }', '"Backprop"')),
        (WrongTypeError, "my.toml: row = ", 'title = "t"\n[row]\nname = "a/b/c"'),
        (RecipeError, "my.toml: two rows are named 'a/b/c'", GOOD + '[[row]]\nname = "a/b/c"'),
        *(
            (
                RecipeError,
                re.escape(f"my.toml: row name {name!r} is no dataset/method/mode"),
                GOOD.replace("a/b/c", name),
            )
            for name in ("../../etc", "a/../c", "/a/b", "a//b", "a/b/", ".", "..", "a/./b", "a/b/ c", "", "a/.../b")
        ),
    ],
)
def test_what_is_no_recipe_is_named_in_one_line(error, words, text):
    with pytest.raises(error, match=words) as caught:
        parse_recipe(text if isinstance(text, bytes) else text.encode(), "my.toml")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_recipes_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="unknown recipe 'kib/tabel1'; did you mean 'kib/table1'"):
        load_recipe("kib/tabel1")
    for name in ("../kib/table1", "kib/../quickstart", "/etc/passwd", ""):
        with pytest.raises(UnknownNameError, match="unknown recipe"):
            load_recipe(name)
    with pytest.raises(RecipeError, match=r"no recipe file none\.toml"):
        load_recipe("none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe("folder.toml")
    (tmp_path / "mine.toml").write_text(GOOD)
    assert load_recipe(str(tmp_path / "mine.toml"))[0] == "mine"


def test_settings_are_toml_or_plain_words():
    config = {section: {} for section in SECTIONS} | {"optimizer": {"lr": {"units": 1.0, "head": 2.0}}}
    settings = ["training.epochs=5", " rule.kernel = gaussian", "network.widths=[1, 2]", "rule.centre=true",
                "optimizer.lr.units=1e-3", "data.path=a=b", 'rule.target_kernel="labels"']  # fmt: skip
    changed = override(config, settings)
    assert changed["training"] == {"epochs": 5}
    assert changed["rule"] == {"kernel": "gaussian", "centre": True, "target_kernel": "labels"}
    assert changed["network"] == {"widths": [1, 2]}
    assert changed["optimizer"] == {"lr": {"units": 1e-3, "head": 2.0}}
    assert changed["data"] == {"path": "a=b"}
    assert config["optimizer"] == {"lr": {"units": 1.0, "head": 2.0}}, "the recipe itself is not touched"


@pytest.mark.parametrize(
    ("error", "words", "setting"),
    [
        (UnknownKeyError, r"--set net\.widths=3: no section 'net'; sections: data, network, rule", "net.widths=3"),
        (UnknownKeyError, "unknown key training.epoch; did you mean 'epochs'", "training.epoch=3"),
        (UnknownKeyError, "unknown key rule.gama; did you mean 'gamma'", "rule.gama=3.0"),
        (WrongTypeError, "training: epochs = 2.5", "training.epochs=2.5"),
        (WrongTypeError, "training: epochs = True", "training.epochs=true"),
        (WrongTypeError, "rule: gamma = '2'", 'rule.gamma="2"'),
        (WrongTypeError, "training: milestones", "training.milestones=50"),
        (WrongTypeError, "network: widths", "network.widths=[1.5]"),
        (MismatchError, "data: mnist: mean is given alone; give mean and std, or neither", "data.mean=[0.0]"),
        (WrongTypeError, "data: mean = 0.5", "data.mean=0.5"),
        (WrongTypeError, "data: augment = 'no'", "data.augment=no"),
        (WrongTypeError, "--set training: write section.key=value", "training"),
        (WrongTypeError, "write section.key=value", "=3"),
        (WrongTypeError, "write section.key=value", "training..epochs=3"),
        (UsageError, "optimizer.step", "optimizer.step=3"),
    ],
)
def test_settings_that_fit_nothing_are_named_before_anything_runs(tmp_path, error, words, setting):
    name, recipe = load_recipe("kib/table1")
    with pytest.raises(error, match=words) as caught:
        list(jobs(name, recipe, Options(out=tmp_path, only="mnist/gaussian", settings=[setting])))
    assert "\n" not in str(caught.value)


def test_naming_another_rule_or_optimizer_starts_from_its_own_defaults():
    config = {"rule": {"name": "KernelizedBottleneck", "gamma": 3.0}, "optimizer": {"name": "sgd", "momentum": 0.9},
              "data": {"name": "mnist"}, "network": {}, "training": {}}  # fmt: skip
    changed = override(config, ["rule.loss=mean_squared_error", "rule.name=Backprop", "optimizer.name=adam"])
    assert changed["rule"] == {"name": "Backprop", "loss": "mean_squared_error"}
    assert changed["optimizer"] == {"name": "adam"}
    assert override(config, ["data.path=a.npz"])["data"] == {"path": "a.npz"}


@pytest.mark.parametrize("text", ["seeds = []", "row = []"])
def test_a_recipe_that_would_run_nothing_is_refused(text):
    rows = "" if text.startswith("row") else '[[row]]\nname = "a/b/c"\n'
    with pytest.raises(RecipeError, match="is empty: nothing would run"):
        parse_recipe(f'title = "T"\n{text}\n{rows}'.encode(), "own.toml")


def test_a_setting_that_fits_some_rows_only_names_the_first_it_does_not_fit(tmp_path):
    name, recipe = load_recipe("kib/table1")
    with pytest.raises(UnknownKeyError, match=r"^kib/table1 mnist/backprop/plain: unknown key rule.sigma"):
        list(jobs(name, recipe, Options(out=tmp_path, only="mnist", settings=["rule.sigma=3.0"])))


def test_jobs_of_table_1_are_all_its_rows_and_seeds(tmp_path):
    name, recipe = load_recipe("kib/table1")
    found = list(jobs(name, recipe, Options(out=tmp_path)))
    assert len(found) == 200
    assert len({job.path for job in found}) == 200
    assert all(job.path.is_relative_to(tmp_path) for job in found)

"""Table 2 and figure 3 against the pages that transcribe the paper and its code."""

import re

import pytest

from infohebb.experiments.recipe import load_recipe
from spec_pages import section, table

RECIPES = {
    "kib/table2_sgd": "## 2. Conv nets, CIFAR-10, SGD + divisive norm",
    "kib/table2_adamw": "## 3. Conv nets, CIFAR-10, AdamW + batch norm",
}
METHODS = {  # of kib_hyperparameters.md: method, rule and its own settings
    "pHSIC Gaussian": ("gaussian", {"name": "KernelizedBottleneck", "kernel": "gaussian"}),
    "pHSIC cossim": ("cosine", {"name": "KernelizedBottleneck", "kernel": "cosine"}),
    "backprop": ("backprop", {"name": "Backprop"}),
    "layer-wise class.": ("layerwise", {"name": "LayerwiseClassification"}),
    "layer-wise class. + FA": ("layerwise_random", {"name": "LayerwiseClassification", "feedback": "random"}),
    "feedback alignment": ("feedback_alignment", {"name": "FeedbackAlignment"}),
    "sign symmetry + gradient signs": ("sign_symmetry", {"name": "SignSymmetry", "gradient_signs": True}),
    "sign symmetry (no gradient signs)": ("sign_symmetry", {"name": "SignSymmetry"}),
}
COLUMNS = {  # of the two tables in kib_results.md section 3
    "backprop": ("backprop", "none"),
    "backprop div": ("backprop", "div"),
    "cossim grp": ("cosine", "grp"),
    "cossim grp+div": ("cosine", "div"),
    "Gaussian grp": ("gaussian", "grp"),
    "Gaussian grp+div": ("gaussian", "div"),
    "FA": ("feedback_alignment", "none"),
    "sign sym.": ("sign_symmetry", "none"),
    "layer class.": ("layerwise", "none"),
    "layer class. + FA": ("layerwise_random", "none"),
}


def row_name(method, width, mode):
    local = method in ("gaussian", "cosine")
    words = {"none": "", "grp": "+grouping", "div": "+grouping+divnorm" if local else "+divnorm"}
    return f"cifar10/{method}/{width}{words[mode]}"


def configs(recipe):
    _, loaded = load_recipe(recipe)
    return {row.name: (row, loaded.config(row)) for row in loaded.row}


def settings(recipe):
    """What the authors' scripts say of each row: readout rate, local rate, c, p, q."""
    header, *lines = next(_tables(section("kib_hyperparameters.md", RECIPES[recipe]), "width"))
    found = {}
    for line in lines:
        cell = dict(zip(header, line, strict=True))
        method, rule = METHODS[cell["method"]]
        numbers = {name: _number(cell[name]) for name in ("readout lr", "local lr", "c", "p", "q")}
        found[row_name(method, cell["width"], cell["mode"])] = (rule, numbers)
    return found


def _number(cell):
    return None if cell == "-" else float(cell.strip("*"))


def _tables(lines, first):
    """The tables of a section whose header begins with that word."""
    block = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            cells = table(block)
            if cells[0][0] == first:
                yield cells
            block = []


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_of_the_scripts_is_there_with_its_settings(recipe):
    rows, wanted = configs(recipe), settings(recipe)
    assert set(rows) == set(wanted)
    for name, (_, config) in rows.items():
        rule, numbers = wanted[name]
        lr, norm = config["optimizer"]["lr"], config["network"].get("divisive_norm")
        readout, local = numbers["readout lr"], numbers["local lr"]
        own = {"rule": local} if rule["name"] == "LayerwiseClassification" else {}
        assert lr == (readout if local is None else {"units": local, **own, "head": readout}), name
        given = {key: value for key, value in config["rule"].items() if key not in ("groups", "power", "delta")}
        common = {"sigma": 5.0, "gamma": 2.0} if rule["name"] == "KernelizedBottleneck" else {}
        assert given == {**rule, **common}, name
        if "divnorm" in name:
            assert norm == {"groups": numbers["c"], "power": numbers["p"], "delta": 1.0}, name
            assert "groups" not in config["rule"]  # q = 1 - p follows from the norm
            assert numbers["q"] is None or numbers["q"] == 1 - numbers["p"]
        elif "grouping" in name:
            own = {key: config["rule"][key] for key in ("groups", "power", "delta")}
            assert (norm, own) == (None, {"groups": numbers["c"], "power": numbers["q"], "delta": 1.0}), name
        else:
            assert norm is None, name


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_common_settings_are_the_scripts(recipe):
    text = " ".join(section("kib_hyperparameters.md", RECIPES[recipe]))
    assert re.search(r"500(,| epochs,) (batch )?128|epochs, batch \| 500, 128", text)
    later = [300, 350, 450, 475]
    for name, (_, config) in configs(recipe).items():
        assert config["data"] == {"name": "cifar10"}
        early = recipe == "kib/table2_sgd" and "backprop" in name
        milestones = [100, 200, 250, 275] if early else later
        training = {"epochs": 500, "batch": 128, "milestones": milestones, "factor": 0.25, "channels_last": True}
        assert config["training"] == training, name
        network = {key: value for key, value in config["network"].items() if key not in ("divisive_norm", "factor")}
        sgd = {"name": "convnet", "nonlinearity": "selu", "dropout": 0.05}
        adamw = {"name": "convnet", "nonlinearity": "leaky_relu", "slope": 0.01, "norm": "batch", "dropout": 0.05}
        assert network == (sgd if recipe == "kib/table2_sgd" else adamw), name
        assert config["network"].get("factor", 1.0) == (2.0 if "/2x" in name else 1.0), name
        optimizer = {key: value for key, value in config["optimizer"].items() if key != "lr"}
        own = {"rule": 1e-7} if config["rule"]["name"] == "LayerwiseClassification" else {}
        decay = {"units": 1e-7, **own, "head": 1e-6} if isinstance(config["optimizer"]["lr"], dict) else 1e-6
        words = {"name": "sgd", "momentum": 0.95} if recipe == "kib/table2_sgd" else {"name": "adamw"}
        assert optimizer == {**words, "weight_decay": decay}, name


def published():
    """Numbers of the authors' README, by recipe and row; an empty cell is None."""
    found = {recipe: {} for recipe in RECIPES}
    for header, *lines in _tables(section("kib_results.md", "## 3. Conv nets, README tables [R]"), "net"):
        for net, *cells in lines:
            recipe = "kib/table2_adamw" if "AdamW" in net else "kib/table2_sgd"
            for column, cell in zip(header[1:], cells, strict=True):
                method, mode = COLUMNS[column]
                mode = "div" if "+ divnorm" in net else mode
                value = None if "unstable" in cell else float(cell)
                found[recipe][row_name(method, net.split()[0], mode)] = value
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_has_its_published_number(recipe):
    wanted = {name: value for name, value in published()[recipe].items() if value is not None}
    assert {name: row.published for name, (row, _) in configs(recipe).items()} == wanted


def test_figure_3_draws_rows_of_table_2():
    rows, drawn = configs("kib/table2_sgd"), configs("kib/figure3")
    assert set(drawn) == {name for name in rows if "backprop" in name or "grouping+divnorm" in name}
    assert all(drawn[name] == rows[name] for name in drawn)
    assert load_recipe("kib/figure3")[1].seeds == [0, 1, 2, 3, 4]


def test_the_small_table_has_nine_methods_and_both_families():
    rows = configs("kib/table2_small")
    methods = {name.split("/")[1] for name in rows}
    assert len(methods) == 9
    families = {"sgd+divnorm": "kib/table2_sgd", "adamw+batchnorm": "kib/table2_adamw"}
    assert set(rows) == {f"cifar10/{method}/{family}" for method in methods for family in families}
    for name, (row, config) in rows.items():
        _, method, family = name.split("/")
        assert row.published is None  # the paper has no such network
        assert config["training"] == {"epochs": 5, "batch": 128, "channels_last": True}
        assert config["network"].pop("factor") == 0.25
        if method in ("last_layer", "direct_feedback"):
            continue
        mode = "+grouping" if method in ("cosine", "gaussian") else ""
        mode += "+divnorm" if family == "sgd+divnorm" else ""
        large = configs(families[family])[f"cifar10/{method}/1x{mode}"][1]
        assert config["optimizer"] == large["optimizer"], name
        for section_name in ("network", "rule"):
            small_part, large_part = _scaled(config[section_name]), _scaled(large[section_name])
            small_part.pop("projection", None)
            assert small_part == {key: v for key, v in large_part.items() if (key, v) != ("slope", 0.01)}, name
        if config["rule"]["name"] == "LayerwiseClassification":
            assert config["rule"]["projection"] == 2048 / 4
    assert {
        str(config["rule"]).count("'groups': 16") + str(config["network"]).count("'groups': 16")
        for name, (_, config) in rows.items()
        if "sgd" in name or "/cosine" in name or "/gaussian" in name
    } == {1}


def _scaled(words):
    """Settings without their number of groups."""
    found = {key: value for key, value in words.items() if key not in ("groups", "divisive_norm")}
    norm = words.get("divisive_norm")
    return found if norm is None else {**found, "norm": (norm["power"], norm["delta"])}

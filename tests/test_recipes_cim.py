"""The CorInfoMax recipes against the pages that transcribe the authors' notebooks and scripts."""

import copy
import re

import pytest

from infohebb.errors import MismatchError
from infohebb.experiments.build import check_config
from infohebb.experiments.recipe import load_recipe
from spec_pages import section, table

TABLES = ["cim/mnist", "cim/fashion_mnist", "cim/cifar10", "cim/cifar100"]
DATA = {"MNIST": "mnist", "Fashion": "fashion_mnist", "CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}
INPUTS = {"mnist": 784, "fashion_mnist": 784, "cifar10": 3072, "cifar100": 3072}
METHODS = {  # of cim_results.md
    "CorInfoMax box": "CorInfoMax box",
    "CorInfoMax sparse": "CorInfoMax sparse",
    "EP": "EquilibriumPropagation",
    "CSM": "ContrastiveSimilarityMatching",
    "PC": "PredictiveCoding",
    "PC-Nudge": "PredictiveCodingNudge",
    "FA, MSE": "FeedbackAlignment mean_squared_error",
    "FA, CE": "FeedbackAlignment cross_entropy",
    "BP, MSE": "Backprop mean_squared_error",
    "BP, CE": "Backprop cross_entropy",
}
SCRIPTS = {  # of cim_hyperparameters.md, box and sparse: the setting that was reported
    "cim/mnist": (
        {"MNIST V1": "mnist/corinfomax/box", "MNIST 3-layer V1": "mnist/corinfomax/box, 3 layers"},
        {"MNIST V1": "mnist/corinfomax/sparse"},
    ),
    "cim/fashion_mnist": (
        {"Fashion V1": "fashion_mnist/corinfomax/box"},
        {"Fashion V1": "fashion_mnist/corinfomax/sparse"},
    ),
    "cim/cifar10": (
        {"CIFAR-10 V1": "cifar10/corinfomax/box", "CIFAR-10 3-layer V1": "cifar10/corinfomax/box, 3 layers"},
        {"CIFAR-10 V1": "cifar10/corinfomax/sparse"},
    ),
    "cim/cifar100": ({"CIFAR-100 V3": "cifar100/corinfomax/box"}, {}),
}
SETTING_1 = "cifar10/corinfomax/box, forgetting 0.99999"
FIGURE = re.compile(r"≈?(\d+\.\d+|\.\d+)(?: ?± ?([\d.]+))?")
ENTROPY = "mnist/entropy gain"


def configs(recipe):
    _, loaded = load_recipe(recipe)
    return {row.name: (row, loaded.config(row)) for row in loaded.row}


def numbers(cell):
    """All numbers of a cell, in order."""
    return [float(found) for found in re.findall(r"\d*\.?\d+(?:e-\d+)?", cell)]


def figure(text):
    """Mean and deviation, each None where there is none."""
    found = FIGURE.search(text)
    return (None, None) if found is None else tuple(part and float(part) for part in found.groups())


# --- Published numbers, and sizes of networks ---


def wanted():
    """(data, method, sizes, mean, deviation) of sections 1 and 2; "same" is as in the line before."""
    found, sets, shapes = [], [], []
    for heading in ("## 1. Two-layer networks", "## 2. Three-layer networks"):
        for method, data, networks, tested, *_ in table(section("cim_results.md", heading))[1:]:
            kinds = re.sub(r"(\w+),? (MSE) / (CE)", r"\1, \2 / \1, \3", method).split(" / ")
            sets = sets if data == "same" else data.split(" / ")
            if networks != "same":
                shapes = networks.replace("**", "").split(" / ")
            answers = tested.replace("**", "").partition(";")[0].split(" / ")
            assert len(answers) == max(len(kinds), len(sets))
            for place, answer in enumerate(answers):
                name, shape = sets[place % len(sets)], shapes[place % len(shapes)]
                shape = shapes[0] if shape == "same" else shape
                found.append((DATA[name], METHODS[kinds[place % len(kinds)]], shape, *figure(answer)))
    return found


def given():
    """The same of the recipes, by row."""
    found = {}
    for recipe in TABLES:
        for name, (row, config) in configs(recipe).items():
            dataset = config["data"]["name"]
            ends = [INPUTS[dataset], *config["network"]["widths"], 100 if dataset == "cifar100" else 10]
            shape = "-".join(map(str, ends))
            found[name] = (dataset, method_of(config), shape, row.published, row.published_sd)
    return found


def method_of(config):
    name, network = config["rule"]["name"], config["network"]
    if name == "CorInfoMax":
        return f"{name} {'sparse' if 'sparse' in network else 'box'}"
    return " ".join([name, config["rule"]["loss"]]) if "loss" in config["rule"] else name


def test_every_published_number_stands_in_one_row_with_its_network():
    rows = given()
    rows.pop(SETTING_1)  # of the grid, not of the table
    assert len(wanted()) == 47
    assert sorted(rows.values(), key=str) == sorted(wanted(), key=str)


def test_a_row_is_named_after_what_it_trains():
    words = {
        "CorInfoMax": "corinfomax",
        "EquilibriumPropagation": "equilibrium_propagation",
        "ContrastiveSimilarityMatching": "contrastive_similarity_matching",
        "PredictiveCoding": "predictive_coding",
        "PredictiveCodingNudge": "predictive_coding_nudge",
        "FeedbackAlignment": "feedback_alignment",
        "Backprop": "backprop",
    }
    modes = {"mean_squared_error": "squared error", "cross_entropy": "cross-entropy", "box": "box", "sparse": "sparse"}
    for name, (dataset, method, shape, *_) in given().items():
        rule, _, kind = method.partition(" ")
        depth = ", 3 layers" if shape.count("-") == 3 and dataset != "cifar100" else ""
        mode = modes[kind] + depth if kind else shape
        assert name.partition(", forgetting")[0] == f"{dataset}/{words[rule]}/{mode}"


def test_setting_1_of_cifar10_has_the_number_of_the_grid():
    text = " ".join(section("cim_results.md", "## 3. All grid settings"))
    grid = re.findall(r"CIFAR-10 1–4: ([^*]+)", text)[0].split(",")
    rows = configs("cim/cifar10")
    row, config = rows[SETTING_1]
    reported_row, reported = rows["cifar10/corinfomax/box"]
    assert (row.published, row.published_sd) == figure(grid[0])
    assert (reported_row.published, reported_row.published_sd) == figure(grid[2])
    assert config["rule"].pop("forgetting") == 0.99999
    assert reported["rule"].pop("forgetting") == 0.99995
    assert config["network"].pop("entropy_gain") < reported["network"].pop("entropy_gain")
    assert config == reported


# --- Settings ---


def chosen(cell):
    """The numbers of a setting: of several, those that are marked."""
    cell = cell.replace("**", "")  # bold is no mark
    choices = cell.split(" or ")
    marked = [choice for choice in choices if "*" in choice]
    return numbers((marked or choices)[0])


def tables():
    """Of box and sparse, the rows of cim_hyperparameters.md by script."""
    for heading in ("## CorInfoMax, box", "## CorInfoMax, sparse"):
        header, *lines = table(section("cim_hyperparameters.md", heading))
        cells = [dict(zip(header, line, strict=True)) for line in lines]
        yield {line["data / script"].partition(" –")[0]: line for line in cells}


@pytest.mark.parametrize("recipe", TABLES)
def test_corinfomax_has_the_settings_that_were_reported(recipe):
    rows = configs(recipe)
    for of_kind, scripts in zip(tables(), SCRIPTS[recipe], strict=True):
        for script, name in scripts.items():
            _, config = rows[name]
            line, network, rule = of_kind[script], config["network"], config["rule"]
            feedback = chosen(line["η^b"])[-len(network["widths"]) :]
            lr = {"forward": chosen(line["η^f"]), "feedback": feedback}
            assert config["optimizer"] == {"name": "sgd", "lr": lr}, name
            [rate], (first, *later) = chosen(line["d"]), chosen(line["E1"])
            powers = [[1, rate], [int(first) + 1, 0.9]]
            if later:  # 0.8^e from epoch 25, the first being 0
                powers.append([int(later[1]) + 1, later[0]])
            assert config["training"] == {"epochs": 50, "batch": 20, "powers": powers}, name
            slow = line["rule"].startswith("slow")
            words = ("divide_by_slow_loop_index", True) if slow else ("constant", False)
            assert (network.get("schedule", "constant"), slow) == words, name
            constants = [network["step"], network["leak"], network["epsilon"]]
            assert constants == [*chosen(line["h0"]), *chosen(line["g"]), 0.15], name
            assert [network["steps"], rule["nudged_steps"]] == chosen(line["T"]), name
            assert [rule["forgetting"]] == chosen(line["λ"]), name
            assert rule["nudge"] == 1.0
            if "μ" in line:
                assert (network["sparse"], network["multiplier_rates"]) == ([1, 2], chosen(line["μ"])), name
            assert not {"random_sign", "phases", "recursion"} & set(rule), "two phases, the sign drawn: the defaults"


@pytest.mark.parametrize("recipe", [*TABLES, "cim/ablations"])
def test_images_are_prepared_as_the_authors_did(recipe):
    text = " ".join(section("cim_spec.md", "## 6. Training loop, data, evaluation"))
    mean, deviation = map(numbers, re.findall(r"mean \(([\d., ]+)\), std \(([\d., ]+)\)", text)[0])
    for name, (_, config) in configs(recipe).items():
        data = dict(config["data"])
        if data.pop("name") in ("mnist", "fashion_mnist"):
            assert data == {"mean": [0.0], "std": [1.0]}, name
            continue
        assert data["mean"] == mean, name
        assert data["std"] == pytest.approx([3 * number for number in deviation], rel=1e-12), name
        assert data["augment"] is False, name


@pytest.mark.parametrize("recipe", TABLES)
def test_batches_epochs_and_seeds_are_the_authors(recipe):
    assert load_recipe(recipe)[1].seeds == [10 * place for place in range(10)]
    assert load_recipe(recipe)[1].paper == "arXiv:2306.04810"
    assert {(c["training"]["epochs"], c["training"]["batch"]) for _, c in configs(recipe).values()} == {(50, 20)}


@pytest.mark.parametrize("recipe", [*TABLES, "cim/ablations"])
def test_the_entropy_gain_is_that_of_the_forgetting_factor(recipe):
    for name, (_, config) in configs(recipe).items():
        if config["rule"]["name"] != "CorInfoMax" or name.startswith(ENTROPY):
            continue
        forgetting = config["rule"]["forgetting"]
        assert config["network"]["entropy_gain"] == pytest.approx((1 - forgetting) / forgetting, rel=1e-9), name


# --- Ablations ---


def ablated(study):
    """The recipe's rows of one study, by data set and value."""
    rows = configs("cim/ablations")
    return {tuple(name.split("/")[::2]): found for name, found in rows.items() if name.split("/")[1] == study}


def measured(first):
    """(mean, deviation) of section 4 by data set and value, of the table whose header begins with that word."""
    found, values = {}, None
    for name, *cells in table(section("cim_results.md", "## 4. Ablations")):
        if name not in DATA:
            values = [str(float(cell)).removesuffix(".0") for cell in cells] if name == first else None
        elif values:
            found |= {(DATA[name], value): figure(cell) for value, cell in zip(values, cells, strict=True)}
    return found


def published(rows):
    return {place: (row.published, row.published_sd) for place, (row, _) in rows.items()}


def changed(config, recipe, row):
    """What differs from a row of another recipe: (there, here) by section and key."""
    _, there = configs(recipe)[row]
    return {
        (part, key): (there[part].get(key), config[part].get(key))
        for part in config
        for key in {*config[part], *there[part]}
        if there[part].get(key) != config[part].get(key)
    }


def of_table(dataset):
    return f"cim/{dataset}", f"{dataset}/corinfomax/box"


def test_neural_steps_have_their_numbers_but_those_beyond_the_bound():
    rows, numbers_of = ablated("neural step"), measured("neural step")
    assert len(numbers_of) == 12
    far = {("mnist", "0.3"), ("cifar10", "0.15"), ("cifar10", "0.3")}
    beyond = {place: numbers_of.pop(place) for place in [*numbers_of] if place in far}
    assert set(beyond) == far
    assert published(rows) == numbers_of
    for (dataset, value), (_, config) in rows.items():
        check_config(config)
        found = changed(config, *of_table(dataset))
        assert config["network"]["step"] == float(value)
        found.pop(("network", "step"), None)
        slow = {
            ("network", "schedule"): (None, "divide_by_slow_loop_index"),
            ("training", "powers"): ([[1, 0.95], [16, 0.9]], [[1, 0.99], [16, 0.9]]),
        }
        assert found == (slow if dataset == "mnist" else {})
    for dataset, value in beyond:
        config = copy.deepcopy(rows[dataset, "0.05"][1])
        config["network"]["step"] = float(value)
        with pytest.raises(MismatchError, match=r"not stable.*0\.14(46|89)"):
            check_config(config)


def test_forward_rates_are_the_published_ones_times_a_factor():
    rows = ablated("forward rate")
    assert published(rows) == measured("forward-rate factor")
    assert len(rows) == 10
    for (dataset, value), (_, config) in rows.items():
        recipe, row = of_table(dataset)
        found = changed(config, recipe, row)
        there = configs(recipe)[row][1]["optimizer"]["lr"]
        here = config["optimizer"]["lr"]
        assert here["forward"] == pytest.approx([float(value) * rate for rate in there["forward"]], rel=1e-12)
        assert here["feedback"] == there["feedback"]
        found.pop(("optimizer", "lr"), None)
        slow = {("network", "schedule"): (None, "divide_by_slow_loop_index")}
        assert found == (slow if dataset == "mnist" else {})


def test_hidden_sizes_have_the_mean_of_their_seeds():
    text = " ".join(section("cim_results.md", "## 4. Ablations")).partition("Hidden size")[2]
    mnist, _, rest = text.partition("784-n-n-10:")[2].partition("CIFAR-10 3072-n-10:")
    two = {size: numbers(pair) for size, pair in re.findall(r"(\d+): ([\d.]+/[\d.]+)", mnist)}
    means = {("mnist", size): (pytest.approx(sum(pair) / 2, abs=1e-9), None) for size, pair in two.items()}
    about = {("cifar10", size): (float(mean), None) for size, mean in re.findall(r"(\d+): ≈([\d.]+\d)", rest)}
    assert [len(means), len(about)] == [4, 4]
    rows = ablated("hidden size")
    assert published(rows) == means | about
    for (dataset, size), (_, config) in rows.items():
        deep = ("cim/mnist", "mnist/corinfomax/box, 3 layers")
        found = changed(config, *(deep if dataset == "mnist" else of_table(dataset)))
        layers = 2 if dataset == "mnist" else 1
        assert found.pop(("network", "widths"))[1] == [int(size)] * layers
        assert found == ({("network", "leak"): (0.2, 0.5)} if dataset == "mnist" else {})


@pytest.mark.parametrize("forgetting", [0.99999, 0.999])
def test_the_entropy_gain_alone_is_changed(forgetting):
    rows = ablated("entropy gain" if forgetting == 0.99999 else f"entropy gain, forgetting {forgetting}")
    assert [value for _, value in rows] == ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1"]
    for (dataset, value), (row, config) in rows.items():
        assert (dataset, row.published) == ("mnist", None)
        found = changed(config, *of_table("mnist"))
        assert found.pop(("network", "entropy_gain"))[1] == float(value)
        assert found.pop(("training", "epochs")) == (50, 3)
        assert found == ({} if forgetting == 0.99999 else {("rule", "forgetting"): (0.99999, forgetting)})


def test_the_ablations_have_five_seeds_and_no_other_row():
    _, recipe = load_recipe("cim/ablations")
    assert recipe.seeds == [0, 10, 20, 30, 40]
    assert len(recipe.row) == 9 + 10 + 8 + 10 + 3  # the last are of batch and precision

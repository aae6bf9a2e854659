"""The command line: what each command prints, and what bad input gets."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from infohebb import rules
from infohebb.cli import main
from infohebb.data import names
from infohebb.experiments.build import NETWORKS
from infohebb.experiments.recipe import recipe_names
from infohebb.experiments.studies import STUDIES
from processes import command_code

RULES = Path(__file__).parent / "rules" / "broken_rules.py"
# Not pydantic: typer imports it by itself wherever it is installed.
HEAVY = ["torch", "numpy", "matplotlib", "sklearn", "safetensors", "jinja2", "pooch", "jaxtyping"]
COMMANDS = [[], ["list"], ["run"], ["evaluate"], ["predict"], ["report"], ["check"], ["data"], ["data", "fetch"]]


def test_help_of_every_command_imports_nothing_heavy(python):
    code = f"""
import contextlib, io, json, sys
from infohebb.cli import main
said = []
for words in {COMMANDS!r}:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        try: main([*words, "--help"])
        except SystemExit as stop: said.append([stop.code, stream.getvalue()])
own = [name for name in sys.modules if name.startswith("infohebb")]
print(json.dumps([said, sorted(set({HEAVY!r}) & set(sys.modules)), sorted(own)]))
"""
    answer = python(code)
    said, heavy, own = json.loads(answer.out)
    assert heavy == []
    assert own == ["infohebb", "infohebb.cli", "infohebb.errors"]
    assert [status for status, _ in said] == [0] * len(COMMANDS)
    for words, (_, text) in zip(COMMANDS, said, strict=True):
        assert " ".join(["Usage: infohebb", *words]) in text
    assert all(f" {words[0]} " in said[0][1] for words in COMMANDS[1:])
    for option in (
        "--only",
        "--seeds",
        "--set",
        "--data-dir",
        "--device",
        "--precision",
        "--validate",
        "--diagnose",
        "--data",
        "--out",
    ):
        assert option in said[2][1]


def test_no_command_is_help(command):
    answer = command()
    assert "Usage: infohebb" in answer.out + answer.err
    assert answer.status == 2


def test_list_shows_everything_that_has_a_name(command):
    answer = command("list")
    assert answer.status == 0
    titles = re.findall(r"^\S.*$", answer.out, re.MULTILINE)
    assert titles == ["rules", "networks", "data sets", "studies", "recipes"]
    listed = {line.split()[0] for line in answer.out.splitlines() if line.startswith("  ")}
    assert listed == {*rules.registry(), *NETWORKS, *names(), *STUDIES, *recipe_names()}
    assert re.search(r"  kib/table1 +Table 1: 3 x 1024 MLP$", answer.out, re.MULTILINE)


def test_a_recipe_from_start_to_report(command, nowhere):
    run = ("run", "kib/smoke", "--only", "digits/[gb]*/plain", "--device", "cpu")
    first = command(*run)
    assert (first.status, first.err) == (0, "")
    done = re.findall(r"^kib/smoke (\S+) seed 0: test_accuracy [\d.]+, train_accuracy [\d.]+$", first.out, re.MULTILINE)
    assert done == ["digits/backprop/plain", "digits/gaussian/plain"]
    records = sorted((nowhere / "results").rglob("seed0.json"))
    assert len(records) == 2
    before = {path: path.read_bytes() for path in records}

    second = command(*run)
    assert second.status == 0
    assert second.out.count("done before") == 2
    assert {path: path.read_bytes() for path in records} == before

    for name in ("report.html", "table.md"):
        answer = command("report", "results", "--out", name)
        assert (answer.status, answer.err) == (0, "")
        assert name in answer.out
        text = (nowhere / name).read_text()
        assert all(row in text for row in done)
    assert (nowhere / "report.html").read_text().startswith("<!")

    folder = records[0].with_suffix(".checkpoint")
    scored = command("evaluate", folder)
    final = json.loads(records[0].read_text())["final"]["test_accuracy"]
    assert scored == (0, f"accuracy {final:.4f}\n", "")

    np.savez("mine.npz", x=np.zeros((4, 64)), y=np.zeros(4, int))
    assert re.fullmatch(r"accuracy (0|100)\.0000\n", command("evaluate", folder, "--data", "mine.npz").out)
    assert command("predict", folder, "mine.npz", "--out", "p.npz") == (0, "4 predictions in p.npz\n", "")
    with np.load("p.npz") as found:
        assert found["output"].shape == (4, 10)
        assert found["label"].tolist() == [int(found["output"][0].argmax())] * 4


def test_options_reach_the_run(command, nowhere):
    rng = np.random.default_rng(0)
    np.savez("mine.npz", x=rng.normal(size=(80, 6)), y=np.arange(80) % 4)
    words = ["--only", "digits/gaussian/plain", "--seeds", "4,5", "--epochs", "2", "--precision", "bf16", "--validate"]
    answer = command("run", "kib/smoke", *words, "--set", "rule.gamma=1.0", "--set", "network.widths=[8]",
                     "--data", "mine.npz", "--device", "cpu", "--out", "elsewhere")  # fmt: skip
    assert answer.status == 0, answer.err
    found = sorted((nowhere / "elsewhere").rglob("*.json"))
    records = [path for path in found if "checkpoint" not in str(path)]
    folder = nowhere / "elsewhere" / "kib" / "smoke" / "mine" / "gaussian" / "plain"
    assert records == [folder / "seed4.validation.json", folder / "seed5.validation.json"]
    record = json.loads(records[0].read_text())
    assert record["config"]["training"].items() >= {"epochs": 2, "batch": 64, "precision": "bf16"}.items()
    assert record["published"] is None
    assert record["config"]["rule"]["gamma"] == 1.0
    assert record["config"]["network"]["widths"] == [8]
    checksum = hashlib.md5(Path("mine.npz").read_bytes()).hexdigest()
    assert record["config"]["data"] == {"path": "mine.npz", "md5": checksum}
    assert set(record["final"]) == {"validation_accuracy", "train_accuracy"}
    assert not (nowhere / "results").exists()


def test_the_quickstart_diagnosed_and_reported(command, nowhere):
    words = ["--epochs", "1", "--set", "network.widths=[64, 64]", "--device", "cpu"]
    answer = command("run", "quickstart", *words, "--diagnose", "every=1")
    assert (answer.status, answer.err) == (0, "")
    records = [json.loads(path.read_text()) for path in sorted((nowhere / "results").rglob("seed0.json"))]
    assert len(records) == 4
    for record in records:
        found = record["curves"]["alignment"]
        assert found["epoch"] == [0, 1]
        layers = ["layers.0.activity.linear", "layers.1.activity.linear", "readout"]
        assert list(found["angle"]) == list(found["norm_ratio"]) == [f"{layer}.weight" for layer in layers]
        assert found["angle"]["readout.weight"] == pytest.approx([0, 0], abs=0.01)
        is_null = record["config"]["rule"]["name"] == "LastLayer"
        assert [value is None for value in found["angle"]["layers.0.activity.linear.weight"]] == [is_null] * 2
    assert command("report", "results", "--out", "report.md").status == 0
    assert "Angle to backprop's gradient" in (nowhere / "report.md").read_text()


def test_a_recipe_of_ones_own(command, nowhere):
    (nowhere / "own.toml").write_text(OWN)
    assert command("run", "own.toml", "--out", "r").status == 0
    assert (nowhere / "r" / "own" / "blobs" / "backprop" / "x" / "seed0.json").exists()


OWN = """
title = "Mine"
[base]
data = { name = "blobs" }
network = { widths = [8] }
rule = { name = "Backprop" }
training = { epochs = 1 }
[[row]]
name = "blobs/backprop/x"
"""


def test_old_names_are_warned_of_in_one_line_each(python, nowhere):
    (nowhere / "own.toml").write_text(OWN + "optimizer = { lr = { readout = 0.1 } }\n")
    answer = python(command_code("run", "own.toml", "--device", "cpu", "--seeds", "0,1", "--set", "training.hold=1"))
    said = [
        "optimizer.lr.readout is now optimizer.lr.units and optimizer.lr.head",
        "training.hold is now training.steps_per_sample",
    ]
    wanted = "".join(f"infohebb: warning: {line}; the old name goes in version 0.3\n" for line in said)
    assert (answer.status, answer.err) == (0, wanted)


def test_ctrl_c_says_how_to_go_on(command, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("infohebb.experiments.run.run_recipe", stop)
    answer = command("run", "kib/smoke")
    assert answer == (130, "", "infohebb: stopped; the same command goes on from the last whole epoch\n")


def test_fetch_of_an_embedded_data_set_needs_nothing(command):
    assert command("data", "fetch", "digits") == (0, "digits needs no files\n", "")


# --- A rule of one's own ---


@pytest.fixture
def own_rules(nowhere, monkeypatch):
    shutil.copy(RULES, nowhere / "own_rules.py")
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("own_rules", None)


@pytest.mark.usefixtures("own_rules")
def test_check_of_a_rule_that_keeps_the_contract(command):
    answer = command("check", "own_rules:Honest")
    assert answer.status == 0
    *lines, last = answer.out.splitlines()
    assert all(line.startswith("holds  ") for line in lines)
    assert last == f"{len(lines)} hold, 0 fail"


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize(
    ("rule", "promise"),
    [
        ("ForgetsGradient", r"fills gradients \[plain\]: no gradient for a parameter \(24, 32\)"),
        ("ChangesWeight", r"fills gradients \[plain\]: learn changes network blocks.1.weight"),
        ("TransportsWeights", r"weights are not transported \[plain\]: the update of blocks.0.weight depends on"),
        ("MixesNeurons", r"update is local \[plain\]: blocks.0: postsynaptic 1 acts on other rows"),
        ("HidesSignal", r"update follows from signals \[plain\]: the recorded signals do not give"),
        ("RollsDice", r"same seed same gradient \[plain\]: the gradient of blocks.0.weight differs"),
        ("Crashes", r"fills gradients \[plain\]: raises RuntimeError: mat1 and mat2"),
        ("HalfWritten", r"builds without arguments \[-\]: Can't instantiate abstract class HalfWritten"),
    ],
)
def test_check_of_a_rule_that_breaks_it(command, monkeypatch, rule, promise):
    from infohebb.testing import example_networks

    monkeypatch.setattr("infohebb.testing.example_networks", lambda kind: {"plain": EXAMPLES["plain"]})
    EXAMPLES.update(example_networks(rules.LayeredRule.network_type))
    answer = command("check", f"own_rules:{rule}")
    assert (answer.status, answer.err) == (1, "")
    assert re.search(rf"^FAILS  {promise}", answer.out, re.MULTILINE), answer.out
    failing = answer.out.count("\nFAILS") + answer.out.startswith("FAILS")
    assert re.search(rf"\d+ hold, {failing} fail\n$", answer.out)


EXAMPLES = {}


# --- Wrong input: exactly one line, the right exit status, and earlier results untouched ---

RUN = ["run", "kib/smoke", "--only", "digits/gaussian/grouping", "--out", "new", "--device", "cpu"]
TRAINED = ["run", "kib/smoke", "--only", "digits/gaussian/plain", "--device", "cpu"]
FOLDER = "results/kib/smoke/digits/gaussian/plain"
WRONG = [  # words, exit status, what the line says
    (["run", "kib/smok"], 2, "unknown recipe 'kib/smok'; did you mean 'kib/smoke'"),
    (["run", "none.toml"], 2, "no recipe file none.toml"),
    (["run", "unknown_key.toml"], 2, "unknown_key.toml: unknown key base.rulez"),
    (["run", "wrong_type.toml"], 2, "wrong_type.toml: title = 3"),
    (["run", "no_toml.toml"], 2, "no_toml.toml: not TOML"),
    (["run", "kib/smoke", "--only", "mnist"], 2, "no row matches 'mnist'; rows: digits/backprop/plain"),
    ([*RUN, "--seeds", "0,one"], 2, "--seeds 0,one: give whole numbers"),
    ([*RUN, "--seeds", ""], 2, "--seeds : give whole numbers"),
    ([*RUN, "--seeds", "-3"], 2, "seed -3"),
    ([*RUN, "--seeds", "99999999999999999999"], 2, "seed 99999999999999999999"),
    ([*RUN, "--diagnose", "every=0"], 2, "--diagnose every=0: give every=N, N a whole number of epochs"),
    ([*RUN, "--diagnose", "every=x"], 2, "--diagnose every=x: give every=N"),
    ([*RUN, "--diagnose", "every=1.5"], 2, "--diagnose every=1.5: give every=N"),
    ([*RUN, "--diagnose", "often=3"], 2, "--diagnose often=3: give every=N"),
    ([*RUN, "--diagnose", "3"], 2, "--diagnose 3: give every=N"),
    ([*RUN, "--diagnose", ""], 2, "--diagnose : give every=N"),
    ([*RUN, "--set", "epochs=3"], 2, "--set epochs=3: write section.key=value"),
    ([*RUN, "--set", "trining.epochs=3"], 2, "no section 'trining'"),
    ([*RUN, "--set", "training.epoch=3"], 2, "unknown key training.epoch; did you mean 'epochs'"),
    ([*RUN, "--set", "training.epochs=some"], 2, "training: epochs = 'some'"),
    ([*RUN, "--epochs", "0"], 2, "training.epochs = 0"),
    ([*RUN, "--precision", "fp8"], 2, "training: precision = 'fp8'"),
    ([*RUN, "--device", "abacus"], 2, "device 'abacus' cannot be used here"),
    ([*RUN, "--set", "training.batch=0"], 2, "batch size 0"),
    ([*RUN, "--set", "network.name=nlp"], 2, "unknown network 'nlp'; did you mean 'mlp'"),
    ([*RUN, "--set", "network.widths=[0]"], 2, "no layer may be empty"),
    ([*RUN, "--set", "network.dropout=1.5"], 2, "dropout rate 1.5 is no probability below 1"),
    ([*RUN, "--set", "network.nonlinearity=rely"], 2, "unknown nonlinearity 'rely'; did you mean"),
    ([*RUN, "--set", "rule.groups=5"], 2, "5 groups do not cut a layer of 64 neurons"),
    ([*RUN, "--set", "rule.groups=1"], 2, "1 groups do not cut a layer of 64"),
    ([*RUN, "--set", "rule.kernel=sine"], 2, "unknown kernel 'sine'; did you mean 'cosine'"),
    ([*RUN, "--set", "rule.sigma=-1.0"], 2, "sigma -1.0"),
    ([*RUN, "--set", "rule.objective=x"], 2, "rule: objective = 'x'"),
    ([*RUN, "--set", "network.divisive_norm.groups=8"], 2, "divisive norm by"),
    ([*RUN, "--set", "optimizer.name=sgdd"], 2, "unknown optimizer 'sgdd'; did you mean 'sgd'"),
    ([*RUN, "--set", "optimizer.momentum=fast"], 2, "optimizer: "),
    ([*RUN, "--set", "optimizer.lr.units=fast"], 2, "optimizer: lr"),
    (
        [*RUN, "--set", "optimizer.lr.hidden=1.0"],
        2,
        "unknown role or parameter 'hidden'; roles are units, head and rule",
    ),
    ([*RUN, "--set", "data.name=digit"], 2, "unknown data set 'digit'; did you mean 'digits'"),
    ([*RUN, "--set", "data.name=mnist", "--data-dir", "empty"], 1, "infohebb data fetch mnist"),
    ([*RUN, "--data", "none.npz"], 1, "cannot read none.npz"),
    ([*RUN, "--data", "corrupt.npz"], 1, "corrupt.npz is no .npz file"),
    ([*RUN, "--data", "nan.npz"], 2, "contain NaN or infinity, first in sample 1"),
    ([*RUN, "--data", "empty.npz"], 2, "no samples"),
    ([*RUN, "--data", "negative.npz"], 2, "labels"),
    ([*RUN, "--data", "gaps.npz"], 2, "have labels 0, 1000000000; number them from 0"),
    ([*RUN, "--data", "floats.npz"], 2, "y.astype(int) for labels"),
    ([*RUN, "--data", "nan.npz", "--set", "data.name=mnist"], 2, "exclude each other"),
    ([*RUN, "--epochs", "2", "--set", "training.epochs=3"], 2, "training.epochs is 3 already; give it once"),
    ([*RUN, "--set", "network.widths=[100000000, 100000000]"], 1, "not enough memory"),
    ([*RUN, "--device", "meta"], 2, "device 'meta' cannot be used here"),
    ([*RUN, "--data", "lengths.npz"], 2, "5 inputs and 4 targets"),
    ([*RUN, "--data", "nameless.npz"], 2, "it needs arrays named x and y"),
    ([*RUN, "--set", "optimizer.lr.units=1e30"], 1, "is not finite; lower the units' rate"),
    ([*TRAINED, "--epochs", "2"], 2, "training.epochs = 1, not 2; records are written once"),
    ([*RUN, "--out", "afile"], 1, "afile"),
    (["evaluate", "nowhere"], 1, "no checkpoint at nowhere"),
    (["evaluate", f"{FOLDER}/seed0.checkpoint", "--data", "lengths.npz"], 2, "the network takes numbers"),
    (["predict", f"{FOLDER}/seed0.checkpoint", "nan.npz"], 2, "the network takes numbers"),
    (["predict", f"{FOLDER}/seed0.checkpoint", "nan64.npz"], 2, "NaN or infinity, first in sample 0"),
    (["predict", f"{FOLDER}/seed0.checkpoint", "none.npy"], 1, "cannot read none.npy"),
    (["predict", f"{FOLDER}/seed0.checkpoint", "corrupt.npz"], 1, "corrupt.npz is no .npz file"),
    (["report", "results", "--out", "x.pdf"], 2, "a report is an .html or an .md file"),
    (["report", "empty"], 2, "no records below empty; run `infohebb run quickstart` first"),
    (["data", "fetch", "mnits"], 2, "unknown data set 'mnits'; did you mean 'mnist'"),
    (["check", "no_colon"], 2, "not of the form module:Class"),
    (["check", "no_such_module:Rule"], 2, "cannot import 'no_such_module'"),
    (["check", "infohebb.rules:registry"], 2, "no class derived from"),
]
# What users see: a process without the shape checks of the tests. One process for all, since torch takes seconds.
SCRIPT = """
import contextlib, io, json, sys, traceback, warnings
from infohebb.cli import main
answers = []
for words in json.load(open("wrong.json")):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: main(words); status = "returned"
        except SystemExit as stop: status = stop.code
        except BaseException: status = traceback.format_exc()
    answers.append([status, out.getvalue(), err.getvalue()])
json.dump(answers, open("answers.json", "w"))
"""


@pytest.fixture(scope="module")
def wrong_answers(tmp_path_factory):
    from processes import start

    folder = tmp_path_factory.mktemp("wrong")
    (folder / "unknown_key.toml").write_text(OWN.replace("rule =", "rulez ="))
    (folder / "wrong_type.toml").write_text(OWN.replace('"Mine"', "3"))
    (folder / "no_toml.toml").write_text("title =")
    (folder / "empty").mkdir()
    (folder / "afile").write_text("")
    (folder / "corrupt.npz").write_bytes(b"PK\x03\x04 and no more")
    x, y = np.ones((5, 3)), np.array([0, 1, 2, 0, 1])
    broken = np.array([[1.0] * 3, [np.nan] * 3] * 3)
    arrays = {
        "nan": {"x": broken, "y": np.arange(6) % 2},
        "nan64": {"x": np.full((2, 64), np.inf)},
        "empty": {"x": np.zeros((0, 3)), "y": np.zeros(0, int)},
        "negative": {"x": x, "y": y - 1},
        "gaps": {"x": x, "y": np.array([0, 10**9, 0, 0, 0])},
        "floats": {"x": x, "y": y.astype(float)},
        "lengths": {"x": x, "y": y[:4]},
        "nameless": {"a": x, "b": y},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    (folder / "wrong.json").write_text(json.dumps([TRAINED, *(words for words, _, _ in WRONG)]))
    process = start(SCRIPT, folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    (status, said, _), *answers = json.loads((folder / "answers.json").read_text())
    assert status == 0, said
    return folder, dict(zip([" ".join(words) for words, _, _ in WRONG], answers, strict=True))


@pytest.mark.parametrize(("words", "status", "says"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_wrong_input_gets_one_line_and_its_exit_status(wrong_answers, words, status, says):
    got, out, err = wrong_answers[1][" ".join(words)]
    assert got == status, f"{got}\n{err}"
    assert err.startswith("infohebb: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert says in err
    assert "Traceback" not in out + err


def test_wrong_input_writes_no_record_and_leaves_earlier_results(wrong_answers):
    folder, _ = wrong_answers
    records = list(folder.rglob("seed*.json"))
    assert [str(path.relative_to(folder)) for path in records] == [f"{FOLDER}/seed0.json"]
    assert json.loads(records[0].read_text())["config"]["training"]["epochs"] == 1
    assert not [path for path in folder.rglob("*") if ".part" in path.name]
    assert not (folder / "predictions.npz").exists()
    assert not list(folder.glob("*.html"))


def test_debug_shows_the_traceback(python):
    answer = python(command_code("--debug", "run", "kib/smok"))
    assert answer.status == 1
    assert "Traceback" in answer.err
    assert answer.err.strip().splitlines()[-1].startswith("infohebb.errors.UnknownNameError: unknown recipe 'kib/smok'")


def test_words_that_typer_refuses_are_usage_errors(command):
    for words in (["rum"], ["run", "kib/smoke", "--sed", "3"], ["run"], ["run", "kib/smoke", "--epochs", "many"]):
        answer = command(*words)
        assert answer.status == 2
        assert "Traceback" not in answer.err
        assert "Error" in answer.err


def test_errors_of_the_program_itself_are_not_hidden(monkeypatch, nowhere):
    def bug(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("infohebb.experiments.run.run_recipe", bug)
    with pytest.raises(ZeroDivisionError):
        main(["run", "kib/smoke"])

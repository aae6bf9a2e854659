"""Ordinary slips: what a user sees of each, in a process without the shape checks of the tests."""

import json

import pytest

from processes import start

# One process for all, since torch takes seconds.
SCRIPT = """
import json, numpy, torch, warnings
from infohebb import *
from infohebb.errors import UsageError
from infohebb.networks.plain import MLP, DivisiveNorm
from infohebb.training import Checkpoints, Diagnose
x, y = torch.randn(12, 8), torch.arange(12) % 2
make = lambda **options: MLP(8, 2, **options)
def go(network=make(), rule=LastLayer(), data=(x, y), **options):
    return train(network, rule, data, progress=False, **options)
learn = lambda **options: Learner(make(), KernelizedBottleneck(**options))
fits = lambda **options: fit(Learner(make(), LastLayer()), (x, y), **{"epochs": 1, "progress": False, **options})
answers = {}
for slip in json.load(open("slips.json")):
    try:
        answers[slip] = f"nothing: {eval(slip)}"
    except UsageError as error:
        answers[slip] = f"{type(error).__name__}: {error}"
    except Exception as error:
        answers[slip] = f"raw {type(error).__name__}: {error}"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    go(optimizer={"lr": {"readout": 0.1}})
answers["old name"] = f"{caught[0].filename}: {caught[0].message}"
json.dump(answers, open("answers.json", "w"))
"""
MADE = "give a torch module that is made, such as MLP()"
SLIPS = {
    "go(data=(x, y * 0))": "LabelError: all labels are of one class, so there is nothing to tell apart; give two",
    "go(optimizer='adam')": 'WrongTypeError: optimizer = \'adam\': give a dict such as {"name": "adam", "lr": 0.001}',
    "go(optimizer=torch.optim.Adam)": "WrongTypeError: optimizer = <class 'torch.optim.adam.Adam'>: give a dict",
    "go(optimizer={'name': torch.optim.Adam})": "UnknownNameError: unknown optimizer \"<class 'torch.optim.adam.Adam'>",
    "go(rule=Backprop(), optimizer={'name': 'lbfgs'})": "MismatchError: torch's LBFGS computes the loss in its step",
    "go(n := make(), optimizer=torch.optim.LBFGS(n.readout.parameters()))": "MismatchError: torch's LBFGS",
    "go(checkpoints='ck')": "WrongTypeError: checkpoints = 'ck': give infohebb.training.Checkpoints(folder), or None",
    "go(diagnose=2)": "WrongTypeError: diagnose = 2: give infohebb.training.Diagnose(Backprop()), or None",
    "Diagnose(Backprop)": "MismatchError: reference is <class 'infohebb.rules.backprop.Backprop'>; give a rule",
    "Diagnose(Backprop(), every=0)": "WrongTypeError: every = 0: give a whole number of epochs, at least 1",
    "Diagnose(Backprop(), every=True)": "WrongTypeError: every = True: give a whole number of epochs, at least 1",
    "Diagnose(Backprop(), every=1.0)": "WrongTypeError: every = 1.0: give a whole number of epochs, at least 1",
    "go(data=[(x, y)], diagnose=Diagnose(Backprop()))": "MismatchError: no batch can be set apart from a loader",
    "go(batch=2.5)": "WrongTypeError: training.batch = 2.5: give a whole number of at least 1",
    "go(batch=None)": "WrongTypeError: training.batch = None: give a whole number",
    "go(batch='8')": "WrongTypeError: training.batch = '8': give a whole number",
    "go(batch=0)": "EmptyBatchError: batch size 0 holds no samples; give at least 1",
    "go(epochs=True)": "WrongTypeError: training.epochs = True: give a whole number of at least 1",
    "go(order='blokced')": "WrongTypeError: training.order = 'blokced': give random, balanced, blocked or drifting",
    "go(order=['random'])": "WrongTypeError: training.order = ['random']: give random, balanced, blocked or drifting",
    "go(steps_per_sample=0)": "WrongTypeError: training.steps_per_sample = 0: give a whole number of time steps",
    "go(steps_per_sample=2)": "MismatchError: steps_per_sample=2: LastLayer learns from batches, each of which is one",
    "go(order_seed=-1)": "WrongTypeError: training.order_seed = -1: give a whole number of at least 0, or None",
    "go(epoch_samples=1.5)": "WrongTypeError: training.epoch_samples = 1.5: give a whole number of at least 1, or None",
    "go(milestones=5)": "WrongTypeError: training.milestones = 5: give a list of epochs, such as [50, 75]",
    "go(milestones=['5'])": "WrongTypeError: training.milestones = ['5']: give a list of epochs",
    "go(factor=None)": "WrongTypeError: training.factor = None: give a number above 0",
    "go(powers=0.9)": "WrongTypeError: training.powers = 0.9: give pairs of a first epoch",
    "go(powers=[1, 0.9])": "WrongTypeError: training.powers = [1, 0.9]: give pairs of a first epoch",
    "go(powers=[[0, 0.9]])": "WrongTypeError: training.powers = [[0, 0.9]]: give pairs of a first epoch",
    "go(powers=[[1, 0]])": "WrongTypeError: training.powers = [[1, 0]]: give pairs of a first epoch",
    "go(powers=[[3, 0.9], [2, 0.8]])": "WrongTypeError: training.powers = [[3, 0.9], [2, 0.8]]: give pairs",
    "go(powers=['ab'])": "WrongTypeError: training.powers = ['ab']: give pairs of a first epoch",
    "go(factor_every=-1)": "WrongTypeError: training.factor_every = -1: give a whole number of training steps",
    "go(factor_every=1.5)": "WrongTypeError: training.factor_every = 1.5: give a whole number of training steps",
    "go(optimizer={'lr': [0.1, 0.2]})": "WrongTypeError: optimizer.lr is [0.1, 0.2]; it must be a number",
    "go(optimizer={'name': 'sgd_then_decay', 'decay_follows_rate': 'no'})": (
        "WrongTypeError: optimizer: SGDThenDecay says: decay_follows_rate is 'no'; give true or false"
    ),
    "go(optimizer={'name': 'adam_epsilon_hat', 'eps': 'a'})": "WrongTypeError: optimizer: AdamEpsilonHat says: ",
    "go(optimizer={'lr': {'unit': 1}})": "UnknownNameError: unknown role or parameter 'unit'; did you mean 'units'?",
    "go(optimizer={'name': 'muon'})": "WrongTypeError: optimizer: Muon says: ",
    "go(epochs=0)": "WrongTypeError: training.epochs = 0: give a whole number of at least 1",
    "go(factor=0.0)": "WrongTypeError: training.factor = 0.0: give a number above 0",
    "go(factor=float('nan'))": "WrongTypeError: training.factor = nan: give a number above 0",
    "go(seed=2**64)": "WrongTypeError: seed = 18446744073709551616: give a whole number of 64 bits, or None",
    "go(device='abacus')": "MismatchError: device 'abacus' cannot be used here; take cpu or auto",
    "go(head='fc')": "UnknownNameError: unknown head 'fc'; known: ",
    "fits(order='sorted')": "UnknownNameError: unknown order 'sorted'; known: balanced, blocked, drifting, random",
    "fits(batch='8')": "WrongTypeError: batch='8': give a whole number of at least 1",
    "go(precision=16)": "WrongTypeError: training.precision = 16: give fp32 or bf16",
    "go(held_out=None)": "WrongTypeError: held_out = None: give test or validation",
    "go(device=None)": "WrongTypeError: device = None: give auto, cpu or cuda",
    "go(seed='a')": "WrongTypeError: seed = 'a': give a whole number of 64 bits, or None",
    "go(network=None)": f"MismatchError: network is None; {MADE}",
    "go(rule=LastLayer)": "MismatchError: rule is <class 'infohebb.rules.last_layer.LastLayer'>; give a rule",
    "go(data=None)": "MismatchError: data is a NoneType; give (x, y), a DataSet or a loader of batches",
    "go(data=(x, y, x))": "MismatchError: data is a tuple of 3 arrays; give (x, y)",
    "predict(make(), x, batch=0)": "EmptyBatchError: batch size 0 holds no samples; give at least 1",
    "predict(make(), x, batch='8')": "WrongTypeError: batch = '8': give a whole number of at least 1",
    "predict(None, x)": f"MismatchError: network is None; {MADE}",
    "evaluate(MLP, (x, y))": f"MismatchError: network is <class 'infohebb.networks.plain.mlp.MLP'>; {MADE}",
    "make(widths=16)": "MismatchError: widths 16: give whole numbers, as in MLP(64, 10, widths=(16,))",
    "make(widths='16')": "MismatchError: widths '16': give whole numbers",
    "make(widths=(8.0,))": "MismatchError: widths (8.0,): give whole numbers",
    "MLP(8, None)": "MismatchError: outputs (None,): give whole numbers",
    "MLP(8.0)": "MismatchError: inputs (8.0,): give whole numbers",
    "make(slope='a')": "MismatchError: slope 'a' of leaky ReLU: give a number above 0",
    "make(dropout='a')": "MismatchError: dropout rate 'a' is no probability below 1",
    "make(nonlinearity=None)": "MismatchError: nonlinearity None must be a name, such as 'relu'",
    "make(divisive_norm=4)": "MismatchError: divisive_norm takes groups, power and delta, not 4",
    "DivisiveNorm(groups=4.0)": "GroupingError: 4.0 groups; give a whole number, 2 or more",
    "DivisiveNorm(power='a')": "GroupingError: power 'a' of the groups' variance",
    "DivisiveNorm(delta=None)": "GroupingError: delta None; give a number of 0 or more",
    "learn(sigma='a')": "MismatchError: sigma 'a': give a width above 0",
    "learn(gamma=None)": "MismatchError: gamma None: give a finite number",
    "learn(objective=None)": "UnknownNameError: unknown objective 'None'; known: hsic",
    "learn(groups='4')": "GroupingError: layers.0: '4' groups do not cut a layer of 256 neurons",
    "learn(groups=4.0)": "GroupingError: layers.0: 4.0 groups do not cut",
    "learn(kernel=None)": "MismatchError: kernel is None; give a name or an infohebb.functional.kernels.Kernel",
}
NUMPY = (
    "go(epochs=numpy.int64(1), batch=numpy.int64(4), milestones=[numpy.int64(1)], factor=numpy.float32(0.5),"
    " powers=[(numpy.int64(1), numpy.float32(0.5))],"
    " order_seed=numpy.int64(1), epoch_samples=numpy.int32(7), steps_per_sample=numpy.int8(1),"
    " seed=numpy.int64(0), checkpoints=Checkpoints('ck'), diagnose=Diagnose(LastLayer(), numpy.int64(1)))"
    " | go(epochs=1, factor_every=numpy.int64(2)) | {'of': len(predict(make(), x, batch=numpy.int64(5)))}"
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slips")
    (folder / "slips.json").write_text(json.dumps([*SLIPS, NUMPY]))
    process = start(SCRIPT, folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_answered_by_one_line_that_names_the_mend(answers, slip):
    assert answers[slip].startswith(SLIPS[slip])
    assert "\n" not in answers[slip]


def test_numbers_of_numpy_are_no_slip(answers):
    assert answers[NUMPY].startswith("nothing: {'epoch': [1],")


def test_a_warning_of_an_old_name_points_to_the_users_line(answers):
    assert answers["old name"].startswith("<string>: optimizer.lr.readout is now optimizer.lr.head; the old name goes")

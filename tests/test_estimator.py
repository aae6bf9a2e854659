"""LocalClassifier, held to scikit-learn's own checks and to what its docstring says."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from infohebb import Backprop, KernelizedBottleneck, LastLayer, LearningRule, LocalClassifier
from infohebb.errors import GroupingError, MismatchError, NonFiniteLossError, UnknownNameError, WrongTypeError
from infohebb.estimator import largest_groups
from infohebb.functional import kernels
from infohebb.networks import Layered

RULES = [KernelizedBottleneck(), Backprop(), LastLayer()]
X, Y = load_iris(return_X_y=True)


def small(**settings):
    return LocalClassifier(**{"hidden": (16,), "epochs": 2, "random_state": 0, **settings})


def state(model):
    return {key: value.clone() for key, value in model.network_.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def parts(name, seed=0):
    data = {
        "iris": (X, Y),
        "digits": load_digits(return_X_y=True),
        "moons": make_moons(400, noise=0.2, random_state=0),
    }
    return train_test_split(*data[name], random_state=seed, stratify=data[name][1])


def checks_that_run(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(estimator, on_fail=None)
    return {result["check_name"]: result["status"] for result in results}


def test_scikit_learns_own_checks_all_pass_without_an_exemption():
    mine = checks_that_run(LocalClassifier())
    assert {status for status in mine.values()} == {"passed", "skipped"}
    reference = checks_that_run(MLPClassifier(max_iter=5))
    assert {name for name, status in mine.items() if status == "skipped"} <= {
        name for name, status in reference.items() if status == "skipped"
    }
    left_out = {name for name in reference if name not in mine}
    assert {name for name in left_out if "sample_weight" not in name and "multi" not in name} == set()


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: type(rule).__name__)
def test_they_pass_with_every_other_rule_too(rule):
    statuses = checks_that_run(LocalClassifier(rule, epochs=20))
    assert set(statuses.values()) == {"passed", "skipped"}


@pytest.mark.parametrize(("data", "least"), [("iris", 0.9), ("digits", 0.95), ("moons", 0.9)])
def test_it_learns_small_data_with_its_defaults(data, least):
    x, x_test, y, y_test = parts(data)
    assert LocalClassifier(random_state=0).fit(x, y).score(x_test, y_test) >= least

"""Deep networks without backpropagation, by local rules derived from information theory."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import infohebb.callbacks as callbacks  # noqa: F401  (loaded by __getattr__)
    from infohebb.estimator import LocalClassifier
    from infohebb.experiments.build import load_network
    from infohebb.learner import Learner, suggest_units
    from infohebb.networks import (
        Block,
        CorInfoMaxNetwork,
        EquilibriumNetwork,
        Layered,
        PredictiveCodingNetwork,
        Residual,
        alone,
        from_sequential,
        side_by_side,
    )
    from infohebb.networks.plain import MLP, ConvNet, DivisiveNorm, LeakyMLP, stack_networks, unstack
    from infohebb.networks.unit import Unit
    from infohebb.rules import (
        Backprop,
        ContrastiveSimilarityMatching,
        CorInfoMax,
        Diagnostics,
        DirectFeedbackAlignment,
        EquilibriumPropagation,
        FeedbackAlignment,
        HSICBottleneck,
        HSICMemory,
        KernelizedBottleneck,
        KernelizedBottleneckOnline,
        LastLayer,
        LayerwiseClassification,
        LearningRule,
        PredictiveCoding,
        PredictiveCodingNudge,
        SignSymmetry,
    )
    from infohebb.rules.contract import LocalError, Locality, LocalRule, Signal, Step
    from infohebb.testing import check_rule
    from infohebb.training import evaluate, fit, predict, train

__version__ = "0.1.0"
_HOME = {
    "Backprop": "infohebb.rules",
    "Block": "infohebb.networks",
    "ContrastiveSimilarityMatching": "infohebb.rules",
    "ConvNet": "infohebb.networks.plain",
    "CorInfoMax": "infohebb.rules",
    "CorInfoMaxNetwork": "infohebb.networks",
    "Diagnostics": "infohebb.rules",
    "DirectFeedbackAlignment": "infohebb.rules",
    "DivisiveNorm": "infohebb.networks.plain",
    "EquilibriumNetwork": "infohebb.networks",
    "EquilibriumPropagation": "infohebb.rules",
    "FeedbackAlignment": "infohebb.rules",
    "HSICBottleneck": "infohebb.rules",
    "HSICMemory": "infohebb.rules",
    "KernelizedBottleneck": "infohebb.rules",
    "KernelizedBottleneckOnline": "infohebb.rules",
    "LastLayer": "infohebb.rules",
    "Layered": "infohebb.networks",
    "LayerwiseClassification": "infohebb.rules",
    "LeakyMLP": "infohebb.networks.plain",
    "Learner": "infohebb.learner",
    "LearningRule": "infohebb.rules",
    "LocalClassifier": "infohebb.estimator",
    "LocalError": "infohebb.rules.contract",
    "LocalRule": "infohebb.rules.contract",
    "Locality": "infohebb.rules.contract",
    "MLP": "infohebb.networks.plain",
    "PredictiveCoding": "infohebb.rules",
    "PredictiveCodingNetwork": "infohebb.networks",
    "PredictiveCodingNudge": "infohebb.rules",
    "Residual": "infohebb.networks",
    "SignSymmetry": "infohebb.rules",
    "Signal": "infohebb.rules.contract",
    "Step": "infohebb.rules.contract",
    "Unit": "infohebb.networks.unit",
    "alone": "infohebb.networks",
    "check_rule": "infohebb.testing",
    "evaluate": "infohebb.training",
    "fit": "infohebb.training",
    "from_sequential": "infohebb.networks",
    "load_network": "infohebb.experiments.build",
    "predict": "infohebb.training",
    "side_by_side": "infohebb.networks",
    "stack_networks": "infohebb.networks.plain",
    "suggest_units": "infohebb.learner",
    "train": "infohebb.training",
    "unstack": "infohebb.networks.plain",
}
_MODULES = ("callbacks",)
__all__ = [
    "MLP",
    "Backprop",
    "Block",
    "ContrastiveSimilarityMatching",
    "ConvNet",
    "CorInfoMax",
    "CorInfoMaxNetwork",
    "Diagnostics",
    "DirectFeedbackAlignment",
    "DivisiveNorm",
    "EquilibriumNetwork",
    "EquilibriumPropagation",
    "FeedbackAlignment",
    "HSICBottleneck",
    "HSICMemory",
    "KernelizedBottleneck",
    "KernelizedBottleneckOnline",
    "LastLayer",
    "Layered",
    "LayerwiseClassification",
    "LeakyMLP",
    "Learner",
    "LearningRule",
    "LocalClassifier",
    "LocalError",
    "LocalRule",
    "Locality",
    "PredictiveCoding",
    "PredictiveCodingNetwork",
    "PredictiveCodingNudge",
    "Residual",
    "SignSymmetry",
    "Signal",
    "Step",
    "Unit",
    "alone",
    "check_rule",
    "evaluate",
    "fit",
    "from_sequential",
    "load_network",
    "predict",
    "side_by_side",
    "stack_networks",
    "suggest_units",
    "train",
    "unstack",
]


def __getattr__(name: str) -> Any:
    """Load a public name on its first use: importing infohebb does not import torch (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"infohebb.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'infohebb' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])

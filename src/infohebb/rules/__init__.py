"""THE REGISTRY: one import line per rule. A name in a recipe or on the command line is a name imported here."""

import inspect

from infohebb.rules.backprop import Backprop
from infohebb.rules.base import Diagnostics, LearningRule
from infohebb.rules.contrastive_similarity_matching import ContrastiveSimilarityMatching
from infohebb.rules.corinfomax import CorInfoMax
from infohebb.rules.direct_feedback_alignment import DirectFeedbackAlignment
from infohebb.rules.equilibrium_propagation import EquilibriumPropagation
from infohebb.rules.feedback_alignment import FeedbackAlignment
from infohebb.rules.hsic_bottleneck import HSICBottleneck
from infohebb.rules.hsic_memory import HSICMemory
from infohebb.rules.kernelized_bottleneck import KernelizedBottleneck
from infohebb.rules.kernelized_bottleneck_online import KernelizedBottleneckOnline
from infohebb.rules.last_layer import LastLayer
from infohebb.rules.layered import LayeredRule
from infohebb.rules.layerwise_classification import LayerwiseClassification
from infohebb.rules.predictive_coding import PredictiveCoding
from infohebb.rules.predictive_coding_nudge import PredictiveCodingNudge
from infohebb.rules.settling import SettlingRule
from infohebb.rules.sign_symmetry import SignSymmetry
from infohebb.rules.transport import TransportRule

__all__ = [
    "Backprop",
    "ContrastiveSimilarityMatching",
    "CorInfoMax",
    "Diagnostics",
    "DirectFeedbackAlignment",
    "EquilibriumPropagation",
    "FeedbackAlignment",
    "HSICBottleneck",
    "HSICMemory",
    "KernelizedBottleneck",
    "KernelizedBottleneckOnline",
    "LastLayer",
    "LayeredRule",
    "LayerwiseClassification",
    "LearningRule",
    "PredictiveCoding",
    "PredictiveCodingNudge",
    "SettlingRule",
    "SignSymmetry",
    "TransportRule",
]


def registry() -> dict[str, type[LearningRule]]:
    """Every rule imported above that can be built, by its name."""
    classes = {name: value for name, value in globals().items() if isinstance(value, type)}
    return {
        name: rule for name, rule in classes.items() if issubclass(rule, LearningRule) and not inspect.isabstract(rule)
    }

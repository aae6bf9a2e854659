"""Floor 3: a rule and any network, trained in any loop."""

from infohebb.learner.core import Learner
from infohebb.learner.records import LayerRecord
from infohebb.learner.suggestion import suggest_units

__all__ = ["LayerRecord", "Learner", "suggest_units"]

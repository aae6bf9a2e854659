"""The contract suite of rules that a Learner drives, on plain networks."""

from infohebb.testing.contract.suite import PROMISES, certify, check_with_learner

__all__ = ["PROMISES", "certify", "check_with_learner"]

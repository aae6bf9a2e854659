"""Rules by their path: "module:Class"."""

import importlib
import sys

from infohebb.errors import UnknownNameError, UsageError
from infohebb.rules import LearningRule, contract


def import_rule(path: str) -> type[LearningRule] | type[contract.LearningRule]:
    """Return the class that "module:Class" names, modules of the working folder included.

    Raises UsageError, UnknownNameError.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise UsageError(f"{path!r} is not of the form module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"cannot import {module!r}: {error}; run from the folder that holds it") from error
    except (Exception, SystemExit) as error:
        words = " ".join(str(error).split())[:150]
        raise UsageError(
            f"{module} cannot be imported: {type(error).__name__}: {words}; mend the module so that importing it "
            "only defines the rule"
        ) from error
    if found is None:
        raise UnknownNameError(f"{module} has no {name}; give the name of a class that is in it")
    if not (isinstance(found, type) and issubclass(found, (LearningRule, contract.LearningRule))):
        raise UsageError(f"{path} is no class derived from infohebb.LearningRule or infohebb.LocalRule")
    return found

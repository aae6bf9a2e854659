import pytest
from recipe_texts import TINY

from infohebb.experiments.recipe import parse_recipe
from infohebb.experiments.run import Options, run_recipe


@pytest.fixture
def go(nowhere):
    """Run the tiny recipe into `nowhere`/results; keyword arguments are options."""

    def call(text=TINY, name="tiny", **options):
        settings = {"out": nowhere / "results", "device": "cpu", "seeds": [0], **options}
        return run_recipe(name, parse_recipe(text.encode(), "tiny.toml"), Options(**settings)).records

    return call

import shutil

import pytest
from report_records import make_record, save


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Rows with one and three seeds, with and without pictures, backprop, a validation run, errors, an awkward name."""
    out = tmp_path_factory.mktemp("results")
    for seed, score in enumerate((98.0, 98.1, 98.3)):
        save(out, make_record(seed=seed, score=score), pictures=seed == 1)
    save(out, make_record("mnist/backprop/plain", score=98.7, published=98.6, blocks=()))
    save(out, make_record("cifar10/gaussian/grouping+divnorm", score=45.0, published=46.4, epochs=1))
    save(out, make_record("cifar10/backprop/plain", score=60.0, published=None, blocks=()))
    save(out, make_record(split="validation", score=97.0), pictures=True)
    errors = {"score": 0.0213, "train": 0.02, "published": 0.02, "quantity": "error"}
    save(out, make_record("waves/settling/&<script>", recipe="own/errors", **errors))
    return out


@pytest.fixture
def folder(results, tmp_path):
    """The same, for a test to change."""
    return shutil.copytree(results, tmp_path / "results")

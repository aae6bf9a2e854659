import pytest

from infohebb.data import fetch, load, names
from infohebb.data.sources import SOURCES
from infohebb.errors import UnknownNameError


def test_names():
    images = ["cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist"]
    assert names() == sorted([*images, "blobs", "digits", "linear", "linear_255", "xor", "xor_255"])
    assert set(SOURCES) == set(images)


@pytest.mark.parametrize("name", ["blobs", "digits"])
def test_embedded_sets_need_no_files(name, own_cache):
    data = load(name)
    assert data.name == name
    assert data.test is not None
    assert load(name, test=False).test is None
    assert fetch(name) == []
    assert not own_cache.exists()


def test_image_sets_are_found_in_the_chosen_folder(idx_data, monkeypatch):
    assert load("mnist", idx_data, test=False).name == "mnist"
    monkeypatch.setenv("INFOHEBB_DATA", str(idx_data))
    data = load("fashion_mnist")
    assert data.name == "fashion_mnist"
    assert data.test is not None


def test_fetch_returns_what_is_there(idx_data):
    assert [path.name for path in fetch("mnist", idx_data)] == [*SOURCES["mnist"].train, *SOURCES["mnist"].test]


@pytest.mark.parametrize("function", [load, fetch])
def test_an_unknown_name_gets_the_nearest(function):
    with pytest.raises(UnknownNameError, match=r"unknown data set 'minst'; did you mean 'mnist'\?"):
        function("minst")

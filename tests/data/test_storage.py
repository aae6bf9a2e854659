import errno
import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path

import pooch
import pytest

from infohebb.data import load, load_split
from infohebb.data.sources import SOURCES
from infohebb.data.storage import fetch_files, find_files
from infohebb.errors import CorruptFileError, MissingDataError, NoSpaceError

NOBODY = "http://127.0.0.1:9/"  # the discard port: refuses the connection


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def publish(monkeypatch: pytest.MonkeyPatch, name: str, url: str, **changes: object) -> None:
    monkeypatch.setitem(SOURCES, name, SOURCES[name]._replace(url=url, **changes))


@pytest.fixture
def mnist_server(published, idx_data, monkeypatch) -> Path:
    """The real MNIST files, published on this machine; the folder that they are in."""
    folder, url = published
    for path in (idx_data / "MNIST" / "raw").iterdir():
        shutil.copy(path, folder)
    publish(monkeypatch, "mnist", url)
    return folder


def test_files_are_downloaded_into_the_cache_once(mnist_server, monkeypatch, own_cache):
    data = load("mnist")
    assert data.test is not None
    assert (len(data.train.targets), len(data.test.targets)) == (60_000, 10_000)
    assert files_below(own_cache) == {f"MNIST/raw/{path.name}" for path in mnist_server.iterdir()}
    publish(monkeypatch, "mnist", NOBODY)
    assert load("mnist").train.targets.tolist() == data.train.targets.tolist()


def test_without_the_test_set_it_is_not_downloaded(mnist_server, own_cache):
    assert load("mnist", test=False).test is None
    assert {Path(name).name.split("-")[0] for name in files_below(own_cache)} == {"train"}


def test_fetch_goes_where_the_user_says(mnist_server, tmp_path, own_cache, monkeypatch):
    chosen, from_environment = tmp_path / "chosen", tmp_path / "environment"
    monkeypatch.setenv("INFOHEBB_DATA", str(from_environment))
    for root, paths in ((chosen, fetch_files("mnist", chosen)), (from_environment, fetch_files("mnist"))):
        assert [path.parent for path in paths] == [root / "MNIST" / "raw"] * 4
        assert all(path.read_bytes() == (mnist_server / path.name).read_bytes() for path in paths)
    assert files_below(own_cache) == set()


def test_fetch_keeps_good_files_and_replaces_wrong_ones(mnist_server, tmp_path):
    good, wrong, *_ = fetch_files("mnist", tmp_path / "data")
    wrong.write_bytes(b"something else")
    stamp = good.stat().st_mtime_ns
    fetch_files("mnist", tmp_path / "data")
    assert good.stat().st_mtime_ns == stamp
    assert wrong.read_bytes() == (mnist_server / wrong.name).read_bytes()


def test_a_download_with_another_checksum_leaves_nothing_behind(mnist_server, own_cache):
    path = mnist_server / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptFileError, match=r"train-images-idx3-ubyte\.gz does not have its published MD5"):
        load("mnist")
    assert files_below(own_cache) == set()


def test_a_wrong_download_leaves_the_old_file_alone(mnist_server, tmp_path):
    (mnist_server / "train-images-idx3-ubyte.gz").write_bytes(b"new and wrong")
    old = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with pytest.raises(CorruptFileError, match="published MD5"):
        fetch_files("mnist", tmp_path / "data")
    assert old.read_bytes() == b"old"
    assert len(files_below(tmp_path / "data")) == 1


def test_no_network_says_what_to_put_where(monkeypatch, own_cache):
    publish(monkeypatch, "fashion_mnist", NOBODY)
    with pytest.raises(MissingDataError) as caught:
        load("fashion_mnist")
    message = str(caught.value)
    folder = own_cache / "FashionMNIST" / "raw"
    assert f"cannot download {NOBODY}train-images-idx3-ubyte.gz to {folder / 'train-images-idx3-ubyte.gz'}" in message
    assert f"labels-idx1-ubyte.gz from {NOBODY} into {folder}" in message
    assert message.endswith("or run: infohebb data fetch fashion_mnist")
    assert "\n" not in message
    assert files_below(own_cache) == set()


def test_a_file_that_is_not_published_is_missing(published, idx_data, monkeypatch, own_cache):
    folder, url = published
    for path in (idx_data / "KMNIST" / "raw").iterdir():
        shutil.copy(path, folder)
    publish(monkeypatch, "kmnist", url)
    with pytest.raises(MissingDataError, match=r"cannot download .*train-images-idx3-ubyte\.gz .*HTTPError"):
        load("kmnist")
    assert len(load_split("kmnist", "test").targets) == 10_000


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_nothing_is_downloaded_over_the_users_choice(by, mnist_server, tmp_path, monkeypatch, own_cache):
    chosen = tmp_path / "my data"
    if by == "environment":
        monkeypatch.setenv("INFOHEBB_DATA", str(chosen))
    with pytest.raises(MissingDataError) as caught:
        load("mnist", chosen if by == "argument" else None)
    message = str(caught.value)
    assert f"mnist: {chosen / 'MNIST' / 'raw'} lacks train-images-idx3-ubyte.gz," in message
    assert message.count("train-images") == 1
    option = f" --data-dir '{chosen}'" if by == "argument" else ""
    assert message.endswith(f"or run: infohebb data fetch mnist{option}")
    assert not chosen.exists()
    assert files_below(own_cache) == set()


def test_the_published_file_is_preferred_to_an_unpacked_one(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train-labels-idx1-ubyte.gz"):
        (folder / name).touch()
    ((images, labels),) = find_files("mnist", ["train"], tmp_path)
    assert (images.name, labels.name) == ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz")


def test_the_cache_is_the_users_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("INFOHEBB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(pooch.os_cache("infohebb")) / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in SOURCES["mnist"].train:
        (folder / name).touch()
    ((images, _),) = find_files("mnist", ["train"])
    assert images.parent == folder


def test_a_full_disk_is_said_to_be_full(mnist_server, tmp_path, monkeypatch):
    def fail(self, url, output, keeper):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", fail)
    with pytest.raises(NoSpaceError, match="no space left"):
        fetch_files("mnist", tmp_path)
    assert files_below(tmp_path / "MNIST") == set()


def archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None, level: int = 1) -> str:
    """Write a .tar.gz and return its MD5."""
    with tarfile.open(path, "w:gz", compresslevel=level) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"


def test_cifar10_is_downloaded_unpacked_and_read(published, cifar_data, monkeypatch, own_cache):
    folder, url = published
    source = SOURCES["cifar10"]
    members = {f"{FOLDER}/{name}": (cifar_data / FOLDER / name).read_bytes() for name in source.train | source.test}
    checksum = archive(folder / ARCHIVE, {f"{FOLDER}/batches.meta": b"names", **members}, level=0)
    publish(monkeypatch, "cifar10", url, archive=(ARCHIVE, checksum))
    data = load("cifar10")
    assert data.test is not None
    assert (len(data.train.targets), len(data.test.targets)) == (50_000, 10_000)
    assert files_below(own_cache) == {ARCHIVE, *members}
    publish(monkeypatch, "cifar10", NOBODY)
    assert [path.name for path in fetch_files("cifar10")] == [Path(name).name for name in members]


@pytest.fixture
def small_archive(published, monkeypatch):
    """Publishes an archive of the given members, of which `first` and `second` are expected."""
    folder, url = published

    def publish_archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
        checksum = archive(folder / ARCHIVE, members, links)
        expected = {"train": {"first": md5(b"1")}, "test": {"second": md5(b"2")}}
        publish(monkeypatch, "cifar10", url, archive=(ARCHIVE, checksum), **expected)

    return publish_archive


GOOD = {f"{FOLDER}/first": b"1", f"{FOLDER}/second": b"2"}


def test_only_the_expected_members_are_unpacked(small_archive, tmp_path):
    root = tmp_path / "root"
    elsewhere = tmp_path / "elsewhere"
    hostile = {f"{FOLDER}/../../escaped": b"x", str(elsewhere): b"x", "first": b"x", f"{FOLDER}/third": b"x"}
    small_archive({**hostile, **GOOD}, links={f"{FOLDER}/fourth": "/etc/passwd"})
    assert fetch_files("cifar10", root) == [root / FOLDER / "first", root / FOLDER / "second"]
    assert files_below(root) == {ARCHIVE, *GOOD}
    assert not elsewhere.exists()
    assert not (tmp_path / "escaped").exists()


def test_a_link_in_the_place_of_a_file_is_not_followed(small_archive, tmp_path):
    small_archive({f"{FOLDER}/second": b"2"}, links={f"{FOLDER}/first": "/etc/passwd"})
    with pytest.raises(CorruptFileError, match=f"lacks {FOLDER}/first"):
        fetch_files("cifar10", tmp_path)
    assert not (tmp_path / FOLDER / "first").exists()


def test_a_member_with_another_checksum_is_refused(small_archive, tmp_path):
    small_archive({**GOOD, f"{FOLDER}/first": b"one"})
    with pytest.raises(CorruptFileError, match="first in the archive does not have its published MD5"):
        fetch_files("cifar10", tmp_path / "root")
    assert files_below(tmp_path / "root") == {ARCHIVE}


def test_the_users_own_archive_is_unpacked_without_network(small_archive, published, tmp_path, monkeypatch):
    small_archive(GOOD)
    shutil.copy(published[0] / ARCHIVE, tmp_path)
    publish(monkeypatch, "cifar10", NOBODY)
    with pytest.raises(MissingDataError) as caught:
        find_files("cifar10", ["train"], tmp_path)
    assert f"put {ARCHIVE} from {NOBODY} into {tmp_path} and run: infohebb data fetch cifar10" in str(caught.value)
    fetch_files("cifar10", tmp_path)
    assert [len(paths) for paths in find_files("cifar10", ["train", "test"], tmp_path)] == [1, 1]


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b\x08\x00 cut off"])
def test_an_archive_that_is_none(published, tmp_path, monkeypatch, content):
    folder, url = published
    (folder / ARCHIVE).write_bytes(content)
    publish(monkeypatch, "cifar10", url, archive=(ARCHIVE, md5(content)))
    with pytest.raises(CorruptFileError, match="cannot be unpacked"):
        fetch_files("cifar10", tmp_path / "root")

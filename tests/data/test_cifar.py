import os
import pickle
import resource
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infohebb.data.cifar import CIFAR100, read_cifar_batch, read_cifar_split
from infohebb.errors import CorruptFileError, MissingDataError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
LABELS = [4, 0, 9]
PROTOCOL = 4  # NumPy spells its functions' module as it does today; the published files spell it as in 2009


def batch(data: object = PIXELS, labels: object = LABELS) -> bytes:
    return pickle.dumps({b"data": data, b"labels": labels, b"batch_label": b"a test"}, PROTOCOL)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_batch_is_read(tmp_path):
    split = read_cifar_batch(write(tmp_path / "batch", batch()))
    assert split.inputs.dtype == torch.uint8
    assert split.inputs[1, 2, 31, 30] == PIXELS[1, 2 * 1024 + 31 * 32 + 30]
    assert torch.equal(split.inputs.flatten(1), torch.from_numpy(PIXELS))
    assert split.targets.tolist() == LABELS
    assert split.targets.dtype == torch.int64


def test_a_batch_of_a_hundred_classes_is_read_by_its_fine_labels(tmp_path):
    content = {b"data": PIXELS, b"fine_labels": [99, 0, 10], b"coarse_labels": [19, 0, 1], b"filenames": [b"a"] * 3}
    path = write(tmp_path / "train", pickle.dumps(content, PROTOCOL))
    split = read_cifar_split(path, labelling=CIFAR100)
    assert torch.equal(split.inputs.flatten(1), torch.from_numpy(PIXELS))
    assert split.targets.tolist() == [99, 0, 10]
    with pytest.raises(CorruptFileError, match="one label for each of its 3 images"):
        read_cifar_batch(path)
    path.write_bytes(pickle.dumps({**content, b"fine_labels": [100, 0, 10]}, PROTOCOL))
    with pytest.raises(CorruptFileError, match=r"whole numbers in 0 \.\. 99"):
        read_cifar_batch(path, CIFAR100)
    path.write_bytes(pickle.dumps({**content, b"more": Call(os.system, "mkdir ran")}, PROTOCOL))
    with pytest.raises(CorruptFileError, match="which no image needs"):
        read_cifar_batch(path, CIFAR100)


def test_batches_follow_each_other(tmp_path):
    first = write(tmp_path / "first", batch())
    second = write(tmp_path / "second", batch(PIXELS[::-1].copy(), LABELS[::-1]))
    split = read_cifar_split(first, second)
    assert split.targets.tolist() == [4, 0, 9, 9, 0, 4]
    assert torch.equal(split.inputs[5], split.inputs[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch(PIXELS[:, :3071].copy()), "rows of 3072 bytes"),
        (batch(PIXELS[:0]), "rows of 3072 bytes"),
        (batch(PIXELS.astype(np.int16)), "rows of 3072 bytes"),
        (batch(np.asfortranarray(PIXELS)), "rows of 3072 bytes"),
        (batch(PIXELS.tobytes()), "rows of 3072 bytes"),
        (batch(None), "rows of 3072 bytes"),
        (batch(labels=[1, 2]), "one label for each of its 3 images"),
        (batch(labels=None), "one label for each of its 3 images"),
        (batch(labels=[1, 2, 10]), r"whole numbers in 0 \.\. 9"),
        (batch(labels=[1, 2, -1]), r"whole numbers in 0 \.\. 9"),
        (batch(labels=[1, 2, 0.5]), r"whole numbers in 0 \.\. 9"),
        (pickle.dumps([1, 2]), "no table of data and labels"),
        (pickle.dumps({b"data": PIXELS}, PROTOCOL), "one label for each"),
        (batch()[:5000], "only [0-9]+ remain"),
        (b"", "exhausted before seeing STOP"),
        (b"<html>404 not found</html>", "is not the published file"),
    ],
)
def test_files_that_are_not_a_batch(tmp_path, content, message):
    path = write(tmp_path / "batch", content)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_cifar_batch(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("hidden", [False, True])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path, monkeypatch, protocol, hidden):
    monkeypatch.chdir(tmp_path)
    for function in (os.system, eval, subprocess.getoutput):
        call = Call(function, "__import__('os').mkdir('ran')" if function is eval else "mkdir ran")
        content = {b"data": PIXELS, b"labels": LABELS, b"more": [call]} if hidden else call
        path = write(tmp_path / "batch", pickle.dumps(content, protocol))
        with pytest.raises(CorruptFileError, match="which no image needs"):
            read_cifar_batch(path)
        assert not Path("ran").exists()
    pickle.loads(path.read_bytes())  # noqa: S301 (shows that the file is hostile indeed)
    assert Path("ran").exists()


@pytest.mark.parametrize(
    "greedy",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",  # the memo's place 4294967295
        b"\x80\x02]p4000000000\n.",
        b"\x80\x05\x96" + b"\xff" * 4 + bytes(4) + b"only this.",  # a bytearray of 4 GB
        b"\x80\x04\x8e" + b"\xff" * 4 + bytes(4) + b"only this.",  # bytes, the same
    ],
)
def test_a_small_file_cannot_ask_for_much_memory(tmp_path, greedy):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptFileError, match=r"numbers an object|bytes"):
        read_cifar_batch(write(tmp_path / "batch", greedy))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_numpys_other_functions_are_refused(tmp_path):
    path = write(tmp_path / "batch", pickle.dumps(Call(np.load, "elsewhere.npy")))
    with pytest.raises(CorruptFileError, match="asks for 'load' of 'numpy"):
        read_cifar_batch(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingDataError, match=r"cannot read .*nowhere \(No such file"):
        read_cifar_batch(tmp_path / "nowhere")


SMALL = batch(PIXELS[:1], [3])
HEADER = [place for place in range(len(SMALL)) if not 200 < place < len(SMALL) - 100]


@given(st.lists(st.tuples(st.sampled_from(HEADER), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_changed_bytes_are_read_or_refused(changes):
    content = bytearray(SMALL)
    for place, value in changes:
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "batch", bytes(content))
        try:
            assert read_cifar_batch(path).inputs.shape == (1, 3, 32, 32)
        except CorruptFileError as error:
            assert str(path) in str(error)

"""Records: one JSON file per row and seed, written once."""

import json

import pytest

from infohebb.errors import CorruptFileError, RecordConflictError
from infohebb.experiments.record import Record, read_record, read_records, record_path, write_record

KEYS = {
    "recipe", "row", "seed", "published", "published_sd", "final", "curves", "config", "versions", "commit", "device",
    "wall_seconds", "peak_memory_bytes", "peak_memory_method", "origin", "overrides", "side_by_side",
}  # fmt: skip


def make(**changes):
    fields = {
        "recipe": "kib/table1",
        "row": "mnist/gaussian/plain",
        "seed": 3,
        "published": None,
        "final": {"test_accuracy": 94.5, "train_accuracy": 99.0},
        "curves": {"epoch": [1], "objective": {"layers.0": {"objective": [-0.1]}}},
        "config": {"rule": {"name": "KernelizedBottleneck"}},
        "versions": {"torch": "2.9"},
        "commit": None,
        "device": "cpu",
        "wall_seconds": 1.5,
        "peak_memory_bytes": 10,
        "peak_memory_method": "guessed",
    }
    return Record(**{**fields, **changes})


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    record = make()
    path = write_record(record, record_path(tmp_path, record.recipe, record.row, record.seed))
    assert path == tmp_path / "kib" / "table1" / "mnist" / "gaussian" / "plain" / "seed3.json"
    assert set(json.loads(path.read_text())) == KEYS
    again = read_record(path)
    assert again.path == path
    assert again.model_dump() == record.model_dump()
    assert [entry.name for entry in path.parent.iterdir()] == ["seed3.json"]


def test_records_from_before_a_published_deviation_are_read(tmp_path):
    path = write_record(make(published=98.0), tmp_path / "seed3.json")
    words = json.loads(path.read_text())
    del words["published_sd"]
    path.write_text(json.dumps(words))
    assert (read_record(path).published, read_record(path).published_sd) == (98.0, None)


def test_a_validation_run_has_a_place_of_its_own(tmp_path):
    assert record_path(tmp_path, "r", "a/b/c", 0, validate=True) == tmp_path / "r/a/b/c/seed0.validation.json"


def test_a_record_is_written_once(tmp_path):
    path = write_record(make(), tmp_path / "seed3.json")
    content = path.read_text()
    with pytest.raises(RecordConflictError, match=r"seed3\.json exists .*--out"):
        write_record(make(published=1.0), path)
    assert path.read_text() == content


def test_no_record_holds_what_json_cannot(tmp_path):
    with pytest.raises(ValueError, match=r"[Nn]a[Nn]|JSON"):
        write_record(make(wall_seconds=float("nan")), tmp_path / "seed3.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"recipe": "x"}', "cut", "more", "type"])
def test_what_is_no_record_is_named(tmp_path, damage):
    path = write_record(make(), tmp_path / "seed3.json")
    content = json.loads(path.read_text())
    damages = {
        "cut": path.read_bytes()[:-40],
        "more": json.dumps({**content, "surplus": 1}).encode(),
        "type": json.dumps({**content, "seed": "three"}).encode(),
    }
    path.write_bytes(damages.get(damage, damage))
    with pytest.raises(CorruptFileError, match=r"seed3\.json is not a record of infohebb; move it away"):
        read_record(path)
    with pytest.raises(CorruptFileError):
        list(read_records(tmp_path))


def test_all_records_below_a_folder_are_found_in_order(tmp_path):
    for row, seed in (("b/x", 0), ("a/x", 1), ("a/x", 0)):
        write_record(make(row=row, seed=seed), record_path(tmp_path, "r", row, seed))
    (tmp_path / "r" / "a" / "x" / "seed0.checkpoint").mkdir()
    (tmp_path / "r" / "a" / "x" / "seed0.checkpoint" / "config.json").write_text("{}")
    assert [(record.row, record.seed) for record in read_records(tmp_path)] == [("a/x", 0), ("a/x", 1), ("b/x", 0)]


def test_pictures_lie_beside_the_record(tmp_path):
    path = write_record(make(), tmp_path / "seed3.json")
    assert make().pictures is None
    assert read_record(path).pictures is None
    path.with_suffix(".npz").write_bytes(b"")
    assert read_record(path).pictures == tmp_path / "seed3.npz"

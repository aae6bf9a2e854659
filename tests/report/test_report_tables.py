import io
import shutil
import statistics
from pathlib import Path

import pytest
from report_records import RESULTS, make_record, save
from rich.console import Console

from infohebb.errors import CorruptFileError, UsageError
from infohebb.experiments.record import read_records
from infohebb.report import markdown, terminal, units, write_markdown
from infohebb.report.collect import differing_settings, sections


def rows(records):
    return {(row.recipe, row.measure.split, row.row): row for part in sections(records) for row in part.rows}


def cells_of(text, start):
    line = next(line for line in text.splitlines() if line.startswith(f"| `{start}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_summary_holds_hand_computed_statistics(folder):
    row = rows(read_records(folder))["kib/table1", "test", "mnist/gaussian/grouping+divnorm"]
    # 98.0, 98.1, 98.3: mean 98.1333, squared deviations 0.01778 + 0.00111 + 0.02778 = 0.04667, over n - 1 = 2
    assert row.measured.mean == pytest.approx(98.13333, abs=1e-5)
    assert row.measured.sd == pytest.approx((0.0466667 / 2) ** 0.5, abs=1e-6)
    assert row.measured.n == 3
    assert row.seeds == (0, 1, 2)
    assert row.gap == pytest.approx(0.03333, abs=1e-5)


def test_markdown_cells_are_the_numbers_of_the_records(folder):
    name, measured, published, gap, train, epochs, time, memory = cells_of(
        markdown(read_records(folder)), "mnist/gaussian/grouping+divnorm"
    )
    assert name == "`mnist/gaussian/grouping+divnorm`"
    assert (measured, published, gap) == ("98.13 ± 0.15 (3)", "98.1", "+0.03")
    assert (train, epochs, time, memory) == ("99.50 ± 0.00", "10", "3 m 20 s", "512 MiB")


def test_one_seed_has_no_deviation_and_unpublished_rows_no_gap(folder):
    text = markdown(read_records(folder))
    assert cells_of(text, "mnist/backprop/plain")[1] == "98.70 (1)"
    assert cells_of(text, "cifar10/gaussian/grouping+divnorm")[3] == "−1.40"
    assert cells_of(text, "cifar10/backprop/plain")[2:4] == ["–", "–"]


def test_matrix_puts_data_sets_down_and_methods_across(folder):
    text = markdown(read_records(folder))
    assert "|  | `backprop/plain` | `gaussian/grouping+divnorm` |" in text
    assert "| `cifar10` | 60.00 | 45.00 (46.4) |" in text
    assert "| `mnist` | 98.70 (98.6) | 98.13 ± 0.15 (98.1) |" in text
    assert text.count("Measured (published)") == 1  # one row of errors and one of validation make no matrix


def test_a_published_deviation_is_written_beside_its_number():
    published = [make_record(f"{name}/x/1", published=97.62, published_sd=0.12) for name in ("a", "b")]
    text = markdown([*published, make_record("b/y/1", published=98.6)])
    assert cells_of(text, "a/x/1")[1:4] == ["98.12 (1)", "97.62 ± 0.12", "+0.50"]
    assert "| `a` | 98.12 (97.62 ± 0.12) |  |" in text
    assert "| `b` | 98.12 (97.62 ± 0.12) | 98.12 (98.6) |" in text
    (row,) = sections([make_record(published=0.02, published_sd=0.0012, quantity="error")])[0].rows
    assert row.published_text == "0.02000 ± 0.0012"


def test_a_hole_in_the_matrix_stays_empty():
    records = [make_record(row, published=None) for row in ("a/x/1", "a/y/1", "b/x/1")]
    assert "| `b` | 98.12 |  |" in markdown(records)


def test_validation_is_kept_apart_and_has_no_gap(folder):
    found = rows(read_records(folder))
    row = found["kib/table1", "validation", "mnist/gaussian/grouping+divnorm"]
    assert (row.measured.mean, row.measured.n, row.gap, row.standing) == (97.0, 1, None, "")
    assert found["kib/table1", "test", "mnist/gaussian/grouping+divnorm"].measured.n == 3
    assert "## kib/table1 (validation split)" in markdown(read_records(folder))


def test_errors_are_better_when_smaller():
    def standing(score):
        return sections([make_record(score=score, published=0.02, quantity="error")])[0].rows[0].standing

    assert [standing(score) for score in (0.03, 0.0205, 0.01)] == ["below", "near", "above"]


@pytest.mark.parametrize(("score", "standing"), [(98.41, "above"), (98.4, "near"), (97.8, "near"), (97.79, "below")])
def test_accuracies_are_near_within_three_tenths(score, standing):
    assert sections([make_record(score=score, published=98.1)])[0].rows[0].standing == standing


def test_errors_are_written_with_four_digits_and_no_percent(folder):
    text = markdown(read_records(folder))
    assert cells_of(text, "waves/settling/&<script>")[1:5] == ["0.02130 (1)", "0.02", "+0.0013", "0.02000"]
    assert "test error, mean ± s.d. (n)" in text


def test_rows_go_by_data_set_method_and_mode_as_they_first_come():
    names = ["b/x/2", "b/x/1", "a/y/1", "b/y/1", "a/x/1", "a/x/2"]
    found = [row.row for row in sections(make_record(name) for name in names)[0].rows]
    assert found == ["b/x/2", "b/x/1", "b/y/1", "a/x/2", "a/x/1", "a/y/1"]


def test_seeds_are_sorted_as_numbers(tmp_path):
    for seed in (10, 2, 1):
        save(tmp_path, make_record(seed=seed))
    assert sections(read_records(tmp_path))[0].rows[0].seeds == (1, 2, 10)


def test_methods_stand_by_method_then_mode_as_these_first_come():
    names = ["a/x/1", "a/y/1", "b/x/1", "b/x/2", "b/z/1", "b/y/2"]
    records = [make_record(name) for name in names]
    section = sections(records)[0]
    assert section.methods == ("x/1", "x/2", "y/1", "y/2", "z/1")
    assert "|  | `x/1` | `x/2` | `y/1` | `y/2` | `z/1` |" in markdown(records)


def test_folders_of_results_are_sections_of_their_own(tmp_path):
    for name, seed in (("one/deep", 3), ("other", 3), ("other", 4)):
        save(tmp_path / name, make_record(seed=seed))
    found = sections(read_records(tmp_path))
    assert [(part.title, part.rows[0].seeds) for part in found] == [
        ("one/deep: kib/table1", (3,)),
        ("other: kib/table1", (3, 4)),
    ]


def test_the_common_folder_of_results_is_not_named(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "fp32"):
        save(folder, make_record())
        save(folder, make_record(split="validation"))
    monkeypatch.chdir(tmp_path / "fp32" / "kib")  # the paths say less than the whole of where records lie
    assert [part.title for part in sections(read_records(Path()))] == ["kib/table1", "kib/table1 (validation split)"]
    monkeypatch.chdir(tmp_path)
    titles = [part.title for part in sections(read_records(Path()))]
    assert titles[:2] == ["kib/table1", "kib/table1 (validation split)"]
    assert titles[2:] == ["fp32: kib/table1", "fp32: kib/table1 (validation split)"]


def test_the_same_seed_twice_is_refused(tmp_path):
    path = save(tmp_path, make_record(seed=3))
    shutil.copy(path, path.with_name("seed3-copy.json"))
    with pytest.raises(UsageError, match=r"seed 3 was recorded twice, in .*seed3-copy\.json and .*seed3\.json"):
        markdown(read_records(tmp_path))


def test_records_that_were_moved_are_told_apart_by_nothing(tmp_path):
    for seed in (1, 2):
        path = save(tmp_path / "runs", make_record(seed=seed))
        path.rename(tmp_path / f"seed{seed}.json")
    (section,) = sections([*read_records(tmp_path), make_record(seed=3)])
    assert (section.title, section.rows[0].seeds) == ("kib/table1", (1, 2, 3))


def test_the_repository_s_own_results_make_tables():
    records = list(read_records(RESULTS))
    found = sections(records)
    assert {"fp32: kib/table1", "kib/table1", "quickstart"} <= {part.title for part in found}
    assert sum(len(row.records) for part in found for row in part.rows) == len(records)


def test_times_are_means_and_memory_the_largest():
    records = [make_record(seed=i, wall_seconds=t, peak_memory_bytes=m) for i, t, m in ((0, 10.0, 5), (1, 30.0, 7))]
    row = sections(records)[0].rows[0]
    assert (row.seconds, row.memory) == (20.0, 7)


def test_pipes_and_backticks_cannot_break_a_table():
    line = next(line for line in markdown([make_record("a|b/`c`/d")]).splitlines() if "a" in line and "98.12" in line)
    assert line.startswith(r"| `a\|b/'c'/d` | ")


def test_settings_that_differ_are_named_and_seeds_are_not():
    one, other = (make_record(seed=i, config={"training": {"epochs": 5 * i, "batch": 8}, "seed": i}) for i in (1, 2))
    assert differing_settings([one, other]) == ["training.epochs"]
    assert differing_settings([one, one]) == []


def test_terminal_shows_every_row_literally(folder):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal([*read_records(folder), make_record("odd/[red]/x")]))
    text = console.export_text()
    assert "98.13 ± 0.15 (3)" in text
    assert "waves/settling/&<script>" in text
    assert "odd/[red]/x" in text
    assert "kib/table1 (validation split)" in text


def test_write_markdown_writes_what_markdown_says(folder, tmp_path):
    out = write_markdown(folder, tmp_path / "deep" / "report.md")
    assert out.read_text(encoding="utf-8") == markdown(read_records(folder))


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match=r"no records below .*; run `infohebb run quickstart` first"):
        write_markdown(tmp_path, tmp_path / "report.md")
    assert not (tmp_path / "report.md").exists()


def test_a_corrupt_record_is_named(folder, tmp_path):
    (folder / "seed9.json").write_text('{"recipe": ')
    with pytest.raises(CorruptFileError, match=r"seed9\.json"):
        write_markdown(folder, tmp_path / "report.md")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (4.24, "4.2 s"), (9.97, "10 s"), (59.4, "59 s"), (59.6, "1 m 00 s"), (200, "3 m 20 s"),
     (3599.7, "1 h 00 m"), (3900, "1 h 05 m"), (86400, "24 h 00 m")],
)  # fmt: skip
def test_durations(seconds, text):
    assert units.duration(seconds) == text


def test_memory_and_published_and_signed_numbers():
    assert [units.memory(n) for n in (512 * 2**20, 2**30 - 1, 2**30, 3 * 2**29)] == [
        "512 MiB",
        "1024 MiB",
        "1.0 GiB",
        "1.5 GiB",
    ]
    assert [units.published(n) for n in (98.1, 92.0, 97.71, None)] == ["98.1", "92.0", "97.71", "–"]
    assert [units.signed(n) for n in (0.25, -1.4, 0.001, -0.001, None)] == ["+0.25", "−1.40", "0.00", "0.00", "–"]


def test_seed_numbers_are_gathered_into_runs():
    assert units.whole_numbers((0, 1, 2, 4, 7, 8)) == "0–2, 4, 7, 8"


def test_the_deviation_is_the_sample_one():
    values = [97.0, 98.0, 99.5, 96.25]
    row = sections([make_record(seed=i, score=v) for i, v in enumerate(values)])[0].rows[0]
    mean = sum(values) / 4
    assert row.measured.sd == pytest.approx((sum((v - mean) ** 2 for v in values) / 3) ** 0.5)
    assert row.measured.sd != pytest.approx(statistics.pstdev(values))

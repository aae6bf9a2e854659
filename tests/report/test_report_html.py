import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report_records import RESULTS, make_record, save

from infohebb import report
from infohebb.errors import CorruptFileError, UsageError
from infohebb.experiments.record import read_records
from infohebb.report import write_html
from infohebb.report.collect import sections
from infohebb.report.html import command, page

VOID = {"wbr", "meta", "link", "br", "img", "hr", "input"}
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """What the tests ask of a page: tags, what they would load, ids, text, and that all tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.ids, self.texts, self.stack, self.open_rows = [], [], [], [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in LOADING]
        self.ids += [value for name, value in attrs if name == "id"]
        self.open_rows += tag == "details" and ("open", None) in attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    return write_html(results, tmp_path_factory.mktemp("out") / "deep" / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere(written):
    found = Page(written)
    assert all(target.startswith(("#", "data:")) for target in found.loads)
    assert len(found.loads) > 10
    assert not {"script", "iframe", "img", "object", "embed"} & set(found.tags)
    assert "@import" not in written
    assert "url(http" not in written


def test_the_page_is_well_formed_and_ids_are_unique(written):
    found = Page(written)
    assert found.stack == []
    assert len(found.ids) == len(set(found.ids))


def test_links_lead_somewhere(written):
    found = Page(written)
    anchors = {target[1:] for target in found.loads if target.startswith("#")}
    assert {"recipe-1-row-1", "recipe-2"} <= anchors
    assert anchors <= set(found.ids)


def test_each_row_has_its_numbers_and_figures(written):
    texts = Page(written).texts
    for name in ("mnist/gaussian/grouping+divnorm", "mnist/backprop/plain", "cifar10/gaussian/grouping+divnorm"):
        assert name in texts
    assert {"98.13 ± 0.15 (3)", "+0.03", "−1.40", "45.00 (1)", "0.02130 (1)", "3 m 20 s", "512 MiB"} <= set(texts)
    assert texts.count("Learning curves") == 6  # one per row and split
    assert texts.count("Information plane") == 4  # backprop has none
    assert texts.count("Gram matrix of layer 2") == 2  # only two rows have pictures
    assert {"accuracy (%)", "mean squared error", "epoch", "compression, pHSIC(K, K) (no unit)"} <= set(texts)


def test_each_row_says_how_it_was_measured(written):
    texts = Page(written).texts
    assert "infohebb run kib/table1 --only 'mnist/gaussian/grouping+divnorm' --seeds 0,1,2" in texts
    assert "infohebb run kib/table1 --only 'mnist/gaussian/grouping+divnorm' --seeds 0 --validate" in texts
    assert "512 MiB (high-water mark of the resident set)" in texts
    assert "python 3.11.2, torch 2.13.0, infohebb 0.1.0" in texts
    assert "0123abcd" in texts
    assert any("running" in text for text in texts if text.startswith("Mean ±"))


def test_only_one_row_is_open(written):
    assert Page(written).open_rows == 1


@pytest.mark.parametrize(
    ("blocks", "opened"), [(((), ("one",), ("one",)), 2), (((), ("one",), ("one", "two")), 3), (((), (), ()), 1)]
)
def test_the_open_row_is_the_first_of_most_figures(blocks, opened):
    text = page([make_record(f"mnist/x/{i}", blocks=names, epochs=2) for i, names in enumerate(blocks)])
    rows = re.findall(r'<details class="row"( open)?>', text)
    assert [i for i, row in enumerate(rows, 1) if row] == [opened]


def test_the_page_says_where_commands_find_their_data(written):
    assert "--data-dir" in written
    assert "INFOHEBB_DATA" in written


def test_the_repository_s_own_results_make_a_page():
    one = "kib/table1", "mnist/gaussian/grouping+divnorm"  # recorded in several folders; all rows would take a while
    records = [record for record in read_records(RESULTS) if (record.recipe, record.row) == one]
    found = Page(page(records))
    assert {"fp32: kib/table1", "kib/table1"} <= set(found.texts)
    assert found.texts.count("Information plane") == len(sections(records)) >= 2
    assert len(found.ids) == len(set(found.ids))


def test_names_are_escaped(written):
    assert "<script" not in written
    assert "waves/settling/&amp;&lt;script&gt;" in written
    assert "waves/settling/&<script>" in Page(written).texts


def test_every_text_of_a_record_is_escaped():
    evil = "<script>alert(1)</script>"
    more = {"recipe": evil, "commit": evil, "device": evil, "peak_memory_method": evil, "versions": {evil: evil}}
    text = page([make_record(f"a/{evil}/c", config={evil: evil}, **more), make_record(f"b/{evil}/c", **more)])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10


def test_names_of_layers_are_escaped():
    text = page([make_record(blocks=("<script>", "b&"))])
    assert "<script" not in text
    assert "Objective of <script>" in Page(text).texts


def test_the_same_records_give_the_same_bytes(written, folder, tmp_path):
    again = write_html(folder, tmp_path / "again.html")
    assert again.read_bytes() == written.encode()


def test_commands_survive_a_quote():
    row = sections([make_record("it's/a/row", seed=4)])[0].rows[0]
    assert command(row) == """infohebb run kib/table1 --only 'it'"'"'s/a/row' --seeds 4"""


def test_partial_records_make_a_page():
    bare = make_record(final={}, curves={}, config={}, versions={}, commit=None, published=None)
    texts = Page(page([bare])).texts
    assert "The records of this row hold no curves." in texts
    assert "not recorded" in texts


def test_a_published_deviation_is_shown_wherever_its_number_is():
    records = [make_record(f"{name}/x/1", published=97.62, published_sd=0.12) for name in ("a", "b")]
    text = page([*records, make_record("a/y/1", published=None)])
    assert text.count("<td>97.62 ± 0.12</td>") == 2
    assert text.count("<small>(97.62 ± 0.12)</small>") == 2
    assert text.count(", published 97.62 ± 0.12</span>") == 2
    assert "published 97.62 ± 0.12</text>" in text or "<!-- published 97.62 ± 0.12 -->" in text


def test_mixed_settings_are_called_out():
    mixed = [make_record(seed=i, epochs=5 + i, config={"training": {"epochs": 5 + i}}) for i in range(2)]
    texts = Page(page(mixed)).texts
    assert any("settings differ between the seeds: training.epochs" in text for text in texts)
    assert "5–6" in texts


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match=r"no records below .*; run `infohebb run quickstart` first"):
        write_html(tmp_path, tmp_path / "report.html")


def test_a_corrupt_record_leaves_an_earlier_page_alone(folder, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("earlier")
    (folder / "seed9.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"seed9\.json"):
        write_html(folder, out)
    assert out.read_text() == "earlier"


def imported(code, *arguments):
    """The modules that are loaded after `code`."""
    program = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_report_never_imports_torch_and_tables_no_matplotlib(tmp_path):
    save(tmp_path / "results", make_record(epochs=2))
    out = (tmp_path / "results", tmp_path / "out")
    call = "from pathlib import Path\nfrom infohebb import report\nreport.{}(*map(Path, sys.argv[1:]))"
    tables, html = imported(call.format("write_markdown"), *out), imported(call.format("write_html"), *out)
    assert "infohebb.report.tables" in tables
    assert not {"torch", "matplotlib", "jinja2"} & tables
    assert {"matplotlib", "jinja2"} <= html
    assert not {"torch", "matplotlib.pyplot"} & html


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'write_pdf'"):
        _ = report.write_pdf

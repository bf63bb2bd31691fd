"""Tables of all kinds become entries, or one clear line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meta.repository import ROOT
from vggbench.audit.rules import compare_all
from vggbench.audit.table import MOST_BYTES, read_table
from vggbench.errors import RequestError

SAMPLE = ROOT / "reports" / "two-core-cpu"


def table(tmp_path: Path, text: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("heading", "text", "seconds"),
    [
        ("latency_ms", "50", 0.05),
        ("Latency (ms)", "50", 0.05),
        ("Mean latency [s]", "0.05", 0.05),
        ("inference time (us)", "50000", 0.05),
        ("time_ns", "50000000", 0.05),
        ("median_ms", "50", 0.05),
    ],
)
def test_a_latency_has_the_unit_of_its_heading(tmp_path: Path, heading: str, text: str, seconds: float) -> None:
    (entry,) = read_table(table(tmp_path, f"model,{heading}\nvgg16,{text}\n")).entries
    assert entry.latency is not None
    assert entry.latency.value == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("vgg16", "vgg16"),
        ("VGG-16", "vgg16"),
        ("VGG 16 (BN)", "vgg16_bn"),
        ("vgg19bn", "vgg19_bn"),
        ("torchvision/vgg11_bn", "vgg11_bn"),
        ("timm.vgg13", "vgg13"),
        ("VGG16 with batch norm", "vgg16_bn"),
        ("vgg16_c", "vgg16_c"),
        ("vgg11_lrn", "vgg11_lrn"),
        ("vgg16_cifar_bn", "vgg16_cifar_bn"),
    ],
)
def test_names_of_variants(tmp_path: Path, name: str, variant: str) -> None:
    (entry,) = read_table(table(tmp_path, f"model,latency_ms\n{name},5\n")).entries
    assert entry.variant == variant


def test_other_networks_are_counted_and_left_alone(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "model,latency_ms\nresnet50,5\nvgg16,9\nvgg17,9\n"))
    assert [entry.variant for entry in found.entries] == ["vgg16"]
    assert found.others == 2


def test_a_file_of_a_users_own_is_no_vgg_whatever_its_name(tmp_path: Path) -> None:
    found = read_table(
        table(tmp_path, "variant,reference,latency_ms\nvgg16,against itself,5\nvgg16,float64 module,9\n")
    )
    assert [entry.line for entry in found.entries] == [3]
    assert found.others == 1


def test_markdown_among_prose(tmp_path: Path) -> None:
    text = "# Results\n\n| Model | ms | fps |\n| --- | ---: | --- |\n| **VGG16** | 8.2 ± 0.1 | 122 |\n\nmore | prose\n"
    (entry,) = read_table(table(tmp_path, text.replace("| ms |", "| latency ms |"), "README.md")).entries
    assert (entry.line, entry.variant) == (5, "vgg16")
    assert entry.latency is not None
    assert (entry.latency.low, entry.latency.high) == pytest.approx((8.1e-3, 8.3e-3))
    assert entry.throughput is not None
    assert entry.throughput.value == 122


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    text = f"model{delimiter}latency_ms\nvgg16{delimiter}8.2\n"
    assert len(read_table(table(tmp_path, text)).entries) == 1


def test_settings_are_texts_and_known_numbers(tmp_path: Path) -> None:
    text = "model,framework,threads,score,latency_ms,batch\nvgg16,torch,4,0.7,8.2,16\n"
    (entry,) = read_table(table(tmp_path, text)).entries
    assert dict(entry.settings) == {"framework": "torch", "threads": "4"}
    assert entry.batch == 16


def test_ends_of_an_interval_in_columns_of_their_own(tmp_path: Path) -> None:
    text = "variant,latency_ms,latency_low_ms,latency_high_ms\nvgg16,8.2,8.1,9\n"
    (entry,) = read_table(table(tmp_path, text)).entries
    assert entry.latency is not None
    assert (entry.latency.low, entry.latency.high) == pytest.approx((8.1e-3, 9e-3))


@pytest.mark.parametrize(
    ("heading", "text", "parameters"),
    [("params", "138357544", 138357544), ("Params (M)", "138.36", 138.36e6), ("params", "138.4M", 138.4e6)],
)
def test_parameters_in_any_unit(tmp_path: Path, heading: str, text: str, parameters: float) -> None:
    (entry,) = read_table(table(tmp_path, f"model,{heading},fps\nvgg16,{text},10\n")).entries
    assert entry.parameters is not None
    assert entry.parameters.value == pytest.approx(parameters)


def test_a_run_folder_is_its_results() -> None:
    assert read_table(SAMPLE) == read_table(SAMPLE / "results.csv")
    assert len(read_table(SAMPLE).entries) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no table: it is empty"),
        ("backend,latency_ms\ntorch,4\n", "has no column of variants"),
        ("model,accuracy\nvgg16,0.7\n", "has no latency"),
        ("model,latency\nvgg16,8.2\n", "column 'latency' names no unit; write for example latency_ms"),
        ("model,latency_ms\nvgg16,8.2,3\n", "line 2: 3 cells under 2 headings"),
        ('model,latency_ms\nvgg16,"8.2\n', "not CSV"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(RequestError) as error:
        read_table(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(RequestError, match=r"results\.csv cannot be read"):
        read_table(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"model,time\xe9_ms\n")
    with pytest.raises(RequestError, match="not text in UTF-8"):
        read_table(tmp_path / "latin.csv")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(RequestError, match="too large"):
        read_table(tmp_path / "huge.csv")


CELLS = st.one_of(st.text(max_size=8), st.sampled_from(["vgg16", "vgg16_bn", "VGG 19", "1e308", "0", "-3", "4 ± 9"]))
HEADINGS = st.sampled_from(
    [
        "variant",
        "latency_ms",
        "img/s",
        "batch",
        "params",
        "gmacs",
        "status",
        "backend",
        "num_classes",
        "percent_of_attainable",
    ]
)


@given(
    st.lists(HEADINGS, min_size=1, max_size=6), st.lists(st.lists(CELLS, min_size=6, max_size=6), max_size=5), st.data()
)
def test_any_table_is_compared_or_refused(
    tmp_path_factory: pytest.TempPathFactory, headings: list[str], rows: list[list[str]], data: st.DataObject
) -> None:
    delimiter = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    lines = [delimiter.join(headings), *(delimiter.join(row[: len(headings)]) for row in rows)]
    path = tmp_path_factory.mktemp("any") / "table.csv"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    with suppress(RequestError):
        compare_all(read_table(path).entries)

"""Every rule finds the row that breaks it, and leaves alone what only looks odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.meta.repository import ROOT
from vggbench.audit.comparison import Comparison
from vggbench.audit.rules import RULES, compare_all
from vggbench.audit.table import read_table


def comparisons(tmp_path: Path, text: str) -> list[Comparison]:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return compare_all(read_table(path).entries)


def contradictions(tmp_path: Path, text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return the rules that were broken, each with the lines that break it."""
    return [
        (found.rule, tuple(entry.line for entry in found.entries))
        for found in comparisons(tmp_path, text)
        if found.contradiction
    ]


Case = tuple[str, str, list[tuple[str, tuple[int, ...]]]]
CASES: list[Case] = [
    (
        "ok and proven",
        "variant,status,latency_ms,precision,precision_ran\nvgg16,ok,40,bf16,bf16:100.0%\n",
        [],
    ),
    ("a deeper net is faster", "model,latency_ms\nvgg16,40\nvgg19,30\n", [("order", (3, 2))]),
    ("a deeper net is faster, by rate", "model,img/s\nvgg11_bn,40\nvgg13_bn,60\n", [("order", (3, 2))]),
    ("in order", "model,latency_ms\nvgg11,10\nvgg13,15\nvgg16,20\nvgg19,25\n", []),
    ("within the doubt of a figure", "model,latency_ms\nvgg16,40\nvgg19,39\n", []),
    ("within their intervals", "model,latency_ms\nvgg16,40 ± 8\nvgg19,30 ± 8\n", []),
    ("other settings", "model,gpu,latency_ms\nvgg16,A,40\nvgg19,B,30\n", []),
    ("other batch", "model,batch,latency_ms\nvgg16,8,40\nvgg19,1,30\n", []),
    (
        "a batch norm that is not folded",
        "model,backend,latency_ms\nvgg16,openvino,40\nvgg16_bn,openvino,50\n",
        [("fold", (3, 2))],
    ),
    ("a batch norm in eager mode", "model,backend,latency_ms\nvgg16,torch,40\nvgg16_bn,torch,50\n", []),
    ("folded", "model,backend,latency_ms\nvgg16,TensorRT 10,40\nvgg16_bn,TensorRT 10,41\n", []),
    ("a larger batch is faster", "model,batch,latency_ms\nvgg16,1,40\nvgg16,8,30\n", [("batch", (3, 2))]),
    ("a larger batch is slower", "model,batch,latency_ms\nvgg16,8,300\nvgg16,1,40\n", []),
    (
        "more in flight than there were",
        "model,batch,in_flight,latency_ms,img/s\nvgg16,1,2,100,30\n",
        [("throughput", (2,))],
    ),
    ("zeros where nothing ran", "model,batch,latency_ms,img/s\nvgg16,1,0,0\nvgg16_bn,1,40,25\n", []),
    (
        "less than nothing",
        "model,batch,latency_ms,img/s\nvgg16,1,-40,\nvgg16_bn,1,,-2\n",
        [("units", (2,)), ("units", (3,))],
    ),
    (
        "ok with an error that is no number",
        "variant,status,latency_ms,parity_error,parity_tolerance\nvgg16,ok,40,nan,0.001\n",
        [("proof", (2,))],
    ),
    ("as many in flight as there were", "model,batch,in_flight,latency_ms,img/s\nvgg16,1,2,100,20\n", []),
    ("far fewer than the latency allows", "model,batch,latency_ms,img/s\nvgg16,1,100,4\n", [("throughput", (2,))]),
    ("seconds under ms", "model,batch,latency_ms,img/s\nvgg16,1,0.1,10\n", [("throughput", (2,))]),
    ("microseconds under ms", "model,batch,latency_ms,img/s\nvgg16,1,100000,10\n", [("throughput", (2,))]),
    ("faster than any device", "model,latency_ms\nvgg16,0.001\n", [("units", (2,))]),
    ("slower than any device", "model,latency_s\nvgg16,9000\n", [("units", (2,))]),
    (
        "over the ceiling",
        "model,latency_ms,percent_of_attainable\nvgg16,40,500\nvgg16_bn,41,220\n",
        [("ceiling", (2,))],
    ),
    ("wrong parameters", "model,params_m,latency_ms\nvgg16,138.4,40\nvgg19,138.4,45\n", [("parameters", (3,))]),
    ("parameters of ten classes", "model,params,num_classes,latency_ms\nvgg16,134301514,10,40\n", []),
    (
        "parameters of a thousand",
        "model,params,num_classes,latency_ms\nvgg16,138357544,10,40\n",
        [("parameters", (2,))],
    ),
    ("MACs called FLOPs", "model,GFLOPs,latency_ms\nvgg16,15.5,40\nvgg16_bn,30.9,41\n", []),
    ("wrong MACs", "model,GMACs,latency_ms\nvgg16,19.6,40\n", [("macs", (2,))]),
    ("a copied figure", "model,latency_ms\nvgg16,40.123\nvgg19,40.123\n", [("copied", (2, 3))]),
    ("a figure twice by chance", "model,latency_ms\nvgg16,41\nvgg19,41\n", []),
    (
        "ok and wrong",
        "variant,status,latency_ms,parity_error,parity_tolerance\nvgg16,ok,40,0.5,0.1\nvgg16,parity_failed,40,0.5,0.1\n",
        [("proof", (2,))],
    ),
    (
        "ok and not verified",
        "variant,status,latency_ms,artefact_sha256,verified_sha256\nvgg16,ok,40,ab,cd\n",
        [("proof", (2,))],
    ),
    (
        "ok and downcast",
        "variant,status,latency_ms,precision,precision_ran\nvgg16,ok,40,fp32,bf16:100.0%\n",
        [("proof", (2,))],
    ),
    (
        "outside its interval, whatever the status",
        "variant,status,latency_ms,latency_low_ms,latency_high_ms\nvgg16,ok,40,41,42\nvgg16,noisy,40,42,38\n",
        [("interval", (2,)), ("interval", (3,))],
    ),
    ("inside its interval", "variant,latency_ms,latency_low_ms,latency_high_ms\nvgg16,40,39,42\n", []),
    (
        "throughput outside its interval",
        "variant,latency_ms,throughput_img_s,throughput_low_img_s,throughput_high_img_s\nvgg16,40,25,20,24\n",
        [("interval", (2,))],
    ),
    (
        "a p90 below the median",
        "variant,latency_p50_ms,latency_p90_ms,latency_p99_ms\nvgg16,40,30,50\n",
        [("percentiles", (2,))],
    ),
    ("percentiles in order", "variant,min_ms,p50_ms,p99_ms,max_ms\nvgg16,38,40,45,60\n", []),
    ("a maximum below the minimum", "variant,p50_ms,min_ms,max_ms\nvgg16,40,40,20\n", [("percentiles", (2,))]),
    ("shorter with its copies", "variant,latency_ms,end_to_end_ms\nvgg16,40,30\n", [("end to end", (2,))]),
    ("a little shorter, a moment later", "variant,latency_ms,end_to_end_ms\nvgg16,40,39\n", []),
    ("a cosine of 5", "variant,latency_ms,parity_cosine\nvgg16,40,5\nvgg16_bn,41,1.0\n", [("limits", (2,))]),
    ("an error below nothing", "variant,latency_ms,parity_error\nvgg16,40,-0.1\n", [("limits", (2,))]),
    (
        "a wrong speed-up",
        "variant,backend,latency_ms,speedup,spec_hash\nvgg16,torch,40,1,a\nvgg16,openvino,20,4,a\n",
        [("speed-up", (3, 2))],
    ),
    (
        "right speed-ups",
        "variant,backend,latency_ms,speedup,spec_hash\nvgg16,torch,40,1,a\nvgg16,openvino,20,2,a\n",
        [],
    ),
]


@pytest.mark.parametrize(("what", "text", "broken"), CASES, ids=[case[0] for case in CASES])
def test_contradictions(tmp_path: Path, what: str, text: str, broken: list[tuple[str, tuple[int, ...]]]) -> None:
    assert contradictions(tmp_path, text) == broken
    assert comparisons(tmp_path, text) or broken == [], what


def test_a_row_names_its_settings(tmp_path: Path) -> None:
    (found,) = [
        comparison
        for comparison in comparisons(tmp_path, "model,backend,batch,latency_ms\nvgg16,ort,1,40\nvgg19,ort,1,30\n")
        if comparison.contradiction
    ]
    assert found.entries[0].title == "vgg19 ort batch 1 (line 3)"
    assert found.contradiction == "has more layers and a shorter latency than vgg16 ort batch 1 (line 2)"


def test_our_own_sample_has_none() -> None:
    found = compare_all(read_table(ROOT / "reports" / "two-core-cpu").entries)
    assert {comparison.rule for comparison in found} >= {"throughput", "units", "parameters", "macs", "proof"}
    assert [comparison.contradiction for comparison in found if comparison.contradiction] == []


def test_every_rule_is_broken_by_some_table_and_kept_by_another(tmp_path: Path) -> None:
    found = [comparison for _what, text, _broken in CASES for comparison in comparisons(tmp_path, text)]
    broken = {comparison.rule for comparison in found if comparison.contradiction}
    assert broken == {comparison.rule for comparison in found}
    assert broken == {comparison.rule for comparison in found if not comparison.contradiction}
    assert len(broken) == len(RULES) + 1  # the rule of exact counts speaks of parameters and of MACs

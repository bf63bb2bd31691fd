from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SPEC, fake_cell, known, missing
from vggbench.errors import NothingToJudge, RequestError, UnknownVariantError, VggbenchError
from vggbench.measure.client import BackendProbe
from vggbench.plan import (
    DEFAULT_ROUND_SECONDS,
    LARGEST_BATCH,
    LONGEST_BUDGET_S,
    MOST_REPLICAS,
    MOST_ROUNDS,
    Cell,
    Pace,
    Selection,
    expand,
    find_cells,
    parse_backend,
    selection,
)

FP32_ALONE = {"fp32": "", "bf16": "this processor has no bf16"}


def cells_of(
    *chosen: dict[str, Any], probe: Callable[[str], BackendProbe] = known, threads: int = 2
) -> tuple[Cell, ...]:
    return expand([selection(values) for values in chosen], device="cpu", threads=threads, probe=probe)


def labels(cells: tuple[Cell, ...]) -> list[str]:
    return [cell.title for cell in cells]


NARROW = {"config": "8,M", "input_size": 8}

# Cells


def test_nothing_chosen_is_the_default_variant_on_what_is_there_in_what_is_native():
    cells = cells_of({}, probe=lambda name: missing(name) if name == "openvino" else known(name, FP32_ALONE))
    assert labels(cells) == [
        "vgg16_bn torch memory_format=contiguous fp32 batch 1",
        "vgg16_bn onnxruntime fp32 batch 1",
    ]
    assert {cell.unsupported for cell in cells} == {""}


def test_lists_make_their_product_in_order():
    cells = cells_of(
        {"variant": ["vgg11", "A", "vgg13"], "backend": ["onnxruntime"], "precision": "fp32", "batch_size": [4, 1, 4]}
    )
    expected = [("vgg11", 4), ("vgg11", 1), ("vgg13", 4), ("vgg13", 1)]
    assert [(cell.spec.variant, cell.batch_size) for cell in cells] == expected


def test_the_same_cell_in_two_selections_is_there_once():
    assert len(cells_of(NARROW | {"backend": "fake"}, NARROW | {"backend": ["fake", "fake:fault=none"]})) == 2


def test_variants_and_configurations_together():
    cells = cells_of({"variant": "vgg11", "config": ["8,M", "16,M"], "backend": "fake", "precision": "fp32"})
    assert [cell.spec.variant for cell in cells] == ["vgg11", "custom", "custom"]


def test_a_configuration_alone_brings_no_default_variant():
    assert {cell.spec.variant for cell in cells_of(NARROW | {"backend": "fake"})} == {"custom"}


def test_every_field_of_the_model_reaches_the_spec():
    shape = {
        "batch_norm": True,
        "local_response_norm": "divided",
        "head": "flatten",
        "input_size": 16,
        "num_classes": 7,
        "classifier_width": 9,
        "outputs": "probabilities",
        "weights": "init",
        "seed": 5,
    }
    (cell,) = cells_of({"config": "8,M", "backend": "fake", "precision": "fp32", **shape})
    found = cell.spec.to_json()
    assert {name: found[name] for name in shape} == shape


def test_a_precision_asked_for_by_name_may_be_unsupported():
    probe = lambda name: known(name, FP32_ALONE)  # noqa: E731
    (cell,) = cells_of(NARROW | {"backend": "fake", "precision": "bf16"}, probe=probe)
    assert cell.unsupported == "this processor has no bf16"
    (cell,) = cells_of(NARROW | {"backend": "fake", "precision": "bf16"}, probe=lambda name: known(name, {"fp32": ""}))
    assert cell.unsupported == "fake does not know bf16"


def test_a_backend_asked_for_by_name_must_be_there():
    with pytest.raises(RequestError) as caught:
        cells_of(NARROW | {"backend": "openvino"}, probe=missing)
    assert str(caught.value) == "backend openvino cannot be used on cpu: openvino is not installed; install it"


def test_no_backend_at_all_is_nothing_to_judge():
    with pytest.raises(NothingToJudge, match="vggbench doctor"):
        cells_of({}, probe=missing)


def test_options_are_part_of_a_cell():
    cells = cells_of(NARROW | {"backend": ["fake", "fake:latency_ms=2:fault=nan"], "precision": "fp32"})
    assert [dict(cell.options) for cell in cells] == [{"fault": "none"}, {"fault": "nan", "latency_ms": "2"}]
    assert len({cell.id for cell in cells}) == 2


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        ({"variant": "vgg61"}, UnknownVariantError, "vgg16"),
        ({"batch_size": 0}, RequestError, f"batch size is 0; it must be from 1 to {LARGEST_BATCH}"),
        ({"batch_size": [1, -3]}, RequestError, "batch size is -3"),
        ({"batch_size": LARGEST_BATCH + 1}, RequestError, "batch size is 4097"),
        ({"precision": "fp4"}, RequestError, "unknown precision 'fp4'; it can be fp32, tf32, fp16, bf16, int8, fp8"),
        ({"backend": ["torch", "tensorflow"]}, RequestError, "unknown backend 'tensorflow'"),
        ({"backend": "torch:memory_format=nhwc"}, RequestError, "it can be contiguous, channels_last"),
        ({"input_size": 4}, RequestError, "input size 4 is too small"),
        ({"weights": "missing.pth"}, RequestError, "does not exist"),
        ({"weights_seed": -1}, RequestError, "seed is -1"),
    ],
)
def test_wrong_requests_are_refused_before_a_backend_is_probed(chosen: dict[str, Any], error: type, words: str):
    probed = []
    with pytest.raises(error) as caught:
        cells_of({"variant": "vgg11"}, chosen, probe=lambda name: probed.append(name) or known(name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    # Names of backends are looked up a selection at a time; the first is in order here.
    assert probed == [] or "backend" in chosen


def test_a_wrong_backend_is_refused_before_the_others_of_its_list_are_probed():
    probed = []
    with pytest.raises(RequestError):
        cells_of({"backend": ["torch", "tensorflow"]}, probe=lambda name: probed.append(name) or known(name))
    assert probed == []


@given(st.integers(1, 256))
def test_requests_in_flight_share_the_threads_evenly(threads: int):
    (cell,) = cells_of(NARROW | {"backend": "fake", "precision": "fp32"}, threads=threads)
    assert 1 <= cell.in_flight <= min(threads, 4)
    assert threads % cell.in_flight == 0
    assert threads % 2 or cell.in_flight > 1


def test_an_id_names_everything_that_decides_a_cell():
    base = fake_cell()
    others = [
        fake_cell(precision="bf16"),
        fake_cell(batch_size=3),
        fake_cell(threads=1),
        fake_cell(latency_ms="2"),
        fake_cell(backend="null"),
        fake_cell(spec=selection({"config": "8,M", "input_size": 8}).specs()[0]),
    ]
    assert len({cell.id for cell in [base, *others]}) == len(others) + 1
    assert fake_cell(unsupported="no").id == base.id
    assert len(base.id) == 12
    assert base.title == "custom fake fault=none fp32 batch 2"


# Backends and options as texts


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("torch", "torch", {}),
        ("torch:memory_format=channels_last", "torch", {"memory_format": "channels_last"}),
        ("fake:a=1:b=2=3", "fake", {"a": "1", "b": "2=3"}),
        ("", "", {}),
    ],
)
def test_a_backend_and_its_options(text: str, name: str, options: dict[str, str]):
    assert parse_backend(text) == (name, options)


@pytest.mark.parametrize("text", ["fake:", "fake:x", "fake:=1", "fake:x=", "fake::x=1"])
def test_an_option_without_a_name_or_value(text: str):
    with pytest.raises(RequestError, match="write options as fake:name=value"):
        parse_backend(text)


def test_an_option_given_twice():
    with pytest.raises(RequestError, match="option x is given twice"):
        parse_backend("fake:x=1:x=2")


@given(st.text())
def test_any_text_is_a_backend_or_a_one_line_error(text: str):
    try:
        name, options = parse_backend(text)
    except RequestError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either is right
    else:
        assert ":".join([name, *(f"{key}={value}" for key, value in options.items())]) == text


# Selections from Python


@pytest.mark.parametrize("sizes", [[1, 2], (1, 2), range(1, 3)])
def test_any_sequence_is_a_list(sizes: Any):
    assert selection({"batch_size": sizes, "variant": None}).batch_size == [1, 2]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"batch_size": "2"}, "batch_size.0: Input should be a valid integer, not '2'"),
        ({"batch_size": True}, "batch_size.0: Input should be a valid integer, not True"),
        ({"batch_size": []}, "batch_size: List should have at least 1 item after validation, not 0"),
        ({"variant": [3]}, "variant.0: Input should be a valid string, not 3"),
        ({"input_size": "32"}, "input_size: Input should be a valid integer, not '32'"),
        ({"colour": "red"}, "'colour' is no key here; there are variant, config, onnx, backend"),
        ({"head": ["x" * 100]}, "head: Input should be a valid string, not ['" + "x" * 58 + "..."),
    ],
)
def test_a_wrong_value_is_named_with_what_belongs_there(chosen: dict[str, Any], words: str):
    with pytest.raises(RequestError) as caught:
        selection(chosen)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 300


WORDS = st.sampled_from(
    ["vgg11", "D", "8,M", "8,M,16@1", "fake", "torch", "fake:fault=nan", "fp32", "bf16", "adaptive", "flatten", "init"]
)
SCALARS = st.integers(-5, 5000) | st.booleans() | st.floats() | st.text(max_size=12) | st.integers()


@given(st.dictionaries(st.sampled_from(list(Selection.model_fields)), WORDS | SCALARS | st.lists(WORDS, max_size=3)))
def test_any_selection_is_cells_or_an_error(chosen: dict[str, Any]):
    try:
        cells = cells_of(chosen)
    except VggbenchError as error:
        assert error.exit_code in {2, 4}  # noqa: PT017
    else:
        assert len({cell.id for cell in cells}) == len(cells) > 0


# This machine


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr("vggbench.measure.client.probe", lambda name, _device: asked.append(name) or known(name))
    return asked


def test_finding_cells_probes_each_backend_once(probes: list[str]):
    twice = [selection(NARROW | {"backend": "fake", "batch_size": size}) for size in (1, 2)]
    cells, versions = find_cells(twice, device="cpu", threads=1)
    assert probes == ["fake"]
    assert versions == {"fake": "1"}
    assert [cell.batch_size for cell in cells] == [1, 1, 2, 2]
    assert {cell.threads for cell in cells} == {1}


def test_without_a_number_of_threads_it_is_the_usable_cores(probes: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vggbench.environment.default_threads", lambda: 1)
    cells, _ = find_cells([selection(NARROW | {"backend": "fake"})], device="cpu", threads=None)
    assert {cell.threads for cell in cells} == {1}


@pytest.mark.parametrize("device", ["cuda", "tpu", "", "cpu:0"])
def test_other_devices_are_refused(probes: list[str], device: str):
    with pytest.raises(RequestError, match="cannot be measured"):
        find_cells([selection({})], device=device, threads=1)
    assert probes == []


@pytest.mark.parametrize("threads", [0, -1, 10**6, 10**30])
def test_threads_that_this_process_does_not_have(probes: list[str], threads: int):
    with pytest.raises(RequestError) as caught:
        find_cells([selection({})], device="cpu", threads=threads)
    assert f"threads is {threads}; this process may use from 1 to" in str(caught.value)
    assert probes == []


def test_threads_where_the_system_has_no_affinity(probes: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with pytest.raises(RequestError, match="from 1 to 3"):
        find_cells([selection({})], device="cpu", threads=4)


# Pace


def test_the_budget_is_shared_by_all_rounds_of_all_cells_that_run():
    cells = (fake_cell(), fake_cell(batch_size=3), fake_cell(precision="bf16", unsupported="no"))
    plan = Pace(rounds=5, time_budget_s=20, seed=7, timeout_s=9).plan(cells)
    assert (plan.rounds, plan.round_seconds, plan.seed, plan.timeout_s) == (5, 2.0, 7, 9)
    assert plan.cells == cells


def test_without_a_budget_a_round_has_its_default():
    assert Pace().plan((fake_cell(),)).round_seconds == DEFAULT_ROUND_SECONDS


def test_a_budget_for_nothing_is_no_division_by_zero():
    assert Pace(rounds=2, time_budget_s=4).plan(()).round_seconds == 4


def test_replicas_are_cells_of_their_own_that_differ_in_their_number_alone():
    cell, other = cells_of({**NARROW, "backend": "torch", "precision": "fp32", "batch_size": [1, 2]})
    plan = Pace(rounds=5, replicas=2, time_budget_s=20).plan((cell, other))
    assert [(found.batch_size, found.replica) for found in plan.cells] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [replace(found, replica=0) for found in plan.cells] == [cell, cell, other, other]
    assert len({found.id for found in plan.cells} | {cell.id, other.id}) == 6
    assert plan.cells[1].title == f"{cell.title} replica 2"
    assert plan.round_seconds == 20 / (4 * 5)


def test_one_replica_is_the_cell_itself():
    cells = cells_of({**NARROW, "backend": "torch"})
    assert Pace(replicas=1).plan(cells).cells == Pace().plan(cells).cells == cells


def test_what_is_not_run_has_no_replicas():
    (cell,) = cells_of(
        {**NARROW, "backend": "openvino", "precision": "bf16"}, probe=lambda name: known(name, FP32_ALONE)
    )
    assert cell.unsupported
    assert Pace(replicas=3).plan((cell,)).cells == (cell,)


@pytest.mark.parametrize("replicas", [0, -1, MOST_REPLICAS + 1, 10**30])
def test_replicas_out_of_range(replicas: int):
    with pytest.raises(RequestError, match=f"replicas is {replicas}; it must be from 1 to {MOST_REPLICAS}"):
        Pace(replicas=replicas).plan(())


@pytest.mark.parametrize("rounds", [0, -1, MOST_ROUNDS + 1, 10**30])
def test_rounds_out_of_range(rounds: int):
    with pytest.raises(RequestError, match=f"rounds is {rounds}; it must be from 1"):
        Pace(rounds=rounds).plan(())


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf"), LONGEST_BUDGET_S + 1])
def test_budgets_out_of_range(budget: float):
    with pytest.raises(RequestError, match="it must be more than 0 and at most"):
        Pace(time_budget_s=budget).plan(())


def test_the_fake_network_is_what_its_arguments_say():
    (cell,) = cells_of(
        {"config": "8,M,16,M", "input_size": 32, "num_classes": 5, "classifier_width": 16, "backend": "fake"}
        | {"precision": "fp32"}
    )
    assert cell.spec == SPEC

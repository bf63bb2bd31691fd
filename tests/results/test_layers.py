"""Which operation of a profile is which layer, and what its time says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import SPEC, fake_cell
from tests.measure.test_roofline import ceiling
from vggbench.backends.base import LayerTime
from vggbench.measure.profiling import Profile
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.models.network_file import NetworkFile
from vggbench.models.spec import make_spec
from vggbench.results.layers import LAYER, OTHER, OUTSIDE, CellProfile, cell_profile, layer_names

CELL = fake_cell()  # features.0, .3 and classifier.0, .3, .6 multiply; batch 2
LAYERS = mac_layers(SPEC, 2)
NAMES = [layer.name for layer in LAYERS]
MACS = totals(walk(SPEC)).macs
CEILINGS = (ceiling(1e9), ceiling(1e9, "", "bandwidth"))
FILE = NetworkFile(
    variant="net",
    path="/net.onnx",
    sha256="0" * 64,
    input_name="x",
    output_name="y",
    input_size=8,
    num_classes=5,
    batch_size=0,
    parameters=100,
    weights_type="fp32",
)


def taken(name: str, *samples_ns: int, macs: int = 0, weights: int = 0) -> LayerTime:
    return LayerTime(name=name, operation="op", macs=macs, weights=weights, samples_ns=samples_ns or (1,))


def products(*names: str, padded: int = 0) -> list[LayerTime]:
    """Return the network's products under names of a backend's."""
    return [taken(name, macs=layer.macs + padded) for name, layer in zip(names, LAYERS, strict=True)]


def joined(profile: Profile, *, plain_ns: tuple[int, ...] = (1000,), ceilings=CEILINGS) -> CellProfile:
    return cell_profile(CELL, MACS, plain_ns, profile, ceilings)


def test_the_networks_own_names_are_enough_whatever_the_shapes_say():
    assert layer_names(products(*NAMES, padded=3), CELL) == NAMES


def test_what_is_fused_behind_a_layer_may_name_it():
    named = products("features.1", "features.4", "classifier.1", "classifier.4", "classifier.6", padded=3)
    assert layer_names(named, CELL) == NAMES


def test_the_last_layer_may_be_named_by_the_networks_output():
    assert layer_names(products(*NAMES[:-1], "logits"), CELL) == NAMES


def test_without_names_order_and_size_tell():
    assert layer_names(products(*[f"aten::addmm[{number}]" for number in range(5)]), CELL) == NAMES


@pytest.mark.parametrize("names", [["a", "b", "c", "d", "e"], ["features.0", "b", "c", "d", "e"]])
def test_nothing_is_claimed_where_sizes_differ(names: list[str]):
    nameless = products(*names)
    nameless[2] = replace(nameless[2], macs=1)
    assert layer_names(nameless, CELL) == ["features.0" if name == "features.0" else "" for name in names]


def test_nothing_is_claimed_where_a_layer_is_missing():
    assert layer_names(products("a", "b", "c", "d", "e")[:-1], CELL) == [""] * 4


def test_one_layer_is_not_two_operations():
    times = [taken("features.0", macs=1), taken("features.0/1", macs=1)]
    assert layer_names(times, CELL) == ["features.0", ""]


def test_a_pools_products_are_no_layers():
    spec = make_spec(config="8,M", input_size=32, num_classes=5, classifier_width=16)
    pool = [taken("avgpool", macs=10), taken("avgpool/1", macs=10), taken("features.0", macs=10)]
    assert layer_names(pool, replace(CELL, spec=spec)) == ["", "", "features.0"]


def test_operations_without_macs_are_no_layers_whatever_they_are_called():
    assert layer_names([taken("features.0"), taken("features.1")], CELL) == ["", ""]


def test_a_files_layers_are_what_multiplies_in_it():
    assert layer_names([taken("stem", macs=4), taken("relu")], replace(CELL, spec=FILE)) == ["stem", ""]


def test_shares_add_up_and_the_rest_of_the_request_is_said():
    found = joined(Profile(samples_ns=(1000,), layers=(taken("features.0", 500, macs=1), taken("pool", 300))))
    assert [(row.layer, row.part) for row in found.layers] == [
        ("features.0", LAYER),
        ("pool", OTHER),
        ("outside the layers", OUTSIDE),
    ]
    assert [row.share_percent for row in found.layers] == pytest.approx([50, 30, 20])
    assert found.unassigned == tuple(NAMES[1:])


def test_a_layer_is_held_against_the_machine():
    layer = LAYERS[0]
    seconds = 2 * 2 * layer.macs / 1e9  # twice what 1 GFLOP/s takes
    time = taken("features.0", round(seconds * 1e9), macs=layer.macs)
    row = joined(Profile(samples_ns=time.samples_ns, layers=(time,))).layers[0]
    assert row.gflop == 2 * layer.macs / 1e9
    assert row.gflop_s == pytest.approx(0.5)
    assert row.percent_of_attainable == pytest.approx(50)
    assert row.attainable_ms == pytest.approx(seconds * 1e3 / 2)
    assert row.bound_by == "compute"
    # Weights, bias, and the batch of images in fp32.
    assert row.least_mib == (layer.parameters * 4 + 2 * 3 * 32 * 32 * 4) / 2**20


def test_a_layer_of_weights_is_bound_by_bandwidth():
    layer = LAYERS[2]  # 784 inputs, 16 outputs, two images: 2 FLOPs and 4 bytes a weight and image
    row = joined(Profile(samples_ns=(100,), layers=(taken(layer.name, 50, macs=layer.macs),))).layers[0]
    assert row.bound_by == ("compute" if 2 * layer.macs >= layer.parameters * 4 else "bandwidth")
    single = cell_profile(
        replace(CELL, batch_size=1),
        MACS,
        (100,),
        Profile(samples_ns=(100,), layers=(taken(layer.name, 50, macs=layer.macs // 2),)),
        CEILINGS,
    )
    assert single.layers[0].bound_by == "bandwidth"


def test_without_ceilings_there_is_no_percentage_and_still_a_rate():
    found = joined(Profile(samples_ns=(100,), layers=(taken("features.0", 50, macs=1),)), ceilings=())
    assert found.layers[0].gflop_s is not None
    assert found.layers[0].percent_of_attainable is found.layers[0].bound_by is found.ceiling_gflop_s is None


def test_a_time_below_the_profilers_clock_has_no_rate():
    row = joined(Profile(samples_ns=(100,), layers=(taken("features.0", 0, macs=1),))).layers[0]
    assert (row.time_ms, row.gflop_s, row.percent_of_attainable) == (0, None, None)


def test_every_request_counts_the_same():
    profile = Profile(samples_ns=(10, 30), layers=(taken("features.0", 6, 18, macs=1),))
    found = joined(profile, plain_ns=(10, 22))
    assert (found.requests, found.profiled_request_ms, found.request_ms) == (2, 20e-6, 16e-6)
    assert found.profiler_percent == pytest.approx(25)
    assert found.layers[0].share_percent == pytest.approx(60)


def test_a_files_flops_are_the_backends_where_they_are_the_files():
    cell = replace(CELL, spec=FILE)
    profile = Profile(samples_ns=(100,), layers=(taken("stem", 40, macs=60, weights=10),))
    right, padded = cell_profile(cell, 30, (1,), profile, ()), cell_profile(cell, 20, (1,), profile, ())
    assert (right.macs_agree, right.layers[0].gflop) == (True, 120 / 1e9)
    assert (padded.macs_agree, padded.layers[0].gflop, padded.layers[0].part) == (False, None, LAYER)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1)), min_size=1, max_size=40))
def test_whatever_was_sampled_all_shares_are_the_whole(samples: list[tuple[int, float]]):
    requests = tuple(request for request, _ in samples)
    layer = taken("features.0", *(int(request * share) for request, share in samples), macs=1)
    found = joined(Profile(samples_ns=requests, layers=(layer,)))
    assert sum(row.share_percent for row in found.layers) == pytest.approx(100)
    assert found.layers[-1].share_percent >= -1e-6

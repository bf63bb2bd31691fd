"""Parity catches every damage that changes the function, in fp32, in every backend, and cries wolf at none."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from tests.meta.repository import ROOT
from tests.parity.chain import chain_of, run
from tests.parity.mutations import (
    EQUIVALENT,
    FUNCTIONS_DAMAGED,
    IMAGES_DAMAGED,
    LAYERS_DAMAGED,
    LOCAL,
    MUTATIONS,
    OUTPUTS_DAMAGED,
)
from tests.parity.score import SCORED, Engine, Score, survivors_uncaught_in_fp32
from tests.parity.scoring import EMULATED, Laboratory, engines
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.data.synthetic import images
from vggbench.models.spec import make_spec
from vggbench.models.weights import build_module

NARROW = {"num_classes": 10, "classifier_width": 64}
NETWORKS = {
    "plain": make_spec(config="8,8,M,16,16,M,32,32,M", input_size=32, **NARROW),
    "plain, 1x1": make_spec(config="8,M,16,16@1,M,32,32@1,M", input_size=40, **NARROW),
    "batch norm": make_spec(config="8,8,M,16,16,M,32,32,M", batch_norm=True, input_size=32, **NARROW),
    "batch norm, 1x1, flatten": make_spec(
        config="8,16,16@1,M,32,32,M", batch_norm=True, head="flatten", input_size=24, **NARROW
    ),
    "response norm": make_spec(config="8,M,16,M,32,32,M", local_response_norm="literal", input_size=48, **NARROW),
    "deep": make_spec(config="16,16,M,32,32,M,48,48,48,M,64,64,64,M", batch_norm=True, input_size=32, **NARROW),
}
# OpenVINO compiles each mutant anew: on three networks that have a place for every mutation among them.
COMPILED = {"batch norm", "response norm", "deep"}
QUANTIZED = "quantized"  # every engine of int8 and fp8, on one network: each mutant is evaluated in float64, too
NETWORKS_OF = {"openvino": COMPILED, EMULATED: COMPILED, QUANTIZED: {"batch norm"}}
QUICK = {("batch norm", "torch"), ("batch norm", "onnxruntime"), ("plain, 1x1", "onnxruntime")}
PLACES = [
    pytest.param(network, place, id=f"{network}-{place}", marks=[] if (network, place) in QUICK else [pytest.mark.slow])
    for network in NETWORKS
    for place in ("torch", "onnxruntime", "openvino", EMULATED, QUANTIZED)
    if network in NETWORKS_OF.get(place, NETWORKS)
]
# OpenVINO 2026.4.1 was seen to give anything for a hidden int8 layer at batch 8 whose bias is 0 throughout. Parity
# fails it, and not for the damage.
DEFECTIVE = {QUANTIZED: {"bias dropped, hidden layer"}}
THREADS = 1  # networks this small are done before a second thread has woken
FEWEST = 55  # of the mutations, that a network of whatever kind has a place for


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@cache
def laboratory(network: str, backend: str, exports: Path) -> Laboratory:
    found = engines() if backend == QUANTIZED else engines([backend])
    wanted = [each for each in found if (each.precision in QUANTIZED_PRECISIONS) == (backend == QUANTIZED)]
    return Laboratory(NETWORKS[network], exports, wanted, THREADS)


@cache
def damaged(network: str, backend: str, exports: Path) -> tuple[Score, ...]:
    mutations = {name: each for name, each in MUTATIONS.items() if name not in DEFECTIVE.get(backend, ())}
    scores = tuple(laboratory(network, backend, exports).scores(mutations))
    SCORED.extend(scores)
    return scores


def test_the_list_is_long_and_of_every_kind() -> None:
    assert f"the tests damage networks in {len(MUTATIONS)} ways" in (ROOT / "README.md").read_text()
    assert {"image repeated for all"} <= IMAGES_DAMAGED.keys()
    assert {"images in another order", "one image's output given twice", "mean output"} <= OUTPUTS_DAMAGED.keys()
    assert LAYERS_DAMAGED.keys() >= LOCAL


@pytest.mark.parametrize("network", NETWORKS)
def test_chain_is_the_network(network: str) -> None:
    whole = build_module(NETWORKS[network])
    inputs = torch.from_numpy(images(8, whole.spec.input_size, seed=0))
    with torch.inference_mode():
        assert torch.equal(run(chain_of(whole), inputs), whole.logits(inputs))


@pytest.mark.parametrize(("network", "backend"), PLACES)
def test_undamaged_network_passes(network: str, backend: str, exports: Path) -> None:
    subject = laboratory(network, backend, exports)
    for engine in subject.engines:
        verdict = subject.undamaged(engine)
        assert verdict.reasons == (), engine
        assert verdict.outputs_compared == 8


@pytest.mark.parametrize(("network", "backend"), PLACES)
def test_damage_is_caught(network: str, backend: str, exports: Path) -> None:
    """Every mutant that changes the function, in fp32; and each ran as what it is, with the outputs of its own."""
    scores = damaged(network, backend, exports)
    print(*scores, sep="\n")
    assert [str(score) for score in scores if score.wrong] == []
    assert {score.mutation for score in scores if score.equivalent} <= LOCAL
    assert len({score.mutation for score in scores}) >= FEWEST


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_what_survives_in_a_coarse_precision_is_caught_in_fp32(network: str, exports: Path) -> None:
    """The same damage to the same network, in the file that the coarse one was made from."""
    places = [place.values for place in PLACES if place.values[0] == network]
    scores = [score for place in places for score in damaged(*place, exports)]
    assert survivors_uncaught_in_fp32(scores) == []
    assert any(score.state == "hidden" for score in scores)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_every_mutation_is_caught_somewhere(backend: str, exports: Path) -> None:
    scores = [score for place in PLACES if place.values[1] == backend for score in damaged(*place.values, exports)]
    assert {score.mutation for score in scores if score.state == "caught"} == set(MUTATIONS)


@pytest.mark.parametrize(("network", "backend"), PLACES)
def test_same_function_in_other_clothes_is_not_counted_and_passes(network: str, backend: str, exports: Path) -> None:
    scores = list(laboratory(network, backend, exports).scores(EQUIVALENT))
    assert {score.mutation for score in scores} == set(EQUIVALENT)
    assert {score.state for score in scores} == {"equivalent"}


def made(**facts: object) -> Score:
    """A score of one mutant, caught unless told otherwise."""
    caught = {"change": 1.0, "equivalent": False, "passed": False, "error": 1.0, "tolerance": 0.1}
    own = {"departure": 1e-3, "own_tolerance": 1e-2}
    return Score(**{"mutation": "a", "engine": Engine("torch", "bf16"), **caught, **own, **facts})


FP32 = Engine("torch", "fp32")


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, "caught"),
        ({"passed": True, "change": 0.2}, "hidden"),
        ({"passed": True, "change": 0.21}, "MISSED"),
        ({"passed": True, "change": 1e-9, "engine": FP32}, "MISSED"),
        ({"passed": True, "change": 0.0, "equivalent": True, "engine": FP32}, "equivalent"),
        ({"passed": False, "change": 0.0, "equivalent": True}, "FALSE ALARM"),
        ({"departure": 0.02}, "STRANGE"),
        ({"departure": float("nan")}, "STRANGE"),
    ],
)
def test_state_of_a_mutant(facts: dict[str, object], state: str) -> None:
    score = made(**facts)
    assert score.state == state
    assert score.wrong == (state in {"MISSED", "FALSE ALARM", "STRANGE"})
    assert state in str(score)


@pytest.mark.slow
def test_damage_to_the_width_and_depth_of_the_full_network_is_caught(exports: Path) -> None:
    """Its convolutions at 64 pixels, a twelfth of the cost; at 224 and in every backend `make verify-all` does it."""
    within = {**LAYERS_DAMAGED, **FUNCTIONS_DAMAGED}
    spec = make_spec("vgg16_bn", input_size=64, classifier_width=256)
    full = Laboratory(spec, exports, [FP32], threads=2)
    assert full.undamaged(FP32).reasons == ()
    scores = list(full.scores(within))
    assert [str(score) for score in scores if score.wrong] == []
    assert {score.mutation for score in scores if score.equivalent} <= LOCAL
    assert len(scores) >= len(within) - 2  # there is no response norm

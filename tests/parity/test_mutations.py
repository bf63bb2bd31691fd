"""Parity catches every damage that changes the function, in fp32, and cries wolf at none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch

from tests.parity.mutations import EQUIVALENT, LOCAL, MUTATIONS, chain_of
from tests.parity.scoring import Laboratory, Score, run
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
# A pass over the full network costs seconds; these are one or two of each kind, early and late.
LEFT_OUT_OF_FULL = {
    "image repeated for all",
    "batch norm's epsilon wrong",
    "input ignored",
    "BGR given for RGB",
    "image rows and columns exchanged",
    "two channels swapped, first convolution",
    "max pool's windows off by one, first",
    "ReLU dropped, first",
}


@cache
def laboratory(network: str) -> Laboratory:
    return Laboratory(NETWORKS[network])


@cache
def damaged(network: str) -> tuple[Score, ...]:
    return tuple(laboratory(network).scores(MUTATIONS))


def assert_all_caught(tolerance: float, scores: Sequence[Score]) -> None:
    """Print the table, and hold every mutant that changes the function against the check."""
    print(f"\ntolerance {tolerance:.2e}", *scores, sep="\n")
    assert [str(score) for score in scores if score.verdict.passed and not score.equivalent] == []
    assert {score.name for score in scores if score.equivalent} <= LOCAL


@pytest.mark.parametrize("network", NETWORKS)
def test_chain_is_the_network(network: str) -> None:
    whole = build_module(NETWORKS[network])
    inputs = laboratory(network).inputs
    with torch.inference_mode():
        assert torch.equal(run(chain_of(whole), inputs), whole.logits(inputs))


@pytest.mark.parametrize("network", NETWORKS)
def test_undamaged_network_passes(network: str) -> None:
    verdict = laboratory(network).undamaged()
    assert verdict.reasons == ()
    assert verdict.outputs_compared == 8


@pytest.mark.parametrize("network", NETWORKS)
def test_damage_is_caught(network: str) -> None:
    assert_all_caught(laboratory(network).tolerance, damaged(network))
    assert len(damaged(network)) >= 30


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_caught_somewhere(name: str) -> None:
    scores = [score for network in NETWORKS for score in damaged(network) if score.name == name]
    assert any(not score.equivalent and not score.verdict.passed for score in scores)


@pytest.mark.parametrize("network", NETWORKS)
def test_same_function_in_other_clothes_is_not_counted_and_passes(network: str) -> None:
    scores = list(laboratory(network).scores(EQUIVALENT))
    assert {score.name for score in scores if score.equivalent} == set(EQUIVALENT)
    assert all(score.verdict.passed for score in scores)


@pytest.mark.slow
def test_damage_to_the_full_network_is_caught() -> None:
    full = Laboratory(make_spec("vgg16_bn"), count=3)
    assert full.undamaged().reasons == ()
    scores = list(full.scores({name: damage for name, damage in MUTATIONS.items() if name not in LEFT_OUT_OF_FULL}))
    assert_all_caught(full.tolerance, scores)
    assert len(scores) >= 30

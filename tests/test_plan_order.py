from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from tests.fakes import fake_cell
from vggbench.plan.order import schedule

ON_CPU = [fake_cell(precision=precision, batch_size=size) for precision in ("fp32", "bf16") for size in (1, 2, 3)]
ON_GPU = [replace(cell, device="cuda:1") for cell in ON_CPU]


def test_every_round_has_every_cell_once_on_a_gpu_too():
    for number in range(5):
        cells = [cell.id for found, cell in schedule(ON_GPU, 5, 0) if found == number]
        assert sorted(cells) == sorted(cell.id for cell in ON_GPU)


def test_batches_of_an_engine_follow_each_other_on_a_gpu_in_a_random_order():
    orders = set()
    for _number, steps in groupby(schedule(ON_GPU, 20, 0), key=lambda step: step[0]):
        cells = [cell for _, cell in steps]
        assert len(list(groupby(cells, key=lambda cell: cell.precision))) == 2
        orders.add(tuple((cell.precision, cell.batch_size) for cell in cells))
    assert len(orders) > 10
    assert {order[0][0] for order in orders} == {"fp32", "bf16"}


def test_on_a_cpu_they_do_not():
    rounds = [[cell.precision for number, cell in schedule(ON_CPU, 20, 0) if number == found] for found in range(20)]
    assert any(len(list(groupby(precisions))) > 2 for precisions in rounds)

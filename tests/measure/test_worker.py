"""The worker's commands, called in this process; as a process of its own see test_client.py."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import fake_cell, fake_request
from vggbench.artefacts.artefact import file_sha256
from vggbench.artefacts.child_process import die_with_parent
from vggbench.backends.base import Compilation, Unavailable
from vggbench.backends.fake import FakeBackend, FakeSession
from vggbench.measure import worker as module
from vggbench.measure.client import WorkerClient
from vggbench.measure.request import RoundRequest
from vggbench.measure.worker import PROTOCOL, Worker, answer, serve, without_nonfinite


def ask(worker: Worker, command: str, **arguments: Any) -> Any:
    message = answer(worker, json.dumps({"command": command, **arguments}))
    assert message["ok"], message
    return message["result"]


def refused(worker: Worker, command: str, **arguments: Any) -> dict[str, Any]:
    message = answer(worker, json.dumps({"command": command, **arguments}))
    assert not message["ok"]
    return message


@pytest.fixture
def request_(fake_exports: Path) -> RoundRequest:
    return fake_request(fake_cell(), fake_exports)


@pytest.fixture
def opened(request_: RoundRequest) -> Worker:
    worker = Worker()
    ask(worker, "open", **request_.opening(1))
    return worker


def test_a_probe_says_version_and_precisions():
    found = ask(Worker(), "probe", backend="fake", device="cpu", precisions=["fp32", "fp4"])
    assert found == {
        "available": True,
        "version": "1",
        "reason": "",
        "remedy": "",
        "precisions": {"fp32": "", "fp4": "no fp4"},
    }


def test_a_probe_says_why_not():
    found = ask(Worker(), "probe", backend="fake", device="tpu", precisions=["fp32"])
    assert not found["available"]
    assert "tpu" in found["reason"]
    assert found["remedy"]


def test_opening_tells_what_it_took(opened: Worker, request_: RoundRequest):
    found = ask(opened, "open", **request_.opening(2))
    assert found["artefact_sha256"] == request_.artefact["sha256"]
    assert found["timeline"] == "scripted"
    assert found["first_inference_ns"] == 1_000_000
    assert min(found["import_s"], found["load_s"]) >= 0
    assert opened.session.slots == 2


def test_what_was_compiled_in_opening_is_no_part_of_loading(request_: RoundRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeSession, "compilation", Compilation(seconds=1000.0, cached=False))
    found = ask(Worker(), "open", **request_.opening(1))
    assert (found["compile_s"], found["compile_cached"]) == (1000.0, False)
    assert -1000 <= found["load_s"] < -900  # of a session that claims to have compiled for longer than it took to open


def test_a_session_that_compiles_nothing_says_so(opened: Worker, request_: RoundRequest):
    found = ask(opened, "open", **request_.opening(1))
    assert found["compile_s"] is found["compile_cached"] is None


def test_opening_again_closes_what_was_open(opened: Worker, request_: RoundRequest, monkeypatch: pytest.MonkeyPatch):
    closed = []
    monkeypatch.setattr(opened.session, "close", lambda: closed.append(True), raising=False)
    ask(opened, "open", **request_.opening(1))
    assert closed == [True]


def test_a_round_in_one_session(opened: Worker, request_: RoundRequest):
    assert ask(opened, "evidence")["batch_size"] == request_.batch_size
    verdict = ask(opened, "verify", tolerance=request_.tolerance)
    assert verdict["passed"]
    assert verdict["outputs_compared"] == 8
    assert verdict["passing_tolerance"] < request_.tolerance
    assert verdict["artefact_sha256"] == request_.artefact["sha256"]
    assert ask(opened, "warm", least_s=0.01, most_s=0.1)["kind"] == "warmup"
    for kind in ("compute", "end_to_end"):
        block = ask(opened, "block", kind=kind, seconds=0.002, least_samples=3)
        assert (block["kind"], block["samples_ns"]) == (kind, (1_000_000,) * 3)
    assert ask(opened, "block", kind="throughput", seconds=0.002)["kind"] == "throughput"
    peak = ask(opened, "close")["peak_memory_bytes"]
    assert peak is None or peak > 2**20


def test_every_slot_takes_its_share_of_the_verification(request_: RoundRequest, monkeypatch: pytest.MonkeyPatch):
    worker = Worker()
    ask(worker, "open", **request_.opening(2))
    fetched = []
    fetch = worker.session.fetch
    monkeypatch.setattr(worker.session, "fetch", lambda slot: fetched.append(slot) or fetch(slot))
    assert ask(worker, "verify", tolerance=request_.tolerance)["passed"]
    assert sorted(fetched) == [0, 0, 1, 1]


def test_more_slots_than_batches_are_all_verified(request_: RoundRequest):
    worker = Worker()
    ask(worker, "open", **request_.opening(6))
    verdict = ask(worker, "verify", tolerance=request_.tolerance)
    assert verdict["passed"]
    assert verdict["outputs_compared"] >= 6 * request_.batch_size


def test_a_damaged_artefact_is_not_opened(request_: RoundRequest, fake_exports: Path):
    artefact = {**request_.artefact, "sha256": "0" * 64}
    message = refused(Worker(), "open", **{**request_.opening(1), "artefact": artefact})
    assert (message["kind"], message["command"]) == ("ArtefactError", "open")


def test_files_are_hashed_before_they_are_first_opened(
    request_: RoundRequest, opened: Worker, monkeypatch: pytest.MonkeyPatch
):
    hashed = []
    monkeypatch.setattr(module, "check_files", hashed.append)
    ask(opened, "open", **request_.opening(2))
    assert hashed == []
    ask(opened, "open", **{**request_.opening(2), "artefact": {**request_.artefact, "sha256": ""}})
    ask(Worker(), "open", **request_.opening(1))
    assert [files.sha256 for files in hashed] == ["", request_.artefact["sha256"]]


def test_a_reference_that_was_changed_is_not_believed(request_: RoundRequest):
    message = refused(Worker(), "open", **{**request_.opening(1), "reference_sha256": "0" * 64})
    assert "the reference that the run was planned with has 000000000000..." in message["message"]


def test_a_backend_that_has_gone_since_it_was_probed(request_: RoundRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeBackend, "availability", lambda *_: Unavailable("it is gone", "bring it back"))
    assert "it is gone; bring it back" in refused(Worker(), "open", **request_.opening(1))["message"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("evidence", {}), ("verify", {"tolerance": 1.0}), ("warm", {"least_s": 0, "most_s": 1})],
)
def test_commands_need_an_open_session(command: str, arguments: dict[str, Any]):
    assert "no session is open" in refused(Worker(), command, **arguments)["message"]


def test_closing_may_be_repeated(opened: Worker):
    ask(opened, "close")
    ask(opened, "close")
    assert "no session is open" in refused(opened, "evidence")["message"]


def test_an_unknown_command_is_told_those_there_are():
    message = refused(Worker(), "fly")
    assert "there is no command 'fly'; there are probe, ceiling, open" in message["message"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "5",
        "[]",
        "null",
        "{}",
        '{"command": []}',
        '{"command": "close", "force": 1}',
        "[" * 100_000,
        "\x00\udcff",
    ],
)
def test_whatever_is_no_command_gets_an_answer(line: str):
    message = answer(Worker(), line)
    assert not message["ok"]
    assert message["kind"]
    assert "\n" not in message["message"]


@given(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps))
def test_no_line_ends_the_worker(line: str):
    assert answer(Worker(), line)["ok"] in {True, False}


def test_of_a_long_message_the_first_line_is_told(opened: Worker, monkeypatch: pytest.MonkeyPatch):
    def fail():
        raise ValueError("\n first\nsecond")

    monkeypatch.setattr(opened.session, "evidence", fail)
    assert refused(opened, "evidence")["message"] == "first"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Exception from core.cpp:117:\nfrom plugin.cpp:9: \n  no bf16\nmore",
            "Exception from core.cpp:117: from plugin.cpp:9: no bf16",
        ),
        ("Exception from core.cpp:117:", "Exception from core.cpp:117:"),
    ],
)
def test_lines_that_only_lead_to_another_are_told_with_it(
    opened: Worker, monkeypatch: pytest.MonkeyPatch, message: str, told: str
):
    def fail():
        raise RuntimeError(message)

    monkeypatch.setattr(opened.session, "evidence", fail)
    assert refused(opened, "evidence")["message"] == told


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_swallowed(opened: Worker, ending, monkeypatch: pytest.MonkeyPatch):
    def end():
        raise ending

    monkeypatch.setattr(opened.session, "evidence", end)
    with pytest.raises(ending):
        answer(opened, '{"command": "evidence"}')


def test_json_has_no_nonfinite_numbers():
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": {"c": np.float64("nan")}, "d": 3, "e": "NaN", "f": True}
    expected = {"a": [1.5, None, [None, None]], "b": {"c": None}, "d": 3, "e": "NaN", "f": True}
    assert without_nonfinite(value) == expected


def test_serving_greets_and_answers_line_by_line():
    answers = io.StringIO()
    worker = Worker()
    serve(io.StringIO('{"command": "close"}\nno\n{"command": "close"}\n'), answers, lambda line: answer(worker, line))
    greeting, *rest = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert greeting["result"]["protocol"] == PROTOCOL
    assert greeting["result"]["pid"] == os.getpid()
    assert [message["ok"] for message in rest] == [True, False, True]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_fat_parent_does_not_weigh_on_its_worker():
    weight = bytearray(400 * 2**20)
    weight[::4096] = b"x" * len(weight[::4096])  # every page is touched
    with WorkerClient() as worker:
        assert worker.call("close")["peak_memory_bytes"] < len(weight)


def start_worker(parent: int, commands: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "vggbench.measure.worker", str(parent)]
    return subprocess.run(command, input=commands, capture_output=True, text=True, check=False, timeout=60)


def test_the_process_ends_when_its_input_does():
    ended = start_worker(os.getpid(), '{"command": "close"}\n')
    assert ended.returncode == 0
    assert [json.loads(line)["ok"] for line in ended.stdout.splitlines()] == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_process_whose_parent_is_gone_already_does_not_start():
    ended = start_worker(os.getpid() + 1, '{"command": "close"}\n')
    assert (ended.returncode, ended.stdout) == (1, "")


def test_elsewhere_the_end_of_the_input_is_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    die_with_parent(-1)


def test_what_quantisation_cost_is_told_beside_the_error(request_: RoundRequest, tmp_path: Path):
    """A reference of a quantised network has the outputs of the one before; a worker holds its own against both."""
    with np.load(request_.reference) as stored:
        arrays = dict(stored)
    exact = arrays["logits"] + 0.01 * np.random.default_rng(0).standard_normal(arrays["logits"].shape)
    costs = {}
    for name, before in (("near", exact), ("far", exact[::-1])):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays, exact_logits=before)
        worker = Worker()
        changes = {"reference": str(path), "reference_sha256": file_sha256(path)}
        ask(worker, "open", **{**request_.opening(1), **changes})
        costs[name] = ask(worker, "verify", tolerance=request_.tolerance)
    assert costs["near"]["passed"]
    assert 0 < costs["near"]["quantization_error"] < 0.1
    assert not costs["far"]["passed"]
    assert costs["far"]["quantization_error"] > 1
    assert costs["far"]["metrics"]["signal_error"] == costs["near"]["metrics"]["signal_error"]

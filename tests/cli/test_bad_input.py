"""What somebody may get wrong: one line on stderr, the exit code, no file changed; through the real command line."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.cli.conftest import CommandLine
from tests.fakes import ARGUMENTS, SPEC
from tests.results.made import CELL, info, record
from vggbench.errors import ExportError
from vggbench.models.weights import initial_state
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import FILE_NAME, write_run_info

NETWORK = shlex.join(ARGUMENTS)
FAKE = f"{NETWORK} --backend fake"
PROGRESS = ("[", "preparing ")
TO = "--exports {out}/exports"
CELLS = '[[cells]]\nconfig = "8,M"\ninput_size = 32\nbackend = "fake"\n'

PLANS = {
    "key": CELLS + "colour = 1\n",
    "type": "rounds = 'six'\n" + CELLS,
    "none": "rounds = 6\n",
    "syntax": "rounds = ",
    "network": CELLS + 'variant = "vgg17"\n',
    "layers": CELLS.replace("8,M", "8,Q"),
    "device": 'device = "tpu"\n' + CELLS,
    "threads": "threads = 100000\n" + CELLS,
    "good": CELLS,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are not what they should be; the names say how."""
    folder = tmp_path_factory.mktemp("given")
    for name, text in PLANS.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "file").write_text("not a folder")
    _make_weights(folder)
    _make_runs(folder)
    return folder


def _make_weights(folder: Path) -> None:
    state = initial_state(SPEC)
    torch.save(state, folder / "torn.pth")
    save_file(state, folder / "torn.safetensors")
    for name in ("torn.pth", "torn.safetensors"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    torch.save(nn.Linear(2, 2), folder / "module.pth")
    torch.save({"model": {"fc.weight": torch.ones(3)}}, folder / "other.pth")
    torch.save(state | {"features.0.bias": torch.full((8,), float("nan"))}, folder / "nan.pth")
    torch.save(state | {"features.0.bias": torch.ones(8).to("meta")}, folder / "meta.pth")
    (folder / "words.pth").write_text("no weights at all")
    (folder / "empty.safetensors").touch()
    (folder / "folder.pth").mkdir()


def _make_runs(folder: Path) -> None:
    for name in ("whole", "headless", "scribbled", "torn"):
        (folder / name).mkdir()
        write_run_info(folder / name, info(CELL))
        Journal(folder / name / JOURNAL_NAME).append(record(CELL, 0))
    (folder / "headless" / FILE_NAME).unlink()
    (folder / "torn" / FILE_NAME).write_text((folder / "torn" / FILE_NAME).read_text()[:-20])
    (folder / "scribbled" / JOURNAL_NAME).write_text("no\n")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# Command and what it says; {given} is the folder of wrong files, {out} an empty one. All of them end in 2.
WRONG = [
    # Networks
    (f"export --variant vgg17 {TO}", "no variant is called 'vgg17'; did you mean vgg1"),
    ("show vgg61", "did you mean vgg19 or vgg16"),
    (f"verify --variant resnet50 --backend fake {TO}", "there are vgg11, "),
    (f"export --variant vgg16,vgg17 {TO}", "no variant is called 'vgg17'"),
    (f"export --variant vgg16 --lrn literal {TO}", "use vgg11_lrn"),
    (f"export --variant A-LRN --batch-norm {TO}", "vgg11_lrn has no batch-norm form"),
    (f"export --variant vgg16 --config 8,M {TO}", "not both"),
    (f"export --config 8,Q {TO}", "item 2 is 'Q'"),
    (f"verify --config M,M --backend fake {TO}", "no convolution"),
    (f"export --variant vgg16 --head flatten --input-size 4096 {TO}", "use the adaptive head or a smaller size"),
    (f"export --variant vgg16 --input-size 31 {TO}", "the smallest size that works is 32"),
    (f"export --variant vgg16 --input-size 0 {TO}", "input size is 0; it must be from 1"),
    (f"export --variant vgg16 --input-size -224 {TO}", "input size is -224; it must be from 1"),
    (f"export --variant vgg16 --num-classes 0 {TO}", "number of classes is 0; it must be from 1"),
    (f"run --variant vgg16 --num-classes -3 --output {{out}}/run {TO}", "number of classes is -3"),
    (f"export --variant vgg16 --num-classes many {TO}", "Invalid value for '--num-classes'"),
    (f"export --variant vgg16 --classifier-width 0 {TO}", "classifier width is 0; it must be from 1"),
    (f"export --variant vgg16 --seed -1 {TO}", "seed is -1; it must be from 0"),
    (f"export --variant vgg16 --seed {'9' * 30} {TO}", "seed is 9999"),
    (f"export --variant vgg16 --head round {TO}", "Invalid value for '--head'"),
    (f"export --variant vgg16 --opset 99 {TO}", "opset 99: give one from 18 to 25"),
    (f"export --variant vgg16 --format pdf {TO}", "Invalid value for '--format'"),
    # Cells
    (f"verify {FAKE} --batch-size -1 {TO}", "batch size is -1; it must be from 1 to 4096"),
    (f"verify {FAKE} --batch-size 10000000 {TO}", "batch size is 10000000; it must be from 1 to 4096"),
    (f"verify {FAKE} --precision fp7 {TO}", "unknown precision 'fp7'; it can be"),
    (f"verify {NETWORK} --backend toroch {TO}", "unknown backend 'toroch'; did you mean torch?"),
    (f"verify {FAKE} --device cuda {TO}", "device 'cuda' cannot be measured"),
    (f"run {FAKE} --device cuda:1 --output {{out}}/run {TO}", "device 'cuda:1' cannot be measured"),
    (f"run {FAKE} --device toaster --output {{out}}/run {TO}", "device 'toaster' cannot be measured"),
    (f"verify {FAKE} --device '' {TO}", "device '' cannot be measured"),
    (f"run {FAKE} --rounds six --output {{out}}/run {TO}", "Invalid value for '--rounds'"),
    # Weights files
    (f"export {NETWORK} --weights {{given}}/absent.pth {TO}", "absent.pth' does not exist; check the path"),
    (f"export {NETWORK} --weights {{given}}/file {TO}", "or a file that ends in .pth"),
    (f"export {NETWORK} --weights {{given}}/folder.pth {TO}", "folder.pth' is a folder; name the file in it"),
    (f"export {NETWORK} --weights {{given}}/empty.safetensors {TO}", "empty.safetensors' is empty"),
    (f"export {NETWORK} --weights {{given}}/words.pth {TO}", "was not written by torch.save"),
    (f"export {NETWORK} --weights {{given}}/torn.pth {TO}", "torn.pth' cannot be read: "),
    (f"export {NETWORK} --weights {{given}}/torn.safetensors {TO}", "is not a whole safetensors file"),
    (
        f"export {NETWORK} --weights {{given}}/module.pth {TO}",
        "opening it would run its code; save module.state_dict()",
    ),
    (
        f"export {NETWORK} --weights {{given}}/other.pth {TO}",
        "features.0.weight is missing; features.0.bias is missing; ",
    ),
    (f"export {NETWORK} --weights {{given}}/nan.pth {TO}", "8 of 8 values of features.0.bias are not finite"),
    (f"export {NETWORK} --weights {{given}}/meta.pth {TO}", "features.0.bias is on the meta device and has no values"),
    (f"verify {NETWORK} --backend torch --weights {{given}}/torn.pth {TO}", "torn.pth' cannot be read: "),
    # Plans
    (f"verify --plan {{given}}/key.toml {TO}", "key.toml: 'cells.0.colour' is no key here; there are variant, config"),
    (f"verify --plan {{given}}/type.toml {TO}", "type.toml: rounds: Input should be a valid integer, not 'six'"),
    (f"verify --plan {{given}}/none.toml {TO}", "none.toml: cells: Field required"),
    (f"verify --plan {{given}}/syntax.toml {TO}", "syntax.toml is not TOML: "),
    (f"verify --plan {{given}}/network.toml {TO}", "no variant is called 'vgg17'"),
    (f"verify --plan {{given}}/layers.toml {TO}", "item 2 is 'Q'"),
    (f"verify --plan {{given}}/device.toml {TO}", "device 'tpu' cannot be measured"),
    (f"verify --plan {{given}}/threads.toml {TO}", "threads is 100000; this process may use"),
    (f"verify --plan {{given}} {TO}", "cannot be read: Is a directory"),
    (f"verify --plan {{given}}/good.toml --seed 0 {TO}", "--seed cannot be given beside --plan"),
    (f"run --plan {{given}}/good.toml --weights random --outputs logits {TO}", "--outputs, --weights cannot be given"),
    # Folders
    (f"export {NETWORK} --exports ''", "a folder's name is empty; name one, or write . for the working directory"),
    (f"run {FAKE} --output '' {TO}", "a folder's name is empty"),
    (f"accuracy {FAKE} --data '' {TO}", "a folder's name is empty"),
    (f"run {FAKE} --data '' {TO}", "a folder's name is empty"),
    ("train --data '' --output {given}/none", "a folder's name is empty"),
    ("train --data {given} --output ''", "a folder's name is empty"),
    (f"verify --onnx {{given}} --backend onnxruntime {TO}", "is a folder; name the file in it"),
    (
        f"export {NETWORK} --exports {{given}}/file",
        "cannot be written: Not a directory; make room there or name another",
    ),
    (f"run {FAKE} --output {{given}}/file {TO}", "file cannot be made: File exists; name another with"),
    (f"run {FAKE} --output {{given}}/file/run {TO}", "file/run cannot be made: "),
    (f"run {FAKE} --output {{given}}/whole {TO}", "whole holds a run already; continue it with --resume"),
    (f"run {FAKE} --output {{given}}/headless {TO}", "headless holds the rounds of a run without its run.json"),
    ("run --resume --output {given}/whole --seed 0", "--resume continues the run's own plan"),
    ("run --resume --output {given}/torn", "run.json is not JSON: "),
    ("report {given}/absent", "absent holds no run: run.json is missing"),
    ("report {given}/file", "run.json cannot be read: Not a directory"),
    ("report {given}/torn", "run.json is not JSON: "),
    ("report {given}/scribbled", "rounds.jsonl, line 1: not a round's record"),
    # Command lines
    ("fly", "No such command 'fly'; see vggbench --help"),
    ("report", "Missing argument 'RUN'; see vggbench report --help"),
    ("run --colour red", "No such option: --colour"),
]


@pytest.mark.usefixtures("inline_workers")
@pytest.mark.parametrize(("command", "said"), WRONG, ids=[command.replace(f" {TO}", "")[:70] for command, _ in WRONG])
def test_it_is_one_line_and_2_and_nothing_is_lost(
    command_line: CommandLine, given: Path, tmp_path: Path, command: str, said: str
):
    before = files(given)
    answer = command_line(*shlex.split(command.format(given=given, out=tmp_path)))
    (message,) = [line for line in answer.err.splitlines() if not line.startswith(PROGRESS)]
    assert (answer.code, answer.out) == (2, "")
    assert message.startswith("vggbench: ")
    assert said in message
    assert files(given) == before
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("export --variant vgg17", "no variant is called 'vgg17'"),
        ("run --plan {given}/key.toml", "'cells.0.colour' is no key here"),
        ("run --device cuda:1", "device 'cuda:1' cannot be measured"),
        pytest.param(f"export {NETWORK} --weights {{given}}/torn.pth {TO}", "cannot be read: ", marks=pytest.mark.slow),
    ],
)
def test_it_is_the_same_in_a_process_of_its_own(given: Path, tmp_path: Path, command: str, said: str):
    arguments = shlex.split(command.format(given=given, out=tmp_path))
    answer = subprocess.run(
        [sys.executable, "-m", "vggbench", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr


def test_a_conversion_is_said_as_a_note(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments: object, **_options: object) -> None:
        raise ExportError("far enough")

    monkeypatch.setattr("vggbench.artefacts.onnx.prepare", fail)  # what comes after the weights
    torch.save({key: value.half() for key, value in initial_state(SPEC).items()}, tmp_path / "half.pth")
    answer = command_line("export", *ARGUMENTS, "--weights", tmp_path / "half.pth", "--exports", tmp_path / "exports")
    assert (answer.code, answer.message) == (5, "vggbench: far enough")
    note = "vggbench: note: weights file 'half.pth' holds float16: its values are used as float32"
    assert answer.err.splitlines().count(note) == 1

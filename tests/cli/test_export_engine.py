"""`vggbench export --format tensorrt-rtx`: its options, and what a terminal shows of a build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.artefacts.engines import needs_rtx
from vggbench.artefacts import tensorrt
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.engine_form import EngineForm
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.cli import export as command
from vggbench.cli.export import export
from vggbench.errors import RequestError

NARROW = ("--config", "8,M,16,M", "--input-size", "16", "--num-classes", "5", "--classifier-width", "16")


def invoke(*arguments):
    app = typer.Typer()
    app.command("export")(export)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture
def asked(monkeypatch):
    """Replace the builder by one that notes what it was asked."""
    noted = []

    def engine_artefact(spec, exports, form, engine, progress, *, hash_existing):
        noted.append((spec, form, engine))
        progress("Building engine", 3, 6)
        folder = str(exports / spec.variant)
        return Artefact(
            kind="onnx",
            folder=folder,
            main="model.plan",
            files={},
            sha256="0" * 64,
            spec={},
            precision="fp32",
            seconds=1.5,
        )

    monkeypatch.setattr(tensorrt, "engine_artefact", engine_artefact)
    monkeypatch.setattr(tensorrt, "missing_bytes", lambda *_request: 0)
    return noted


def test_every_option_reaches_the_builder(asked):
    options = ("--batch-size", "1:4:16", "--workspace-mib", "64", "--optimization-level", "2")
    capabilities = ("--compute-capability", "8.9,12.0", "--compute-capability", "SM80")
    result = invoke("--format", "tensorrt-rtx", "--variant", "vgg11", *options, *capabilities)
    assert result.exit_code == 0, result.output
    ((spec, form, engine),) = asked
    assert (spec.variant, form) == ("vgg11", OnnxForm())
    assert engine == EngineForm(
        library="tensorrt-rtx",
        batch_sizes=(1, 4, 16),
        workspace_mib=64,
        optimization_level=2,
        compute_capabilities=("SM80", "SM89", "SM120"),
    )
    assert result.stdout.splitlines() == [str(Path("exports/vgg11/model.plan"))]


@pytest.mark.parametrize(("precision", "layout"), [("int8", "trt"), ("fp8", "trt")])
def test_quantisers_stand_where_tensorrt_wants_them(asked, precision, layout):
    invoke("--format", "tensorrt", "--variant", "vgg11", "--precision", precision, "--calibration", "synthetic")
    ((_spec, form, engine),) = asked
    assert (form.precision, form.layout, engine.library) == (precision, layout, "tensorrt")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--batch-size", "8"), "--batch-size is for engines"),
        (("--precision", "fp16,bf16"), "no file of precision 'fp16,bf16' is written; give fp32, fp16, bf16, int8, fp8"),
        (("--optimization-level", "1"), "--optimization-level is for engines"),
        (("--format", "tensorrt-rtx", "--batch-size", "1:2"), "give MIN:OPT:MAX"),
        (("--format", "tensorrt-rtx", "--batch-size", "4:2:8"), "in that order"),
        (("--format", "tensorrt-rtx", "--compute-capability", "hopper"), "compute capability is 'hopper'"),
        (("--format", "tensorrt", "--compute-capability", "8.9"), "--compute-capability is for tensorrt-rtx"),
    ],
)
def test_what_does_not_fit_is_refused_first(asked, arguments, complaint):
    refused = invoke("--variant", "vgg11", *arguments).exception
    assert isinstance(refused, RequestError)
    assert complaint in str(refused)
    assert asked == []


def test_a_library_that_is_not_installed_is_refused_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr("vggbench.artefacts.tensorrt_libraries.installed", lambda name: None)
    refused = invoke("--format", "tensorrt", "--variant", "vgg11", "--exports", str(tmp_path / "exports")).exception
    assert str(refused).startswith("tensorrt is not installed")
    assert list(tmp_path.iterdir()) == []


def test_the_bar_shows_the_phase_in_hand(asked, monkeypatch):
    shown = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(command._LiveBar, "doing", lambda self, text: shown.append(text))
    jobs = command._Jobs({}, Path("exports"), OnnxForm(), EngineForm())
    jobs.read(["vgg11"])
    with command._progress(1) as display:
        jobs.run(display)
    assert shown == ["vgg11", "vgg11: Building engine 3/6"]


@needs_rtx
@pytest.mark.slow
def test_one_real_engine(tmp_path):
    arguments = ("--format", "tensorrt-rtx", *NARROW, "--precision", "fp16", "--exports", str(tmp_path), "--json")
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert Path(record["path"]).name == "model.plan"
    assert record["macs_in_asked_type"] == 1
    assert "lost digits as subnormal numbers in fp16; most in " in result.stderr
    assert record["engine_layers"]["correlation:Half->Half"] == 2
    assert json.loads(invoke(*arguments).stdout) == [record]

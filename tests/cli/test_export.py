import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from vggbench.artefacts import onnx, precision
from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.manifest import read_manifest
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.store import read_artefact
from vggbench.cli import export as command
from vggbench.cli.export import export
from vggbench.errors import ArtefactError, DiskSpaceError, ExportError, UnknownVariantError
from vggbench.models.configs import VARIANTS

NARROW = ("--config", "8,M,16,M", "--input-size", "16", "--num-classes", "5", "--classifier-width", "16")


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command("export")(export)

    def run(*arguments):
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80", "TERM": "dumb"})

    return run


@pytest.fixture
def asked(monkeypatch):
    """Replace the exporter by one that notes what it was asked, and fails where it is told to."""
    noted = []
    failures = {}

    def artefact(spec, exports, *, hash_existing, **rest):
        assert hash_existing
        if spec.variant in failures:
            raise failures[spec.variant]
        noted.append((spec, exports, rest))
        folder = str(exports / spec.variant)
        return Artefact(
            kind="onnx",
            folder=folder,
            main="model.onnx",
            files={},
            sha256="0" * 64,
            spec={},
            precision="fp32",
            seconds=1.5,
        )

    monkeypatch.setattr(onnx, "onnx_artefact", artefact)
    monkeypatch.setattr(precision, "typed_artefact", artefact)
    return noted, failures


def specs(noted):
    return [spec for spec, _exports, _rest in noted]


@pytest.mark.slow
def test_one_real_export_prints_its_path_last(tmp_path):
    arguments = [sys.executable, "-m", "vggbench", "export", *NARROW, "--exports", str(tmp_path)]
    first = subprocess.run(arguments, capture_output=True, text=True, check=True)
    path = Path(first.stdout.splitlines()[-1])
    assert path == read_artefact(path.parent).path
    assert path.parent.parent.parent == tmp_path
    assert first.stderr.splitlines() == ["[1/1] custom"]
    stamp = path.stat().st_mtime_ns
    again = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout
    assert path.stat().st_mtime_ns == stamp


def start(tmp_path):
    arguments = [sys.executable, "-m", "vggbench", "export", *NARROW, "--exports", str(tmp_path)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_commands_at_once_end_in_one_whole_file(tmp_path):
    answers = [process.communicate()[0] for process in [start(tmp_path), start(tmp_path)]]
    assert answers[0] == answers[1]
    check_files(read_artefact(Path(answers[0].strip()).parent))


@pytest.mark.slow
def test_a_killed_command_leaves_no_file_that_counts(tmp_path):
    with start(tmp_path) as process:
        assert process.stderr.readline() == "[1/1] custom\n"
        while not list(tmp_path.glob("custom/fp32-*-safetensors-*")):  # ends at the test's time-out
            time.sleep(0.001)
        process.kill()
    assert [folder for folder in (tmp_path / "custom").iterdir() if "-onnx-" in folder.name and visible(folder)] == []
    with start(tmp_path) as process:
        path = Path(process.stdout.read().strip())
    check_files(read_artefact(path.parent))
    assert all(visible(folder) for folder in (tmp_path / "custom").iterdir() if folder.is_dir())


def visible(path):
    return not path.name.startswith(".")


def test_every_option_reaches_the_spec(invoke, asked, tmp_path):
    noted, _failures = asked
    shape = (*NARROW, "--batch-norm", "--lrn", "divided", "--head", "flatten", "--outputs", "probabilities")
    result = invoke(*shape, "--weights", "init", "--seed", "4", "--opset", "21", "--exports", str(tmp_path))
    assert result.exit_code == 0, result.output
    ((spec, exports, rest),) = noted
    assert (exports, rest) == (tmp_path, {"form": OnnxForm(opset=21)})
    assert (spec.configuration, spec.input_size, spec.num_classes, spec.classifier_width) == ("8,M,16,M", 16, 5, 16)
    assert (spec.batch_norm, spec.local_response_norm, spec.head) == (True, "divided", "flatten")
    assert (spec.outputs, spec.weights, spec.seed) == ("probabilities", "init", 4)


def test_several_variants_in_one_command(invoke, asked):
    noted, _failures = asked
    result = invoke("--variant", "D,vgg11", "--variant", "vgg16", "--variant", "A-LRN")
    assert [spec.variant for spec in specs(noted)] == ["vgg16", "vgg11", "vgg11_lrn"]
    lines = result.stdout.splitlines()
    assert lines == [str(Path("exports") / name / "model.onnx") for name in ("vgg16", "vgg11", "vgg11_lrn")]
    assert result.stderr.splitlines()[-1] == "[3/3] vgg11_lrn"


def test_all_takes_every_variant(invoke, asked):
    noted, _failures = asked
    invoke("--variant", "all")
    assert [spec.variant for spec in specs(noted)] == list(VARIANTS)


def test_a_failing_variant_does_not_stop_the_others(invoke, asked):
    noted, failures = asked
    failures["vgg11"] = ExportError("torch could not export vgg11")
    result = invoke("--variant", "vgg11,vgg13")
    assert [spec.variant for spec in specs(noted)] == ["vgg13"]
    assert result.exit_code == ExportError.exit_code
    assert result.stdout.splitlines() == [str(Path("exports/vgg13/model.onnx"))]
    assert "[1/2] failed: vgg11: torch could not export vgg11" in result.stderr.splitlines()


def test_the_gravest_exit_code_wins(invoke, asked):
    _noted, failures = asked
    failures |= {"vgg11": ExportError("one"), "vgg13": ArtefactError("two")}
    assert invoke("--variant", "vgg11,vgg13,vgg16").exit_code == ArtefactError.exit_code


def test_a_variant_that_cannot_have_the_size_is_one_failure_of_many(invoke, asked):
    noted, _failures = asked
    result = invoke("--variant", "vgg16,vgg16_cifar", "--input-size", "16")
    assert [spec.variant for spec in specs(noted)] == ["vgg16_cifar"]
    assert "[1/2] failed: vgg16: input size 16 is too small" in result.stderr
    assert result.exit_code == 2


def test_a_single_failure_is_the_error_itself(invoke, asked):
    _noted, failures = asked
    failures["vgg11"] = ExportError("no")
    assert isinstance(invoke("--variant", "vgg11").exception, ExportError)


def test_an_unknown_name_stops_everything_before_it_starts(invoke, asked):
    noted, _failures = asked
    assert isinstance(invoke("--variant", "vgg11,vgg61").exception, UnknownVariantError)
    assert noted == []


@pytest.mark.parametrize("arguments", [(), ("--variant", "vgg11", "--config", "8,M")])
def test_either_a_name_or_layers(invoke, asked, arguments):
    result = invoke(*arguments)
    assert "either a variant or a configuration" in str(result.exception)


def test_a_wrong_opset_is_refused_before_weights_are_made(invoke, tmp_path):
    refused = invoke("--variant", "vgg11", "--opset", "13", "--exports", str(tmp_path / "exports"))
    assert "opset 13: give one from 18 to 25" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def test_as_json(invoke, asked):
    _noted, failures = asked
    failures["vgg13"] = ExportError("no")
    result = invoke("--variant", "vgg11,vgg13", "--json")
    good, bad = json.loads(result.stdout)
    assert good["path"] == str(Path("exports/vgg11/model.onnx"))
    wanted = ("variant", "status", "precision", "input_size", "artefact_sha256", "artefact_mib", "export_s")
    assert [good[name] for name in wanted] == ["vgg11", "ok", "fp32", 224, "0" * 64, 0.0, 1.5]
    assert bad == {"variant": "vgg13", "status": "failed", "reasons": "no"}
    assert result.exit_code == 5


@pytest.mark.parametrize(("name", "opset"), [("fp32", 20), ("fp16", 20), ("bf16", 22)])
def test_a_precision_has_the_opset_that_it_needs(invoke, asked, name, opset):
    noted, _failures = asked
    invoke("--variant", "vgg11_bn", "--precision", name)
    ((_spec, _exports, rest),) = noted
    assert rest["form"] == OnnxForm(precision=name, opset=opset)


def test_layers_that_stay_fp32_reach_the_exporter(invoke, asked):
    noted, _failures = asked
    layers = ("--keep-fp32", "features.0,classifier.6", "--keep-fp32", "features.0")
    invoke("--variant", "vgg11", "--precision", "bf16", "--opset", "23", *layers)
    ((_spec, _exports, rest),) = noted
    assert rest["form"] == OnnxForm(precision="bf16", opset=23, keep_fp32=("classifier.6", "features.0"))


def test_a_layer_that_is_none_is_one_failure_of_many(invoke, asked):
    noted, _failures = asked
    result = invoke("--variant", "vgg11,vgg13", "--precision", "fp16", "--keep-fp32", "features.2")
    assert [spec.variant for spec in specs(noted)] == ["vgg13"]
    assert "failed: vgg11: vgg11 has no layer 'features.2' to keep in fp32; did you mean features." in result.stderr
    assert result.exit_code == 2


@pytest.mark.slow
def test_what_a_type_was_too_small_for_is_said(invoke, tmp_path):
    arguments = (*NARROW, "--exports", str(tmp_path), "--precision", "fp16")
    result = invoke(*arguments)
    (note,) = [line for line in result.stderr.splitlines() if "of" in line and "weights" in line]
    path = Path(result.stdout.strip())
    counts = read_manifest(path.parent).facts["rounding"]
    assert f"custom: of {counts['weights']} weights" in note
    assert f"{counts['became_subnormal']} lost digits as subnormal numbers in fp16; most in " in note
    (record,) = json.loads(invoke(*arguments, "--json").stdout)
    assert (record["precision"], record["rounding"]) == ("fp16", counts)


def test_a_terminal_gets_a_bar(asked, monkeypatch, capsys):
    _noted, failures = asked
    failures["vgg13"] = ExportError("no [brackets]")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    jobs = command._Jobs({}, Path("exports"), OnnxForm())
    jobs.read(["vgg11", "vgg13"])
    with command._progress(2) as display:
        jobs.run(display)
    assert [record["status"] for record in jobs.records] == ["ok", "failed"]
    printed = capsys.readouterr()
    assert "failed: vgg13: no [brackets]" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(("names", "needed"), [("vgg16", 1056), ("vgg16,vgg16_bn", 2112)])
def test_a_large_need_is_said_first_and_not_on_stdout(invoke, asked, tmp_path, names, needed):
    result = invoke("--variant", names, "--exports", str(tmp_path), "--json")
    assert result.stderr.splitlines()[0] == f"up to {needed} MiB will be written to {tmp_path}"
    assert len(json.loads(result.stdout)) == len(names.split(","))


def test_too_little_room_for_all_stops_them_before_the_first(invoke, asked, tmp_path, monkeypatch):
    noted, _failures = asked
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1500 << 20))
    refused = invoke("--variant", "vgg16,vgg16_bn", "--exports", str(tmp_path / "a" / "b")).exception
    assert isinstance(refused, DiskSpaceError)
    assert str(refused).startswith(f"2112 MiB are needed at {tmp_path / 'a' / 'b'}, 1500 MiB are free; make room")
    assert noted == []


def test_a_single_file_that_cannot_be_is_one_failure_of_many(invoke, asked):
    noted, _failures = asked
    result = invoke("--variant", "vgg16_cifar,vgg16", "--classifier-width", "15000", "--single-file")
    assert [spec.variant for spec in specs(noted)] == ["vgg16_cifar"]
    assert "[2/2] failed: vgg16: vgg16 would be a single file of" in result.stderr
    assert result.exit_code == 2


def test_the_form_reaches_the_exporter(invoke, asked):
    noted, _failures = asked
    invoke("--variant", "vgg11_bn", "--keep-batch-norm", "--single-file")
    invoke("--variant", "vgg11_bn", "--fold-batch-norm", "--external-data")
    kept, default = [rest["form"] for _spec, _exports, rest in noted]
    assert kept == OnnxForm(fold_batch_norm=False, external_data=False)
    assert default == OnnxForm()

import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from vggbench.cli.list_variants import list_variants
from vggbench.cli.options import split_commas
from vggbench.cli.show import show
from vggbench.errors import RequestError
from vggbench.models.configs import VARIANTS
from vggbench.models.layers import walk
from vggbench.models.spec import make_spec

RUNNER = CliRunner()


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command("list")(list_variants)
    app.command("show")(show)

    def run(*arguments, columns=80):
        return RUNNER.invoke(app, list(arguments), env={"COLUMNS": str(columns), "TERM": "dumb"})

    return run


def test_list_as_json_has_every_variant_with_its_facts(invoke):
    rows = json.loads(invoke("list", "--json").stdout)
    assert [row["name"] for row in rows] == list(VARIANTS)
    vgg16 = next(row for row in rows if row["name"] == "vgg16")
    wanted = ("paper_name", "aliases", "weight_layers", "parameters", "gmacs", "input_size")
    assert [vgg16[key] for key in wanted] == ["D", ["D"], 16, 138_357_544, 15.47026432, 224]


def test_list_prints_each_variant_whole_and_says_what_the_letters_are(invoke):
    printed = invoke("list").stdout
    lines = printed.splitlines()
    for name, variant in VARIANTS.items():
        assert any(line.split()[0] == name and f"{variant.parameters:,}" in line for line in lines[2:])
    assert 'One widespread tutorial calls the paper\'s A, B, D, E "A, B, C, D".' in " ".join(printed.split())


def test_show_as_json_has_the_walk_and_its_totals(invoke):
    document = json.loads(invoke("show", "vgg16_bn", "--batch-size", "2", "--json").stdout)
    layers = walk(make_spec("vgg16_bn"), batch_size=2)
    assert document["spec"]["variant"] == "vgg16_bn"
    assert document["batch_size"] == 2
    assert [row["name"] for row in document["layers"]] == [layer.name for layer in layers]
    for row, layer in zip(document["layers"], layers, strict=True):
        assert row["output_shape"] == list(layer.output_shape)
        for key in ("operation", "parameters", "macs", "activation_bytes", "weight_bytes", "receptive_field"):
            assert row[key] == getattr(layer, key)
        assert row["arithmetic_intensity_flops_per_byte"] == layer.arithmetic_intensity
    assert document["totals"]["parameters"] == 138_365_992
    assert document["totals"]["macs"] == 2 * VARIANTS["vgg16_bn"].macs
    assert sum(row["share_of_macs"] for row in document["layers"]) == pytest.approx(1)
    assert sum(row["share_of_parameters"] for row in document["layers"]) == pytest.approx(1)


def test_show_prints_every_layer_and_the_totals(invoke):
    lines = invoke("show", "D").stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert "138,357,544 parameters" in lines[0]
    assert rows["features.2"] == [
        "features.2",
        "conv3x3",
        "64x224x224",
        "0.037",
        "0.0",
        "1.850",
        "12.0",
        "12.2",
        "0.1",
        "143.2",
        "5",
    ]
    assert " ".join(rows["features.30"]) == "features.30 maxpool 512x7x7 0.1 212"
    assert rows["classifier.0"] == [
        "classifier.0",
        "linear",
        "4096",
        "102.765",
        "74.3",
        "0.103",
        "0.7",
        "0.0",
        "392.0",
        "0.5",
        "404",
    ]
    assert " ".join(rows["total"]) == "total 138.358 100 15.470 100 57.6 527.8 45.8"


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_tables_are_never_cut_short_and_the_standard_ones_fit_80_columns(invoke, columns):
    for arguments in (["list"], ["show", "vgg16"], ["show", "vgg19_bn", "--batch-size", "512"]):
        printed = invoke(*arguments, columns=columns).stdout
        assert "…" not in printed
        assert "..." not in printed
        if "--batch-size" not in arguments:
            assert max(len(line.rstrip()) for line in printed.splitlines()) <= 80


def test_show_takes_a_configuration_and_every_option_of_the_model(invoke):
    options = "--num-classes 10 --input-size 64 --head flatten --classifier-width 32 --batch-norm --lrn divided --json"
    result = invoke("show", "--config", "8,M,16@1,M", *options.split())
    spec = json.loads(result.stdout)["spec"]
    assert (
        spec
        == make_spec(
            config="8,M,16@1,M",
            num_classes=10,
            input_size=64,
            head="flatten",
            classifier_width=32,
            batch_norm=True,
            local_response_norm="divided",
        ).to_json()
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either a variant or a configuration"),
        (["vgg61"], "no variant is called 'vgg61'"),
        (["vgg16", "--batch-size", "0"], "batch size is 0"),
        (["vgg16", "--input-size", "16"], "smallest size that works is 32"),
        (["--config", "64,X"], "item 2 is 'X'"),
    ],
)
def test_a_wrong_request_raises_one_line_with_exit_code_2(invoke, arguments, said):
    error = invoke("show", *arguments).exception
    assert isinstance(error, RequestError)
    assert error.exit_code == 2
    assert said in str(error)
    assert "\n" not in str(error)


def test_a_wrong_choice_is_refused_with_the_choices(invoke):
    result = invoke("show", "vgg16", "--head", "round")
    assert result.exit_code == 2
    assert "'adaptive', 'flatten'" in " ".join(result.output.replace("│", " ").split())


def test_commas_and_repetition_give_one_list():
    assert split_commas(["a,b", "c", " d , e "]) == ["a", "b", "c", "d", "e"]
    assert split_commas(None) == []


@pytest.mark.parametrize("values", [["a,,b"], [""], ["a", "b,"]])
def test_an_empty_item_is_refused(values):
    with pytest.raises(RequestError, match="an item is empty"):
        split_commas(values)


def test_neither_command_needs_a_heavy_library():
    code = (
        "import sys, vggbench.cli.list_variants as l, vggbench.cli.show as s; s.show('vgg16'); l.list_variants()\n"
        "heavy = {'torch', 'numpy', 'onnx', 'pandas'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment)

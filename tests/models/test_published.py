import hashlib
import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import vggbench
from tests.models.publisher import CONTENT, origin_of, publisher
from vggbench.__main__ import main
from vggbench.artefacts.manifest import read_manifest
from vggbench.errors import RequestError, WeightsError
from vggbench.models import published
from vggbench.models.configs import VARIANTS
from vggbench.models.origin import Origin
from vggbench.models.published import find_published, is_published_name, local_file, published_files
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import initial_state
from vggbench.results.run_info import read_run_info

STANDARD = ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Let torch keep its files in a folder of the test, and no proxy stand before the host."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def host():
    with publisher() as running:
        yield running


@pytest.fixture
def table(monkeypatch):
    """Return a function that puts origins into the place of torchvision's table."""

    def put(**files):
        monkeypatch.setattr(published, "published_files", lambda: {name: (file,) for name, file in files.items()})

    return put


# The table


def test_the_eight_standard_variants_have_a_file():
    table = published_files()
    assert tuple(table) == STANDARD
    for variant, files in table.items():
        assert all(file.name.startswith(f"{variant}-") for file in files)
        assert all(is_published_name(file.name) for file in files)
        assert all(re.fullmatch("[0-9a-f]{8}", file.sha256_start) for file in files)


def test_addresses_transforms_and_accuracies_are_torchvisions():
    from torchvision.models import VGG16_BN_Weights

    theirs = VGG16_BN_Weights.IMAGENET1K_V1
    (file,) = published_files()["vgg16_bn"]
    assert file.address == theirs.url
    assert file.address.endswith(f"/{file.file_name}")
    transform = theirs.transforms()
    assert ([file.resize], [file.crop]) == (transform.resize_size, transform.crop_size)
    assert (list(file.mean), list(file.std)) == (transform.mean, transform.std)
    assert (file.interpolation, transform.antialias) == (transform.interpolation.value, True)
    assert (file.top1_percent, file.top5_percent) == (73.36, 91.516)


def test_former_files_lie_beside_todays_and_claim_no_accuracy():
    for variant, former in (("vgg11", "vgg11-bbd30ac9"), ("vgg13", "vgg13-c768596a")):
        today, old = published_files()[variant]
        assert old.name == former
        assert old.address == today.address.replace(today.name, former)
        assert replace(old, name=today.name, address=today.address) == replace(
            today, top1_percent=None, top5_percent=None
        )


def test_imagenet_means_todays_file_and_a_name_the_file_of_that_name():
    assert find_published("imagenet", make_spec("vgg11")).name == "vgg11-8a719046"
    assert find_published("vgg11-bbd30ac9", make_spec("vgg11")).name == "vgg11-bbd30ac9"
    assert find_published("vgg16_bn-6c64b313", make_spec("vgg16", batch_norm=True)).name == "vgg16_bn-6c64b313"


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in STANDARD])
def test_a_variant_without_a_file_names_those_that_have_one(name):
    with pytest.raises(WeightsError, match=f"{name} has no published file; {', '.join(STANDARD)} have one"):
        make_spec(name, weights="imagenet")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"config": "64,M,64,M"}, "custom has no published file; vgg11"),
        ({"variant": "vgg11", "num_classes": 10}, "classes 10 was asked for, and vgg11's .* for 1000"),
        ({"variant": "vgg11", "head": "flatten"}, "head flatten was asked for, .* for adaptive"),
        ({"variant": "vgg11", "classifier_width": 64}, "classifier width 64 was asked for, .* for 4096"),
        ({"variant": "vgg13", "weights": "vgg11-bbd30ac9"}, "published files are vgg13-19584684, vgg13-c768596a"),
        ({"variant": "vgg16", "weights": "vgg16-00000000"}, "'vgg16-00000000': vgg16's published files are vgg16-3"),
        ({"variant": "vgg16", "weights": "vgg16-3979"}, "give 'random', 'init', 'imagenet' or a file"),
    ],
)
def test_what_no_published_file_fits_is_refused_before_anything_is_fetched(request_, said, monkeypatch):
    monkeypatch.setattr(published, "local_file", lambda origin: pytest.fail("looked for"))
    with pytest.raises(WeightsError, match=said) as caught:
        make_spec(**{"weights": "imagenet"} | request_)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


# The file


def test_a_file_is_fetched_once_checked_and_kept_where_torch_keeps_its_own(home, host, capsys):
    origin = host.publish("vgg11")
    path, sha256 = local_file(origin)
    assert path == home / origin.file_name
    assert path.read_bytes() == CONTENT
    assert sha256.startswith(origin.sha256_start)
    assert len(sha256) == 64
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"fetching {origin.address} (4 MiB)"
    assert told[-1] == f"fetching {origin.name}: 100 %"
    assert len(told) <= 11
    assert local_file(origin) == (path, sha256)
    assert host.asked == [f"/{origin.file_name}"]
    assert list(home.iterdir()) == [path]


def test_a_file_that_is_there_needs_no_host(home, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    home.mkdir(parents=True)
    origin = origin_of("vgg11-2d711642", "http://unused")
    (home / origin.file_name).write_bytes(b"x")  # SHA-256 2d711642...
    assert local_file(origin)[0] == home / origin.file_name


def test_a_file_that_is_there_and_is_not_what_its_name_says_is_refused_and_left(home, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    home.mkdir(parents=True)
    path = home / "vgg11-00000000.pth"
    path.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"vgg11-00000000.pth.* begins with 2d711642; remove it"):
        local_file(origin_of("vgg11-00000000", "http://unused"))
    assert path.read_bytes() == b"x"


def complaint(origin, home):
    """Return what is said of a file that cannot be had; nothing of it may be left."""
    with pytest.raises(WeightsError) as caught:
        local_file(origin)
    said = str(caught.value)
    assert "\n" not in said
    assert str(home / origin.file_name) in said or "nothing was kept" in said
    assert origin.address in said
    assert f"put the file there as {origin.file_name}, or set TORCH_HOME" in said
    assert not home.is_dir() or list(home.iterdir()) == []
    return said


def test_what_came_with_another_hash_is_not_kept(home, host):
    said = complaint(host.publish("vgg11", b"x", name_of=b"y"), home)
    assert "its SHA-256 begins with 2d711642; nothing was kept" in said


def test_what_ended_early_is_not_kept(home, host):
    origin = host.publish("vgg11")
    host.announced[f"/{origin.file_name}"] = len(CONTENT) + 7
    assert f"{len(CONTENT)} of {len(CONTENT) + 7} bytes came" in complaint(origin, home)


def test_a_file_that_the_host_does_not_have(home, host):
    assert "HTTP Error 404: Not Found" in complaint(origin_of("vgg11-00000000", host.address), home)


def test_a_host_that_speaks_no_http(home, host):
    assert "Gibberish" in complaint(host.publish("vgg11", b"raw:Gibberish\r\n\r\n"), home)


def test_a_host_that_refuses_connections(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        origin = origin_of("vgg11-00000000", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "Connection refused" in complaint(origin, home)


def test_a_host_that_says_nothing_is_not_waited_for(home, monkeypatch):
    monkeypatch.setattr(published, "TIMEOUT_S", 0.01)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        origin = origin_of("vgg11-00000000", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out" in complaint(origin, home)


def test_a_host_that_has_no_address(home):
    assert "not known" in complaint(origin_of("vgg11-00000000", "http://nowhere.invalid"), home)


def test_a_folder_that_cannot_be_made_is_said_with_its_path(home, host):
    home.parent.write_text("a file where torch's folder would be")
    with pytest.raises(WeightsError, match=re.escape(str(home.parent))) as caught:
        local_file(host.publish("vgg11"))
    assert "\n" not in str(caught.value)
    assert host.asked == []


# The spec


def test_the_spec_carries_file_hash_and_origin(home, host, table):
    origin = host.publish("vgg11")
    table(vgg11=origin)
    spec = make_spec("vgg11", weights="imagenet", seed=3)
    assert Path(spec.weights) == home / origin.file_name
    assert spec.weights_sha256.startswith(origin.sha256_start)
    assert spec.origin == origin
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_same_file_by_its_path_is_the_same_function(home, host, table):
    table(vgg11=host.publish("vgg11"))
    spec = make_spec("vgg11", weights="imagenet")
    own = make_spec("vgg11", weights=spec.weights)
    assert own.origin is None
    assert own.digest() == spec.digest()
    assert "origin" not in own.to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop": "224"}, "crop is '224', not of type int"),
        ({"crop": True}, "crop is True"),
        ({"mean": "0.5"}, "mean is '0.5'"),
        ({"mean": ["0.5"]}, "mean is"),
        ({"name": 3}, "name is 3"),
        ({"top1_percent": "70"}, "top1_percent is '70'"),
        ({"colour": 1}, "missing or unknown: colour"),
    ],
)
def test_json_that_is_no_origin_is_refused(change, said):
    data = make_spec("vgg11").to_json()
    with pytest.raises(RequestError, match=said):
        ModelSpec.from_json(data | {"origin": origin_of("vgg11-00000000", "x").to_json() | change})


def test_an_origin_that_is_no_table_or_lacks_a_field_is_refused():
    with pytest.raises(RequestError, match="origin: 'x' is not a table"):
        ModelSpec.from_json(make_spec("vgg11").to_json() | {"origin": "x"})
    data = origin_of("vgg11-00000000", "x").to_json()
    del data["std"]
    with pytest.raises(RequestError, match="missing or unknown: std"):
        Origin.from_json(data)


# Run, verify and export


def manifests(exports):
    return [read_manifest(path.parent) for path in exports.glob("*/*/manifest.json")]


def test_a_run_tells_the_files_name_in_its_row_and_its_origin_in_plan_and_manifest(
    home, host, table, inline_workers, tmp_path
):
    origin = host.publish("vgg11")
    table(vgg11=origin)
    rows = vggbench.run(
        "vgg11",
        weights="imagenet",
        input_size=32,
        backend="fake",
        precision="fp32",
        rounds=1,
        time_budget_s=0.02,
        threads=1,
        output=tmp_path / "run",
        exports=tmp_path / "exports",
    )
    assert rows["weights"].tolist() == [f"imagenet {origin.name}"]
    assert rows["status"].tolist() == ["ok"]
    (cell,) = read_run_info(tmp_path / "run").plan.cells
    assert cell.spec.origin == origin
    for manifest in manifests(tmp_path / "exports"):
        assert ModelSpec.from_json(manifest.spec).origin == origin
        assert manifest.spec["weights"] == origin.file_name


def test_a_plan_file_takes_it_too(home, host, table, inline_workers, tmp_path, capsys):
    table(vgg11=host.publish("vgg11"))
    plan = tmp_path / "plan.toml"
    plan.write_text('[[cells]]\nvariant = "vgg11"\nweights = "imagenet"\ninput_size = 32\nbackend = "fake"\n')
    with pytest.raises(SystemExit) as ending:
        main(["verify", "--plan", str(plan), "--threads", "1", "--exports", str(tmp_path / "exports"), "--json"])
    assert ending.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["weights"] for row in rows} == {f"imagenet {next(iter(published.published_files()['vgg11'])).name}"}


def test_the_command_line_says_in_one_line_what_cannot_be_fetched(home, host, table, tmp_path, capsys):
    origin = origin_of("vgg11-00000000", host.address)
    table(vgg11=origin)
    with pytest.raises(SystemExit) as ending:
        main(["export", "--variant", "vgg11", "--weights", "imagenet", "--exports", str(tmp_path / "exports")])
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vggbench: weights {origin.name} are not at {home / origin.file_name}")
    assert not (tmp_path / "exports").exists()


@pytest.mark.slow
def test_a_whole_network_is_fetched_exported_and_verified(home, host, table, tmp_path):
    import torch

    source = tmp_path / "source.pth"
    torch.save(initial_state(make_spec("vgg11", seed=11)), source)
    content = source.read_bytes()
    source.unlink()
    origin = host.publish("vgg11", content)
    table(vgg11=origin)
    shape = {"weights": "imagenet", "input_size": 64, "exports": tmp_path / "exports"}
    artefact = vggbench.export("vgg11", **shape)
    assert ModelSpec.from_json(artefact.spec).origin == origin
    assert artefact.spec["weights_sha256"] == hashlib.sha256(content).hexdigest()
    rows = vggbench.verify("vgg11", backend="onnxruntime", precision="fp32", threads=1, **shape)
    assert rows["status"].tolist() == ["ok"]
    assert rows["weights"].tolist() == [f"imagenet {origin.name}"]
    assert host.asked == [f"/{origin.file_name}"]

"""Weights files of anybody's: what is read, and in which one line the others are refused."""

import pickle
import warnings
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tests.models.test_weights import small
from vggbench.artefacts.weights import weights_artefact
from vggbench.errors import VggbenchWarning, WeightsError
from vggbench.models.spec import make_spec
from vggbench.models.weights import empty_module, initial_state, load_module, state_for
from vggbench.models.weights_file import LONGEST_NAME, MOST_RECORDS, read_state


def plain(state):
    return state


def wrapped(state):
    return {"epoch": 3, "state_dict": state}


def under_model(state):
    return {"model": state, "optimizer": {}}


def under_model_state_dict(state):
    return {"model_state_dict": state, "loss": 0.5}


def data_parallel(state):
    return {"state_dict": {f"module.{key}": value for key, value in state.items()}}


def compiled(state):
    return {f"module._orig_mod.{key}": value for key, value in state.items()}


FORMS = [plain, wrapped, under_model, under_model_state_dict, data_parallel, compiled]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_pth_file_is_read_in_its_usual_forms(tmp_path, form, suffix):
    state = initial_state(small(seed=9))
    path = tmp_path / f"w{suffix}"
    torch.save(form(state), path)
    read = state_for(small(weights=str(path)))
    assert list(read) == list(state)
    assert all(torch.equal(read[key], state[key]) for key in state)


def test_a_safetensors_file_is_read_in_any_order(tmp_path):
    state = initial_state(small(seed=9))
    path = tmp_path / "w.safetensors"
    save_file({key: state[key] for key in reversed(state)}, path)
    read = state_for(small(weights=str(path)))
    assert list(read) == list(state)
    assert all(torch.equal(read[key], state[key]) for key in state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_floating_point_types_are_used_as_fp32_and_that_is_said(tmp_path, dtype, suffix):
    state = {key: value.to(dtype) for key, value in initial_state(small(seed=9)).items()}
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, path)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(VggbenchWarning, match=rf"'w{suffix}' holds {name}: its values are used as float32"):
        read = state_for(small(weights=str(path)))
    assert all(torch.equal(read[key], state[key].float()) for key in state)


def test_a_file_of_before_batches_were_counted_is_read(tmp_path):
    spec = small(batch_norm=True)
    state = {key: value for key, value in initial_state(spec).items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    read = state_for(small(batch_norm=True, weights=str(tmp_path / "w.pth")))
    assert read.keys() == initial_state(spec).keys()


def saved(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    return path


def refusal(path, **shape):
    """Return what is said of a file that is asked for as the small network's weights."""
    with pytest.raises(WeightsError) as caught:
        state_for(small(weights=str(path), **shape))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_pickled_module_is_refused_with_the_way_out(tmp_path):
    said = refusal(saved(tmp_path, nn.Linear(2, 2)))
    assert "holds a pickled torch.nn.modules.linear.Linear, and opening it would run its code" in said
    assert "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW_FILE)" in said


class Burglar:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["zip", "legacy", "inside"])
def test_nothing_in_a_file_is_executed(tmp_path, form):
    traces = tmp_path / "traces"
    content = {"state_dict": initial_state(small()), "x": Burglar(traces)} if form == "inside" else Burglar(traces)
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    assert "opening it would run its code" in refusal(path)
    assert not traces.exists()


def test_a_bare_pickle_is_not_even_looked_into(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Burglar(tmp_path / "traces")))
    assert "was not written by torch.save" in refusal(tmp_path / "w.pth")
    assert not (tmp_path / "traces").exists()


WEIGHT = "classifier.6.weight"


def changed(**changes):
    """Return the small network's weights with its last weight as something else."""
    state = initial_state(small())
    return state | {WEIGHT: changes["to"](state[WEIGHT])}


def quantised(tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated: but there are files
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def rows(tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in beta
        return tensor.to_sparse_csr()


def nested(tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype
        return torch.nested.nested_tensor([tensor[0], tensor[1]])


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (torch.Tensor.to_sparse, "is sparse_coo, not dense; save its to_dense()"),
        (rows, "is sparse_csr, not dense; save its to_dense()"),
        (nested, "is nested, not dense; save its to_dense()"),
        (lambda tensor: tensor.to("meta"), "is on the meta device and has no values; load them before saving"),
        (quantised, "is quantised (qint8); save its dequantize()"),
        (torch.Tensor.cfloat, "is complex64, not a floating-point number of 16, 32 or 64 bits"),
        (torch.Tensor.int, "is int32, not a floating-point number of 16, 32 or 64 bits"),
        (torch.Tensor.bool, "is bool, not a floating-point number of 16, 32 or 64 bits"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "is float8_e4m3fn, not a floating-point number"),
    ],
    ids=lambda value: value.split(" ")[1].strip(",;") if isinstance(value, str) else "",
)
def test_tensors_that_are_no_weights_are_named(tmp_path, to, said):
    path = saved(tmp_path, changed(to=to))
    assert f"'w.pth' does not fit custom: {WEIGHT} {said}" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_fp32_cannot_hold_are_named(tmp_path, value):
    state = {key: tensor.double() for key, tensor in initial_state(small()).items()}
    state[WEIGHT][1, 1:3] = value
    with pytest.warns(VggbenchWarning, match="float64"):
        said = refusal(saved(tmp_path, state))
    assert f"'w.pth': 2 of 60 values of {WEIGHT} are not finite in fp32" in said


def tied(state):
    return state | {"classifier.0.bias": state["classifier.3.bias"]}


def parts_of_one(state):
    whole = torch.arange(24.0)
    return state | {"classifier.0.bias": whole[:12], "classifier.3.bias": whole[12:]}


def expanded(state):
    return state | {WEIGHT: torch.ones(1).expand(5, 12)}


def transposed(state):
    return state | {WEIGHT: state[WEIGHT].t().contiguous().t()}


def negative(state):
    return state | {"classifier.6.bias": torch.complex(torch.ones(5), torch.ones(5)).conj().imag}


def parameters(state):
    return {key: nn.Parameter(value) for key, value in state.items()}


@pytest.mark.parametrize("form", [tied, parts_of_one, expanded, transposed, negative, parameters])
def test_however_tensors_lie_in_memory_their_values_arrive(tmp_path, form):
    state = form(initial_state(small()))
    spec = small(weights=str(saved(tmp_path, state)))
    written = load_module(spec, weights_artefact(spec, tmp_path).path).state_dict()
    assert all(torch.equal(written[key], state[key]) for key in written)


def zipped(path, names, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name in names:
            archive.writestr(name, b"\0" * 1000)
    return path


def test_a_zip_that_unpacks_to_much_more_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.load", lambda *arguments, **options: pytest.fail("opened"))
    path = zipped(tmp_path / "w.pth", ["w/data.pkl"], compression=zipfile.ZIP_DEFLATED)
    assert "was not written by torch.save: a zip of 1 records that unpacks to 1000 bytes" in refusal(path)


def test_a_zip_of_names_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.load", lambda *arguments, **options: pytest.fail("opened"))
    monkeypatch.setattr("vggbench.models.weights_file.MOST_RECORDS", 50)
    assert len(empty_module(make_spec("vgg19_bn")).state_dict()) < MOST_RECORDS / 50
    path = zipped(tmp_path / "w.pth", [f"w/data/{number}" for number in range(51)])
    assert "a zip of 51 records" in refusal(path)


def test_an_empty_file_and_a_folder_are_named(tmp_path):
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).touch()
        assert f"{name}' is empty" in refusal(tmp_path / name)
    (tmp_path / "folder.pth").mkdir()
    assert "folder.pth' is a folder; name the file in it" in refusal(tmp_path / "folder.pth")


def test_a_file_that_nobody_may_read_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path, initial_state(small()))

    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(WeightsError, match=r"w\.pth' cannot be read: \[Errno 13\] Permission denied"):
        read_state(path)
    assert "w.pth' cannot be read: Permission denied" in refusal(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, torch.zeros(2), {"state_dict": 3}])
def test_a_file_without_a_state_is_refused(tmp_path, content):
    with pytest.raises(WeightsError, match="holds no state_dict"):
        read_state(saved(tmp_path, content))


@pytest.mark.parametrize("content", [{"epoch": 3, "w": torch.zeros(1)}, {0: torch.zeros(1)}])
def test_an_entry_that_is_no_tensor_is_named(tmp_path, content):
    with pytest.raises(WeightsError, match=r"entry ('epoch'|0) is no tensor"):
        read_state(saved(tmp_path, content))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all, only words", b"PK\x03\x04 torn"])
def test_a_file_that_is_torn_or_something_else_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"^weights file '.*w\.(pth|safetensors)' [^\n]*$"):
        read_state(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_was_cut_short_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else save_file)(initial_state(small()), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"^[^\n]*$"):
        read_state(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    state = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
    torch.save(state, folder / "new.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "w.safetensors")
    return folder


@pytest.mark.parametrize("name", ["new.pth", "legacy.pth", "w.safetensors"])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(files, name, data):
    good = (files / name).read_bytes()
    content = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = files / f"damaged-{name}"
    path.write_bytes(content)
    refused = None
    try:
        state = read_state(path)
    except WeightsError as error:
        refused = str(error)
    assert all(isinstance(value, torch.Tensor) for value in state.values()) if refused is None else "\n" not in refused
    if content == good:
        assert torch.equal(state["a.weight"], torch.ones(3, 4))


def test_a_torchscript_archive_is_refused_in_one_line(tmp_path):
    path = tmp_path / "w.pt"
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.script(nn.Linear(2, 2)).save(path)
    with pytest.raises(WeightsError, match=r"^[^\n]*$"):
        read_state(path)


def test_a_missing_file_is_refused():
    for name in ("absent.pth", "absent.safetensors"):
        with pytest.raises(WeightsError, match="absent"):
            read_state(name)


def test_weights_of_another_network_are_refused_with_the_first_differences(tmp_path):
    state = initial_state(small(num_classes=7))
    del state["features.0.bias"]
    state |= {"extra.1": torch.zeros(1), "extra.2": torch.zeros(1)}
    path = saved(tmp_path, state)
    assert refusal(path) == (
        "weights file 'w.pth' does not fit custom: features.0.bias is missing; "
        "classifier.6.weight is 7x12, the network's is 5x12; classifier.6.bias is 7, the network's is 5; "
        "extra.1 is not in the network; extra.2 is not in the network"
    )


def test_names_of_another_scheme_are_seen_beside_those_that_are_missing(tmp_path):
    state = {f"backbone.{key}": value for key, value in initial_state(small()).items()}
    assert refusal(saved(tmp_path, state)) == (
        "weights file 'w.pth' does not fit custom: features.0.weight is missing; features.0.bias is missing; "
        "backbone.features.0.weight is not in the network; backbone.features.0.bias is not in the network and 16 more"
    )


@pytest.mark.parametrize("name", ["x" * 100_000, "\x1b[31mred", "two\nlines", ""])
def test_a_name_that_spoils_the_line_is_shown_short_and_printable(tmp_path, name):
    said = refusal(saved(tmp_path, initial_state(small()) | {name: torch.zeros(1)}))
    assert said.endswith(f" does not fit custom: {repr(name)[:LONGEST_NAME]} is not in the network")
    assert said.isprintable()

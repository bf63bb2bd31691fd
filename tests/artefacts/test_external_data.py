import numpy as np
import torch
from safetensors.torch import save_file

from tests.artefacts.networks import narrow
from vggbench.artefacts.artefact import file_sha256
from vggbench.artefacts.external_data import ALIGNMENT, folded, read_tensors, write_external_data
from vggbench.artefacts.weights import WeightsReader, weights_artefact
from vggbench.models.weights import build_module, initial_state


def read(path, extent):
    return np.fromfile(path, "<f4", extent.length // 4, offset=extent.offset)


def test_tensors_lie_on_pages_and_the_hash_is_the_files(tmp_path):
    state = initial_state(narrow())
    data = write_external_data(read_tensors(weights_artefact(narrow(), tmp_path), list(state)), tmp_path / "data")
    assert data.sha256 == file_sha256(tmp_path / "data")
    assert data.extents.keys() == state.keys()
    for key, extent in data.extents.items():
        assert extent.offset % ALIGNMENT == 0
        np.testing.assert_array_equal(read(tmp_path / "data", extent), state[key].numpy().ravel())


def test_a_folded_convolution_is_the_convolution_and_its_batch_norm(tmp_path):
    spec = narrow(batch_norm=True)
    state = initial_state(spec)
    save_file(state, tmp_path / "w.safetensors")
    reader = WeightsReader(tmp_path / "w.safetensors")
    convolution, norm = build_module(spec, state).double().features[:2]
    weight, bias = (torch.from_numpy(folded(reader, f"features.0.{name}", "features.1")) for name in ("weight", "bias"))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = norm(convolution(images))
    found = torch.nn.functional.conv2d(images, weight, bias, padding=1)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


def test_what_is_written_is_the_fold_rounded_once(tmp_path):
    weights = weights_artefact(narrow(batch_norm=True), tmp_path)
    data = write_external_data(read_tensors(weights, ["features.0.weight"]), tmp_path / "data")
    exact = folded(WeightsReader(weights.path), "features.0.weight", "features.1")
    found = read(tmp_path / "data", data.extents["features.0.weight"])
    np.testing.assert_array_equal(found, exact.astype(np.float32).ravel())

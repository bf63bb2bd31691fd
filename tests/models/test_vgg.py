import pytest
import torch
from torch import nn

from vggbench.errors import RequestError
from vggbench.models.spec import make_spec
from vggbench.models.vgg import LRN_ALPHA, VGG, AdaptivePool7, LocalResponseNorm, pool_matrix
from vggbench.models.weights import build_module, empty_module

TORCHVISIONS = [f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
FEATURE_SIZES = [1, 2, 4, 5, 7, 8, 10, 14, 16, 21]
NARROW = "8,M,16,M,16,16,M,24,24,M,24,24,M"


def narrow(**changes):
    return make_spec(config=NARROW, **{"input_size": 64, "num_classes": 10, "classifier_width": 32} | changes)


def images(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_keys_their_order_and_shapes_are_torchvisions(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = get_model(name).state_dict()
    ours = empty_module(make_spec(name)).state_dict()
    assert [(key, tensor.shape, tensor.dtype) for key, tensor in ours.items()] == [
        (key, tensor.shape, tensor.dtype) for key, tensor in theirs.items()
    ]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [32, 64, 160, 224])
def test_torchvisions_layers_with_the_same_state_give_the_same_bits(batch_norm, size):
    from torchvision.models import vgg

    with torch.device("meta"):
        theirs = vgg.VGG(vgg.make_layers([int(c) if c != "M" else c for c in NARROW.split(",")], batch_norm))
        theirs.classifier[0] = nn.Linear(24 * 49, 32)  # their class knows one width only
        theirs.classifier[3] = nn.Linear(32, 32)
        theirs.classifier[6] = nn.Linear(32, 10)
    ours = build_module(narrow(batch_norm=batch_norm, input_size=size))
    theirs.load_state_dict(ours.state_dict(), assign=True)
    with torch.inference_mode():
        assert torch.equal(ours(images(size)), theirs.eval()(images(size)))


@pytest.mark.slow
def test_torchvisions_own_full_network_gives_the_same_bits():
    from torchvision.models import vgg11_bn

    torch.manual_seed(0)
    theirs = vgg11_bn().eval()
    ours = build_module(make_spec("vgg11_bn", input_size=64), theirs.state_dict())
    with torch.inference_mode():
        assert torch.equal(ours(images(64)), theirs(images(64)))


def test_dropout_is_where_the_paper_has_it_and_off_in_eval_mode():
    network = build_module(narrow())
    assert [index for index, layer in enumerate(network.classifier) if isinstance(layer, nn.Dropout)] == [2, 5]
    with torch.inference_mode():
        assert torch.equal(network(images(64)), network(images(64)))
        assert not torch.equal(network.train()(images(64)), network(images(64)))


def test_1x1_convolutions_have_no_padding():
    network = empty_module(make_spec("vgg16_c"))
    ones = [module for module in network.features if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    assert [module.padding for module in ones] == [(0, 0)] * 3


def test_the_local_response_norm_follows_the_first_relu_alone():
    layers = [type(layer) for layer in empty_module(make_spec("vgg11_lrn")).features]
    assert layers.index(LocalResponseNorm) == 2
    assert layers[:3] == [nn.Conv2d, nn.ReLU, LocalResponseNorm]
    assert layers.count(LocalResponseNorm) == 1


@pytest.mark.parametrize(("reading", "alpha"), [("literal", 1e-4), ("divided", 1e-4 / 5)])
def test_each_reading_is_its_formula(reading, alpha):
    x = torch.randn(2, 9, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    (norm,) = (
        layer
        for layer in empty_module(make_spec("vgg11_lrn", local_response_norm=reading)).features
        if isinstance(layer, LocalResponseNorm)
    )
    expected = torch.empty_like(x)
    for channel in range(9):
        around = x[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = x[:, channel] / (2 + alpha * around.square().sum(dim=1)) ** 0.75
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_the_local_response_norm_is_exported_as_one_operator_of_the_same_values():
    import onnx
    import onnxruntime  # onnx's own reference evaluator sums the squares of the batch's first channels only

    x = images(6, count=1).repeat(1, 3, 1, 1) * 100
    norm = LocalResponseNorm(5, LRN_ALPHA["literal"], 0.75, 2.0).eval()
    model = torch.onnx.export(norm, (x,), dynamo=True, verbose=False, input_names=["x"]).model_proto
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["LRN"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), norm(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", FEATURE_SIZES)
def test_the_pool_gives_torchs_bits_in_eager_mode(size):
    x = images(size)
    assert torch.equal(AdaptivePool7(size)(x), nn.AdaptiveAvgPool2d(7)(x))


@pytest.mark.parametrize("size", FEATURE_SIZES)
def test_the_pool_matrix_is_the_pool(size):
    x = images(size).double()
    matrix = pool_matrix(size).double()
    torch.testing.assert_close(matrix @ x @ matrix.T, nn.AdaptiveAvgPool2d(7)(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", FEATURE_SIZES)
def test_the_pool_is_exported_exactly_and_simply(size):
    x = images(size)
    program = torch.export.export(AdaptivePool7(size), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    called = {node.target.name().split("::")[1] for node in program.graph.nodes if node.op == "call_function"}
    allowed = {"avg_pool2d"} if size % 7 == 0 else {"matmul", "numpy_T"}
    assert called == (set() if size == 7 else called & allowed)
    many = images(size, count=5)
    torch.testing.assert_close(program.module()(many), nn.AdaptiveAvgPool2d(7)(many), rtol=1e-5, atol=3e-7)


def test_the_pool_is_not_exported_for_a_size_it_was_not_made_for():
    with pytest.raises(RequestError, match="exported for 7 pixels"):
        torch.export.export(AdaptivePool7(7), (images(8),))


def test_the_pools_matrix_is_real_in_a_module_built_without_memory_and_not_in_its_state():
    network = build_module(narrow())
    assert network.avgpool.matrix.device.type == "cpu"
    assert not [key for key in network.state_dict() if key.startswith("avgpool")]


def test_the_adaptive_head_takes_other_sizes_in_eager_mode():
    assert build_module(narrow())(images(96)).shape == (2, 10)


def test_the_flatten_head_says_which_size_it_was_made_for():
    network = build_module(narrow(head="flatten"))
    assert network(images(64)).shape == (2, 10)
    with pytest.raises(RequestError, match=r"input is 96x96 pixels; .* sized to 64x64"):
        network(images(96))


def test_probabilities_are_the_softmax_of_the_logits():
    network, same = build_module(narrow(outputs="probabilities")), build_module(narrow())
    with torch.inference_mode():
        probabilities, logits = network(images(64)), network.logits(images(64))
        assert torch.equal(logits, same(images(64)))
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), rtol=0, atol=0)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", ["vgg16_cifar", "vgg16_cifar_bn"])
def test_the_cifar_network_takes_32_pixels_to_10_classes(name):
    network = empty_module(make_spec(name))
    assert isinstance(network, VGG)
    assert network.classifier[0].in_features == 512 * 4 * 4
    assert network(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_local_response_norm_takes_16_bit_types_and_normalises_in_fp32(dtype):
    norm = LocalResponseNorm(5, alpha=LRN_ALPHA["literal"], beta=0.75, k=2.0)
    values = images(8).to(dtype)
    assert torch.equal(norm(values), norm(values.float()).to(dtype))
    assert norm(values).dtype == dtype

"""What scripts of earlier years are written with: size_average and reduce, a softmax without an axis, bases of layers, paths."""

import importlib

import numpy as np
import pytest

import anynet.torch as ours
from anynet.torch.nn.averages import CLASSES, FUNCTIONS

theirs = pytest.importorskip("torch")
BOTH = [ours, theirs]
draw = np.random.default_rng(3)
X, Y = draw.uniform(0.1, 0.9, (4, 5)), draw.uniform(0.1, 0.9, (4, 5))
LABELS = np.array([0, 4, 2, 1])
# arguments of losses that are not two arrays of one shape
OTHERS = {
    "cross_entropy": (X, LABELS), "nll_loss": (np.log(X), LABELS), "multi_margin_loss": (X, LABELS), "kl_div": (np.log(X), Y),
    "margin_ranking_loss": (X, Y, np.sign(X - Y)), "cosine_embedding_loss": (X, Y, np.array([1, -1, 1, -1])),
    "triplet_margin_loss": (X, Y, X[::-1].copy()), "multilabel_margin_loss": (X, np.array([[1, 2, -1, 0, 0]] * 4)),
    "soft_margin_loss": (X, np.sign(Y - 0.5)), "hinge_embedding_loss": (X, np.sign(Y - 0.5)),
}  # fmt: skip
OF_CLASS = {
    "BCELoss": "binary_cross_entropy", "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "CrossEntropyLoss": "cross_entropy", "HingeEmbeddingLoss": "hinge_embedding_loss", "KLDivLoss": "kl_div", "L1Loss": "l1_loss",
    "MSELoss": "mse_loss", "MarginRankingLoss": "margin_ranking_loss", "MultiLabelMarginLoss": "multilabel_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss", "MultiMarginLoss": "multi_margin_loss", "NLLLoss": "nll_loss",
    "PoissonNLLLoss": "poisson_nll_loss", "SmoothL1Loss": "smooth_l1_loss", "SoftMarginLoss": "soft_margin_loss",
    "TripletMarginLoss": "triplet_margin_loss",
}  # fmt: skip


def given(torch, name):
    return [torch.tensor(a) for a in OTHERS.get(name, (X, Y))]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.filterwarnings("ignore:.*reduction. 'mean' divides:UserWarning")
def test_averages_of_functions(name):
    for options in ({"size_average": False}, {"reduce": False}, {"size_average": True, "reduce": True}):
        found = []
        for torch in BOTH:
            with pytest.warns(UserWarning, match="size_average and reduce args"):
                found.append(getattr(torch.nn.functional, name)(*given(torch, name), **options).numpy())
        np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(OF_CLASS))
@pytest.mark.filterwarnings("ignore:.*reduction. 'mean' divides:UserWarning")
def test_averages_of_layers(name):
    found = []
    for torch in BOTH:
        with pytest.warns(UserWarning, match="size_average and reduce args"):
            layer = getattr(torch.nn, name)(size_average=False)
        assert layer.reduction == "sum"
        found.append(layer(*given(torch, OF_CLASS[name])).numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert set(OF_CLASS) | {"_Loss", "_WeightedLoss"} == CLASSES


def test_averages_by_position():
    for torch in BOTH:
        x, t = given(torch, "cross_entropy")
        with pytest.warns(UserWarning, match="size_average"):
            y = torch.nn.functional.cross_entropy(x, t, None, False, 2)
        assert torch.allclose(y, torch.nn.functional.cross_entropy(x, t, ignore_index=2, reduction="sum"))
        assert torch.nn.functional.mse_loss(x, x, None, None, "none").shape == x.shape
        with pytest.raises(TypeError):
            torch.nn.functional.cross_entropy(x, t, None, None, 2, None, "sum", 0.0, 1)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_a_softmax_without_an_axis(shape):
    x = draw.normal(size=shape)
    found = []
    for torch in BOTH:
        with pytest.warns(UserWarning, match="Implicit dimension choice"):
            calls = [
                getattr(torch.nn.functional, n)(torch.tensor(x))
                for n in ("softmax", "log_softmax", "softmin")
            ]
        for kind in (torch.nn.Softmax, torch.nn.LogSoftmax, torch.nn.Softmin):
            layer = kind()
            with pytest.warns(UserWarning, match="Implicit dimension choice"):
                calls.append(layer(torch.tensor(x)))
        found.append(calls)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


@pytest.mark.parametrize("torch", BOTH)
def test_bases_of_layers(torch):
    nn, modules = torch.nn, torch.nn.modules
    batch, instance = nn.BatchNorm2d(2), nn.InstanceNorm2d(2)
    assert isinstance(batch, modules.batchnorm._BatchNorm)
    assert not isinstance(instance, modules.batchnorm._BatchNorm)
    assert isinstance(instance, modules.instancenorm._InstanceNorm)
    assert isinstance(nn.Conv1d(1, 1, 1), modules.conv._ConvNd)
    assert isinstance(nn.ConvTranspose2d(1, 1, 1), modules.conv._ConvNd)
    assert not isinstance(nn.Linear(1, 1), modules.conv._ConvNd)
    assert isinstance(nn.Dropout(), modules.dropout._DropoutNd)

    class Own(modules.loss._WeightedLoss):
        def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
            super().__init__(weight, size_average, reduce, reduction)

        def forward(self, x):
            return x.sum() if self.reduction == "sum" else x.mean()

    assert Own(reduction="sum")(torch.ones(3)) == 3
    assert isinstance(Own(), modules.loss._Loss)
    assert nn.init._calculate_fan_in_and_fan_out(torch.empty(3, 2, 5)) == (10, 15)
    assert nn.init._calculate_correct_fan(torch.empty(3, 2), "fan_out") == 3


PATHS = (
    "optim.optimizer.Optimizer", "optim.optimizer.required", "optim.lr_scheduler._LRScheduler", "optim.adam.Adam", "optim.sgd.SGD",
    "optim.adamw.AdamW", "optim.swa_utils.AveragedModel", "functional.norm", "autograd.function.Function",
    "nn.parallel.distributed.DistributedDataParallel",
    "autograd.function.once_differentiable", "utils.model_zoo.load_url", "compiler.is_compiling", "compiler.disable", "_dynamo.disable",
    "fx.wrap", "jit.annotations.List", "jit._script_if_tracing", "hub.get_dir", "testing.assert_close", "cuda.amp.grad_scaler.GradScaler",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths(path):
    for torch in BOTH:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(f"{torch.__name__}.{module}"), name)


@pytest.mark.parametrize("torch", BOTH)
@pytest.mark.filterwarnings("ignore:torch.set_default_tensor_type:UserWarning")
def test_small_names(torch):
    torch._assert(True, "not shown")
    with pytest.raises(AssertionError, match="shown"):
        torch._assert(False, "shown")
    assert not torch.compiler.is_compiling()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    x = torch.ones(2, requires_grad=True)
    assert torch.autograd.grad((x * x).sum(), x, None, None, False, True)[0].tolist() == [2.0, 2.0]
    try:
        torch.set_default_tensor_type("torch.DoubleTensor")
        assert torch.ones(1).dtype == torch.float64
    finally:
        torch.set_default_tensor_type(torch.FloatTensor)
    assert torch.ones(1).dtype == torch.float32


@pytest.mark.parametrize("torch", BOTH)
def test_a_weight_of_a_repeated_tensor_takes_writes(torch):
    w = torch.nn.Parameter(torch.zeros(3).repeat(2, 1))
    with torch.no_grad():
        w.copy_(torch.ones(2, 3))
    torch.nn.init.constant_(torch.nn.Parameter(torch.zeros(3).repeat(2, 1)), 1.0)
    assert w.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("torch", BOTH)
def test_an_empty_out_takes_the_shape(torch):
    x, out = torch.arange(6.0).view(2, 3), torch.empty(0)
    assert torch.index_select(x, 1, torch.tensor([2, 0]), out=out).tolist() == [[2.0, 0.0], [5.0, 3.0]]
    assert out.tolist() == [[2.0, 0.0], [5.0, 3.0]]


@pytest.mark.parametrize("torch", BOTH)
def test_lists_of_modules_are_added(torch):
    layers = torch.nn.ModuleList([torch.nn.Linear(1, 2)])
    layers += [torch.nn.Linear(2, 3)]
    more = layers + [torch.nn.Linear(3, 4)]  # noqa: RUF005 - what is tested
    assert [m.out_features for m in layers] == [2, 3]
    assert [m.out_features for m in more] == [2, 3, 4]
    assert len(torch.nn.Sequential(*layers) + torch.nn.Sequential(torch.nn.ReLU())) == 3


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("torch", BOTH)
def test_initial_values_of_a_normalised_weight_change_nothing(torch):
    layer = torch.nn.utils.weight_norm(torch.nn.Linear(3, 2, bias=False))
    before = layer(torch.ones(1, 3)).tolist()
    layer.weight.data.normal_(0, 0.01)
    y = layer(torch.ones(1, 3))
    assert y.tolist() == before
    y.sum().backward()
    assert layer.weight_v.grad is not None


@pytest.mark.parametrize("torch", BOTH)
def test_generators_flat_vectors_and_collectives(torch):
    generator = torch.Generator(device="cpu").manual_seed(5)
    state = generator.get_state()
    first = torch.randn(2, generator=generator)
    generator.set_state(state)
    assert torch.equal(torch.randn(2, generator=generator), first)
    assert generator.initial_seed() == 5
    assert str(generator.device) == "cpu"
    inside = importlib.import_module(f"{torch.__name__}._utils")
    parts = [torch.ones(2, 2), torch.zeros(3)]
    flat = inside._flatten_dense_tensors(parts)
    assert flat.tolist() == [1.0] * 4 + [0.0] * 3
    assert [p.shape for p in inside._unflatten_dense_tensors(flat, parts)] == [p.shape for p in parts]
    assert hasattr(importlib.import_module(f"{torch.__name__}.distributed.nn"), "all_reduce")

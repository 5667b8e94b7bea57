"""What surrounds the functions of `anynet.torch`: loaders, amp, compile, install, devices; and anynet's own Tensors beside it."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import anynet as an
import anynet.torch as torch


def test_anynets_own_tensors_stay_what_they_are():
    x = an.asarray([1.0, 2.0])
    for y in (
        x + 1,
        an.sum(x),
        an.nn.Linear(2, 1)(x),
        an.nn.functional.relu(x),
        an.asarray([1.0], requires_grad=True) * 2,
    ):
        assert type(y) is an.Tensor
    with pytest.raises(AttributeError):
        x.view(2)  # noqa: B018
    assert type(torch.ones(2) + x) is torch.Tensor
    assert type(an.nn.Linear(2, 1).weight) is an.Parameter


def test_tensors_of_the_room_are_what_layers_give():
    for net, shape in (
        (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)), (5, 3)),
        (torch.nn.Conv2d(1, 2, 3), (1, 1, 5, 5)),
        (torch.nn.MultiheadAttention(4, 2), None),
        (torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (2, 3, 4)),
        (torch.nn.LazyLinear(2), (5, 3)),
    ):
        for _ in range(30):  # compiled and fused forms, too
            x = torch.ones(2, 1, 4) if shape is None else torch.ones(*shape)
            y = net(x, x, x)[0] if shape is None else net(x)
            assert type(y) is torch.Tensor, net
        assert all(isinstance(p, torch.nn.Parameter) for p in net.parameters())
        assert all(isinstance(v, torch.Tensor) for v in net.state_dict().values())
    out, (h, c) = torch.nn.LSTM(3, 4)(torch.ones(2, 1, 3))
    assert type(out) is type(h) is type(c) is torch.Tensor


def test_subclasses_of_layers():
    class Mine(torch.nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            self.last = x.mean()
            return super().forward(x).view(-1)

    net = Mine()
    assert net(torch.ones(2, 2)).size() == (6,)
    assert isinstance(net.seen, torch.Tensor)
    assert net.seen.item() == 1
    assert isinstance(net, torch.nn.Linear)
    assert isinstance(net, an.nn.Linear)
    assert not issubclass(torch.nn.Conv2d, torch.nn.Linear)
    net.seen = net.seen * 2
    assert net.seen.view(1).tolist() == [2.0]


def test_loaders():
    x, y = torch.arange(10.0).view(5, 2), torch.arange(5)
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(
        data, batch_size=2, shuffle=True, num_workers=0, pin_memory=True, drop_last=True
    )
    batches = list(loader)
    assert len(batches) == 2
    assert all(a.size(0) == 2 and b.dtype is torch.long for a, b in batches)
    assert isinstance(data[0][0].view(-1), torch.Tensor)
    both = torch.utils.data.ConcatDataset([data, data])
    assert len(both) == 10
    assert both[-1][1].item() == 4
    parts = torch.utils.data.random_split(both, [7, 3], generator=torch.Generator().manual_seed(1))
    assert [len(p) for p in parts] == [7, 3]
    assert len(torch.utils.data.StackDataset(a=data, b=data)[1]["a"]) == 2

    class Own(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return torch.full((2,), float(i)), i

    sampler = torch.utils.data.WeightedRandomSampler([0.0, 0.0, 1.0, 0.0], 3)
    ((a, b),) = list(torch.utils.data.DataLoader(Own(), batch_size=3, sampler=sampler))
    assert a.view(-1).tolist() == [2.0] * 6
    assert b.tolist() == [2, 2, 2]
    with torch.no_grad():
        seeds = []
        for _ in range(2):
            torch.manual_seed(5)
            seeds.append([b.tolist() for _, b in torch.utils.data.DataLoader(data, shuffle=True)])
    assert seeds[0] == seeds[1]


def test_devices():
    assert torch.device("cuda", 1).index == 1
    assert torch.ones(1).device == torch.device("cpu")
    assert torch.ones(1).device.type == "cpu"
    assert torch.ones(2).to(torch.device("cpu"), torch.float64, non_blocking=True).dtype is torch.double
    torch.cuda.set_device(0)
    with pytest.raises(NotImplementedError, match="the current CUDA device is the first"):
        torch.cuda.set_device(1)


def test_amp():
    net, x = torch.nn.Linear(2, 1), torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.float16):
        low = net(x)
    exact = net(x)
    assert abs(low.item() - exact.item()) < 1e-2
    y = torch.tensor([[1.0 + 2.0**-9, 0.0]])
    with torch.autocast("cpu"):
        assert (y @ y.T).item() == 1.0
        with torch.autocast("cpu", enabled=False):
            assert net(x).item() == exact.item()
    scaler, optimizer = torch.amp.GradScaler(init_scale=8.0), torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.weight.detach().clone()
    scaler.scale(net(x).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert (before - net.weight.detach() - 0.1).abs().max().item() < 1e-6
    optimizer.zero_grad()
    (net(x).sum() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 4.0
    assert bool(net.weight.isfinite().all())


def test_compile():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
    compiled = torch.compile(net)
    x = torch.ones(4, 2)
    assert torch.allclose(compiled(x), net(x))
    with torch.no_grad():
        assert all(torch.allclose(compiled(x), net(x)) for _ in range(3))
        assert isinstance(compiled(x).view(-1), torch.Tensor)
    assert len(list(compiled.parameters())) == 2
    assert list(compiled.state_dict()) == ["_orig_mod.0.weight", "_orig_mod.0.bias"]
    compiled(x).sum().backward()
    assert net[0].weight.grad is not None
    assert torch.compile(lambda a: a * 2)(x).sum().item() == 16.0


def test_writes_that_are_refused():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError):
        w.add_(1)
    with pytest.raises(RuntimeError, match="more than once"):
        torch.ones(1, 2).expand(3, 2).add_(1)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type"):
        torch.arange(3).add_(0.5)


def test_what_was_saved_keeps_its_values():
    w, x = torch.ones(2, requires_grad=True), torch.tensor([3.0, 4.0])
    y = (w * x).sum()
    x.zero_()
    y.backward()
    assert w.grad.tolist() == [3.0, 4.0]


def test_views_are_forgotten():
    x = torch.zeros(4)
    for i in range(100):
        x[i % 4].view(1)
    assert len(x._memory.views) < 40
    y = x.detach()
    del x
    y.add_(1)
    assert y.tolist() == [1.0] * 4


def run(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def test_install():
    done = run("""
        import sys, importlib.util
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "torch" else real(name, *a)
        import anynet.torch
        anynet.torch.install()
        importlib.util.find_spec = real
        import torch, torch.nn as nn, torch.nn.functional as F
        from torch.utils.data import DataLoader, TensorDataset
        from torch.optim.lr_scheduler import StepLR
        from torch.nn.parameter import Parameter
        from torch.nn.utils.rnn import pad_sequence
        from torch import Tensor, optim
        import torch.optim as optim2
        assert torch is anynet.torch and nn.Linear(2, 3)(torch.ones(1, 2)).size(1) == 3
        print(type(pad_sequence([torch.ones(2)])).__module__)
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "anynet.torch.tensor"


def test_pytorch_is_never_hidden():
    pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="PyTorch is installed here, and is not hidden"):
        torch.install()


def test_importing_anynet_loads_none_of_it():
    done = run(
        "import sys, anynet; print([m for m in sys.modules if m.startswith('anynet.torch')]); print(anynet.tensor.flavours)"
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"], done.stderr


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # of PyTorch's
def test_paths_of_matrices_and_transforms():
    theirs = pytest.importorskip("torch")
    draw = np.random.default_rng(2)
    a, b = draw.normal(size=(4, 3)), draw.normal(size=(4, 2))
    s = a.T @ a + np.eye(3)
    lines = (
        "torch.linalg.lstsq(a, b).solution", "torch.linalg.lstsq(a, b, driver='gelsd').residuals", "torch.linalg.lstsq(a, b)[1]",
        "torch.linalg.solve_triangular(s, b[:3], upper=True)",
        "torch.linalg.solve_triangular(s, b[:3].T, upper=False, left=False, unitriangular=True)", "torch.linalg.multi_dot([a, s, b[:3]])",
        "torch.linalg.cond(s)", "torch.linalg.cond(s, 1)", "torch.linalg.inv_ex(s)[0]", "torch.linalg.cholesky_ex(s).L",
        "torch.linalg.eigh(s, 'U')[0]", "torch.linalg.eigvalsh(s)", "torch.linalg.matrix_exp(s)", "torch.fft.fft(a, 5, 0, 'ortho').abs()",
        "torch.fft.rfft(a, dim=0).abs()", "torch.fft.fft2(a).abs()", "torch.fft.irfft2(torch.fft.rfft2(a), s=(4, 3))",
        "torch.fft.fftshift(a, dim=1)", "torch.fft.fftn(a, dim=(0,)).abs()", "torch.special.expit(a)", "torch.special.expm1(a)",
        "torch.special.i0(a)", "torch.sparse.mm(a.to_sparse(), s).to_dense()",
        "torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], torch.tensor([1., 2., 3.]), torch.Size([2, 3])).to_dense().double()",
    )  # fmt: skip
    for line in lines:
        found, expected = (
            eval(line, {"torch": room, "a": room.tensor(a), "b": room.tensor(b), "s": room.tensor(s)})
            for room in (torch, theirs)
        )
        assert isinstance(found, torch.Tensor), line
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-9, atol=1e-10, err_msg=line)


def test_one_device_is_all_that_is_parallel():
    net = torch.nn.DataParallel(torch.nn.Linear(2, 3), device_ids=[0])
    x = torch.ones(4, 2)
    assert torch.equal(net(x), net.module(x))
    assert torch.equal(torch.nn.parallel.data_parallel(net.module, x), net(x))
    assert list(net.state_dict()) == ["module.weight", "module.bias"]
    with pytest.raises(NotImplementedError, match="device_ids must name at most one device, got"):
        torch.nn.DataParallel(net.module, device_ids=[0, 1])
    with pytest.raises(
        NotImplementedError, match="DistributedDataParallel: device_ids must name at most one device"
    ):
        torch.nn.parallel.DistributedDataParallel(net.module, device_ids=[0, 1])
    whole = torch.nn.parallel.DistributedDataParallel(net.module, device_ids=[0], find_unused_parameters=True)
    assert torch.equal(whole(x), net(x))


def test_absent_names_say_why():
    with pytest.raises(AttributeError, match=r"has no attribute 'nested': nested tensors are not offered"):
        torch.nested  # noqa: B018
    with pytest.raises(NotImplementedError, match="nothing is downloaded"):
        torch.hub.load_state_dict_from_url("https://example.org/x.pt")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert (
            torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 2, 3)] * 3).sum().item() == 6.0
        )


def test_whole_numbers_are_not_divided_by_zero():
    i = torch.tensor([1, 2])
    for wrong in (
        lambda: i // 0,
        lambda: i % torch.tensor([0, 1]),
        lambda: 5 // torch.tensor(0),
        lambda: i.div(0, rounding_mode="trunc"),
        lambda: i.fmod(0),
        lambda: i.remainder(torch.tensor(0)),
    ):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            wrong()
    assert i.tolist() == [1, 2]
    assert torch.sign(torch.tensor([float("nan"), -3.0])).tolist() == [0.0, -1.0]


def test_close_tensors():
    torch.testing.assert_close(torch.ones(2), torch.ones(2) + 1e-7)
    with pytest.raises(AssertionError, match="1 of 2 elements differ"):
        torch.testing.assert_close(torch.ones(2), torch.tensor([1.0, 1.1]))


def test_states_go_into_open_files(tmp_path):
    with open(tmp_path / "w.pt", "wb") as file:
        torch.save({"w": torch.arange(3)}, file)
    with open(tmp_path / "w.pt", "rb") as file:
        assert torch.load(file)["w"].tolist() == [0, 1, 2]
    assert torch.load(tmp_path / "w.pt")["w"].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="f must be a path or a file opened for writing bytes, got int"):
        torch.save({}, 3)


def test_a_state_replaces_the_file_of_its_name_alone(tmp_path):
    other = tmp_path / "weights.safetensors"
    other.write_text("another file", encoding="utf-8")
    torch.save({"w": torch.ones(2)}, tmp_path / "weights")
    assert other.read_text(encoding="utf-8") == "another file"
    with pytest.raises(TypeError, match="neither data nor a container"):
        torch.save({"w": object()}, tmp_path / "weights")
    assert torch.load(tmp_path / "weights")["w"].tolist() == [1.0, 1.0]
    with pytest.raises(FileNotFoundError, match="nothing was written"):
        torch.save({}, tmp_path / "no" / "weights")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights", "weights.safetensors"]


def test_elements_of_weight_zero_are_not_drawn_and_nothing_warns():
    torch.manual_seed(3)
    weights = torch.tensor([[0.0, 2.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1e-30]])
    for _ in range(30):
        drawn = torch.multinomial(weights, 2).sort().values
        assert drawn.tolist() == [[1, 2], [0, 3]]


def test_extremes_along_an_axis_in_vmap():
    x = torch.tensor([[[1.0, 3.0], [4.0, 2.0]], [[0.0, -1.0], [5.0, 5.0]]])
    for keepdim in (False, True):
        best, at = torch.func.vmap(lambda a, k=keepdim: tuple(a.max(1, keepdim=k)))(x)
        expected = x.max(2, keepdim=keepdim)
        assert best.tolist() == expected.values.tolist()
        assert at.tolist() == expected.indices.tolist()
    gradient = torch.func.vmap(torch.func.grad(lambda a: a.max(1).values.sum()))(x)
    assert gradient.tolist() == [[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]


def test_a_buffer_of_an_expanded_tensor_takes_a_state():
    """As the grid of a Kolmogorov-Arnold layer: ``register_buffer("grid", knots.expand(n, -1).contiguous())``."""
    net, knots = torch.nn.Module(), torch.arange(3.0)
    net.register_buffer("grid", knots.expand(2, -1).contiguous())
    net.load_state_dict({"grid": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])})
    assert net.grid.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert knots.tolist() == [0.0, 1.0, 2.0]

"""What shares memory, what an index takes, and functions that are given functions: scripts that are run here and with PyTorch."""

import numpy as np
import pytest

import anynet as an
import anynet.torch as ours

theirs = pytest.importorskip("torch")

HEAD = """
x = torch.tensor([[1., -2., 3., 0.5], [4., 0., -1., 2.], [0.25, 7., -3., 1.5]])
b, n, nan = torch.arange(24.).view(2, 3, 4), torch.tensor([3, 1, 2]), float("nan")
"""
SCRIPTS = {
    "weights are put aside and back": """
p = torch.nn.Parameter(x.clone())
aside = p.data
p.data = torch.ones(3, 4)
mid = p.detach().clone()
p.data = aside
result = mid, p.detach(), aside""",
    "weights are swapped": """
p, q = torch.nn.Parameter(x.clone()), torch.nn.Parameter(x + 1)
p.data, q.data = q.data, p.data
result = p.detach(), q.detach()""",
    "weights of an optimizer are put aside": """
p = torch.nn.Parameter(x.clone())
adam = torch.optim.Adam([p], lr=0.1)
(p ** 2).sum().backward()
adam.step()
aside = p.data
p.data = torch.ones(3, 4)
adam.zero_grad()
(p ** 2).sum().backward()
adam.step()
trained = p.detach().clone()
p.data = aside
result = trained, p.detach()""",
    "views keep what another value is given for": """
y = x.clone()
row, column, whole = y[0], y[:, 0], y.data
y.data = torch.zeros(3, 4)
row.add_(10)
whole[0, 1] = -5
y.add_(1)
result = y, row, column, whole""",
    "a view is given other memory": """
y = x.clone()
row = y[0]
part = row[:2]
row.data = torch.zeros(4)
part.add_(1)
y.mul_(2)
result = y, row, part""",
    "views of weights that an optimizer takes": """
p = torch.nn.Parameter(x.clone())
seen, flat = p.detach(), p.view(-1)
(p ** 2).sum().backward()
torch.optim.Adam([p], lr=0.1).step()
result = p.detach(), seen, flat.detach()""",
    "a reshape copies where it must": """
y, found = b.clone(), []
t = y.transpose(0, 2)
row = y[1]
copies = [t.contiguous(), t.reshape(4, 6), t.flatten(), y[:, 1:].reshape(-1), y[:, :, ::2].flatten(1), y[0].t().ravel(),
          t.reshape(4, 3, 2).contiguous().view(-1), y.expand(2, 2, 3, 4).reshape(-1)]
views = [y.contiguous(), row.contiguous(), row.reshape(-1), t.reshape(4, 3, 2, 1), y[:, 1:].flatten(1), y[:, :, :2].reshape(6, 2),
         y.reshape(6, 4).t().t().flatten(), t.transpose(0, 2).contiguous(), y[:1].expand(1, 3, 4).reshape(12), y[:, 0].reshape(1, 2, 4)]
for k, z in enumerate(copies + views):
    z += 100 * (k + 1)
row.mul_(2)
result = y, row, copies, views""",
    "copies of weights": """
p = torch.nn.Parameter(x.clone())
copies, seen = [p.t().contiguous(), p.detach().t().contiguous(), p.t().reshape(-1)], p.contiguous().view(-1)
(p ** 2).sum().backward()
torch.optim.SGD([p], lr=0.5).step()
with torch.no_grad():
    p.add_(1)
result = p, copies, seen""",
    "gradients through reshapes that copy": """
w = b.clone().requires_grad_()
y = w * 2
z, kept = y.transpose(0, 1).reshape(-1), y.view(-1)
z[::2] *= w[0, 0, 1]
kept[1::2] *= 3
(z.sum() + (y ** 2).sum()).backward()
result = y.detach(), z.detach(), w.grad""",
    "integers are taken first": """
i = torch.tensor([0, 1])
c = b.view(2, 3, 2, 2)
result = (b[0, :, i], b[0, ..., [0, 1]], b[0, None, :, i], b[i, :, 0], b[torch.tensor(0), :, i], c[:, i, :, 0],
          b[0, :, torch.tensor([True, False, False, True])], c[0, :, torch.tensor([[True, False], [False, True]])])""",
    "integers are taken first in writes": """
y, i = b.clone(), torch.tensor([0, 1])
row = y[0]
y[0, :, i] = torch.arange(6.).view(3, 2)
y[0, :, i] += 1
y[i, :, 3] = torch.tensor([1., 2., 3.])
result = y, row""",
    "gradients of such indices": """
y = b.clone().requires_grad_()
(y[0, :, [0, 1]] * torch.arange(6.).view(3, 2)).sum().backward()
result = y.grad""",
    "bytes are masks": """
y = x.clone()
y[torch.tensor([1, 0, 1], dtype=torch.uint8)] = torch.ones(2, 4)
result = y, x[torch.tensor([1, 0, 1], dtype=torch.uint8)], x[(x > 0).byte()]""",
    "an index of one number takes a view": """
y = x.clone()
y[torch.tensor(1)].add_(5)
y[n[2], 1:].mul_(2)
result = y""",
    "lists of indices": """
result = x[[0, 1]], x[[[0, 1], [1, 2]]], x[[torch.tensor(0), torch.tensor(1)]], x[[slice(0, 2), 1]]""",
    "norms of matrices": """
inf, norm = float("inf"), torch.linalg.norm
result = [norm(x), norm(x, 1), norm(x, 2), norm(x, -1), norm(x, inf), norm(x, "nuc"), norm(x, "fro"), norm(x[0], 3),
          norm(x, 1, 0), norm(b, 2, dim=(0, 2), keepdim=True), norm(b), norm(x, ord=1, dim=(1, 0)), torch.norm(x, 1),
          torch.linalg.vector_norm(x, 1), torch.linalg.matrix_norm(b, 1, (0, 1)), torch.linalg.vector_norm(x, ord=3, dim=0)]""",
    "integers stay integers": """
result = [n.scatter(0, torch.tensor([0]), 2.7), n.masked_fill(n > 1, 2.7), n.index_fill(0, torch.tensor([0]), -2.7),
          torch.bincount(n, weights=n), torch.bincount(n, weights=n.float()), torch.special.erf(n)]""",
    "medians of what is not a number": """
y = torch.tensor([[1., nan, 3.], [1., 0., nan], [2., 0., 1.]])
result = torch.median(y), *y.median(1), *y.median(0, keepdim=True)""",
    "small integers and what is not finite": """
i, j = torch.tensor([[200, 3], [0, 255]], dtype=torch.uint8), torch.tensor([[4., 1.], [2., float("inf")]])
y = torch.tensor([7., -7., 1e6, 0.], requires_grad=True)
z = torch.tensor([float("inf"), 3., 0.3, 2.], requires_grad=True)
torch.fmod(y, z).sum().backward()
result = [torch.cosine_similarity(i, x[:2, :2]), torch.div(i, torch.tensor(-7)), i / torch.tensor(-7),
          i / torch.tensor(2.0, dtype=torch.float64), 1 / i[0], i / 300,
          torch.atan2(i, torch.tensor(-7)), torch.trapezoid(i),
          torch.fmod(j[0] * 25e5, 0.3), torch.fmod(-7 - j[0], j[1]), torch.nansum(i), torch.nansum(i, 0), torch.trace(i),
          torch.cov(i), x.double().angle(), torch.tensor([nan, 1., 2.]).quantile(0.5), y.grad, z.grad, torch.fmod(y, z).detach()]""",
    "parts": """
index = torch.tensor(1)
result = [x.index_select(0, index), x.narrow(1, -2, 2), x.narrow(1, 4, 0), x.view(1, 3, 4).squeeze((0, -1))]
for wrong in (lambda: x.narrow(1, 2, 3), lambda: x.narrow(1, -5, 1), lambda: x.squeeze(5)):
    try:
        result.append(wrong())
    except (RuntimeError, IndexError):
        result.append("refused")""",
    "extremes at fewer places": """
result = x.scatter_reduce(1, torch.tensor([[0, 2, 0]]), x + 9, "amax")""",
    "functions of functions": """
f = torch.func
v = x[0]
result = [f.grad(lambda a: a.pow(2).sum())(v), f.jacrev(lambda a: a.mul(a))(v),
          f.vmap(lambda a, c: a.mul(c), in_dims=(0, None))(x, v), torch.vmap(lambda a: a.sum(), in_dims=1)(x),
          f.vjp(lambda a: a.pow(2), v)[1](torch.ones(4))[0], torch.autograd.functional.jacobian(lambda a: a.sum(0), x)]""",
    "hooks are given tensors": """
seen = []
y = x.clone().requires_grad_()
y.register_hook(lambda g: seen.append(g.clone()))
y.register_hook(lambda g: g.mul(2))
net = torch.nn.Linear(4, 2)
torch.nn.init.ones_(net.weight)
net.register_full_backward_hook(lambda net, given, left: seen.append(left[0].view(-1).clone()) or (given[0].mul(3),))
net(y).sum().backward()
result = seen, y.grad""",
    "recording is switched by decorators": """
before = torch.is_grad_enabled()
off, on = torch.set_grad_enabled(False)(torch.is_grad_enabled), torch.set_grad_enabled(True)(torch.is_grad_enabled)
result = [before, off(), on(), torch.is_grad_enabled()]""",
    "texts and kinds": """
y = x.clone().requires_grad_()
result = [f"{n[0]} {y[0, 1]:.2f} {x.sum()}", y.long().requires_grad, y.double().requires_grad, y.to(torch.int32).numpy().tolist()]""",
}


def same(a, b):
    if isinstance(b, theirs.Tensor):
        assert isinstance(a, ours.Tensor), type(a)
        assert f"torch.{a.dtype}" == str(b.dtype)
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    elif isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for p, q in zip(a, b, strict=True):
            same(p, q)
    else:
        assert a == b


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8", "ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("name", list(SCRIPTS))
def test_scripts_share_and_take_as_with_pytorch(name):
    found = []
    for torch in (ours, theirs):
        names = {"torch": torch}
        exec(HEAD + SCRIPTS[name], names)
        found.append(names["result"])
    same(*found)


@pytest.mark.parametrize("how", ["add_", "data", "copy_"])
def test_a_refused_compiled_step_leaves_what_shares_memory_as_it_was(how):
    net = ours.nn.Linear(2, 2)
    net.requires_grad_(False)
    net.weight.copy_(ours.ones(2, 2))
    before = net.weight.detach()

    def step(x):
        if how == "add_":
            net.weight.add_(x)
        elif how == "copy_":
            net.weight.copy_(net.weight + x)
        else:
            net.weight.data = net.weight.data + x
        return x.sum().item()

    with pytest.raises(an.CompileError, match="a value was read"):
        ours.compile(step)(ours.ones(2, 2))
    assert before.tolist() == net.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    net.weight.mul_(2.0)
    assert before.tolist() == net.weight.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    step(ours.ones(2, 2))
    assert net.weight.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert before.tolist() == ([[2.0, 2.0], [2.0, 2.0]] if how == "data" else net.weight.tolist())

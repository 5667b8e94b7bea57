"""Short scripts as they are written for PyTorch: run here and there, they leave the same values."""

import numpy as np
import pytest

import anynet.torch as ours

theirs = pytest.importorskip("torch")

SNIPPETS = {
    "a row is a view": """
x = torch.zeros(3, 2)
r = x[1]
r[0] = 5.0
r += 1
result = x, r""",
    "a view of a view": """
x = torch.zeros(2, 6)
v = x.view(3, 4)[1:].t()
v[0].fill_(7.0)
v.mul_(2)
result = x, v""",
    "two views of one": """
x = torch.arange(6.)
a, b = x[:4], x.view(2, 3)
a.add_(10)
b[1] = -1.0
result = x, a, b""",
    "chunks write through": """
x = torch.arange(8.).view(2, 4)
for c in x.chunk(2, dim=1):
    c.mul_(c.sum())
result = x""",
    "a view takes another shape in place": """
x = torch.arange(6.).view(2, 3)
v = x[1]
w = v[:2]
v.unsqueeze_(0).mul_(2)
x[1, 0] = -1.0
w.add_(10)
result = x, v, w, x[0:1].squeeze_(0)""",
    "a diagonal is a view": """
x = torch.zeros(3, 3)
x.diagonal().copy_(torch.tensor([1., 2., 3.]))
result = x""",
    "a transpose in place": """
x = torch.arange(6.).view(2, 3)
x.t()[0] = 9.0
x.T[1, 1] = 4.0
result = x""",
    "masks and lists": """
x = torch.arange(12.).view(3, 4)
x[x > 5] = 0
x[:, [0, 2]] = -1.0
x[torch.tensor([0, 1]), torch.tensor([3, 3])] += 5
result = x, x[:, [1, 3]], x[1, None], x[..., [0]]""",
    "gradients through writes": """
w = torch.tensor([1., 2., 3.], requires_grad=True)
x = torch.zeros(3, 3)
x[0] = w
x[1].add_(w * 2)
x.view(-1)[6:].copy_(w ** 2)
x[2] *= w
y = x * 1.0
v = y[:, 0]
v.mul_(w)
(y ** 2).sum().backward()
result = y.detach(), w.grad""",
    "lectures: data": """
w = torch.tensor([[1., -2.], [3., 4.]], requires_grad=True)
for _ in range(3):
    loss = ((w * 2).sum() - 1) ** 2
    w.grad = None
    loss.backward()
    w.data += -0.01 * w.grad
    w.data -= 0.01 * w.grad
    w.data = w.data - 0.1 * w.grad
result = w.detach(), w.grad, loss.detach()""",
    "data in place": """
l = torch.nn.Linear(3, 2)
l.weight.data.fill_(0.5); l.weight.data[0].zero_(); l.weight.data.mul_(2.0); l.bias.data.zero_()
l.weight.data[1, 0] = -1.0
with torch.no_grad():
    l.weight[1, 1] = 7.0
    l.weight.add_(1.0)
    l.weight[0].sub_(3.0)
    l.bias -= 0.25
result = l.weight.detach(), l.bias.detach(), l(torch.ones(1, 3)).detach()""",
    "init of parts": """
l = torch.nn.Linear(3, 2)
torch.nn.init.constant_(l.weight.data[:1], 3.0)
torch.nn.init.zeros_(l.weight.data[1])
torch.nn.init.ones_(l.bias)
result = l.weight.detach(), l.bias.detach()""",
    "activations in place": """
F = torch.nn.functional
w = torch.tensor([-1., 0.5, 2.], requires_grad=True)
h = w * 2
y = torch.nn.ReLU(inplace=True)(h)
z = h + F.leaky_relu(w * 3, 0.1, inplace=True)
a = torch.tensor([-3., 3.])
b = F.elu(a.view(2, 1), inplace=True)
c = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Hardtanh(inplace=True))(a)
d = torch.nn.Dropout(0.5, inplace=True).eval()(a)
e = torch.ones(3)
F.threshold(e, 2.0, 7.0, True)
F.dropout(e, 0.0, True, True)
(z ** 2).sum().backward()
result = y is h, h.detach(), z.detach(), w.grad, a, b, c is a, d is a, e, F.relu_(torch.tensor([-1., 1.]))""",
    "promotion": """
i = torch.arange(3)
result = (i / 2, i * 0.1, i + torch.ones(3), torch.ones(3) * np.float64(2), 2 ** i, i // 2, -i % 2,
    i.float().mean(), (i > 1) * 2, torch.tensor(1.5) * i,
    torch.ones(3, dtype=torch.float64) * torch.tensor(2.0), i.sum() / 3,)""",
    "clones are apart": """
x = torch.ones(3)
y = x.clone()
y += 1
z = x.detach()
z[0] = 5
result = x, y, z""",
    "function": """
class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, low):
        ctx.save_for_backward(x)
        ctx.low = low
        return x.clamp(min=low)
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        g = g.clone()
        g[x < ctx.low] = 0.5
        return g, None
x = torch.tensor([-1., 2., 0.3], requires_grad=True)
(Clip.apply(x, 0.5) ** 2).sum().backward()
result = x.grad""",
    "autograd.grad": """
x = torch.tensor([1., 2.], requires_grad=True)
y = (x ** 3).sum()
g, = torch.autograd.grad(y, x, create_graph=True)
h, = torch.autograd.grad(g, x, grad_outputs=torch.ones_like(g))
u = torch.autograd.grad(x.sum(), [x, torch.ones(1, requires_grad=True)], allow_unused=True)
result = g.detach(), h, u[0], u[1] is None""",
    "penalty": """
x = torch.tensor([[0.5, -1.0]], requires_grad=True)
w = torch.tensor([[1.0], [2.0]], requires_grad=True)
out = torch.tanh(x @ w)
grads = torch.autograd.grad(outputs=out, inputs=x, grad_outputs=torch.ones(out.size()), create_graph=True, retain_graph=True)[0]
((grads.norm(2, dim=1) - 1) ** 2).mean().backward()
result = w.grad, x.grad""",
    "causal mask": """
T = 4
att = torch.arange(16.).view(1, T, T)
mask = torch.tril(torch.ones(T, T)).view(1, T, T)
att = att.masked_fill(mask == 0, float('-inf'))
result = torch.nn.functional.softmax(att, dim=-1), torch.triu(torch.ones(T, T), diagonal=1).bool()""",
    "sizes": """
x = torch.zeros(2, 3, 4)
B, T, C = x.size()
result = (x.size(), x.size(-1), x.shape[1:], x.numel(), x.dim(), x.shape.numel(), list(x.shape),
    x.view(B, T * C).shape, len(x), x.new_ones(2).size(0), tuple(x.size()),)""",
    "numbers": """
x = torch.tensor([1.23456])
result = (f'{x.item():.3f}', f'{x[0]:.2f}', float(x), int(x), round(x.item(), 2), bool(x > 0),
    x.tolist()[0] > 1, [round(v, 3) for v in x.tolist()],)""",
    "hooks": """
net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
seen = []
net[0].register_forward_hook(lambda m, i, o: seen.append(tuple(o.size())))
net(torch.ones(3, 2))
result = (seen, isinstance(net[0], torch.nn.Linear), isinstance(net, torch.nn.Module),
    type(net[0]) == torch.nn.Linear, isinstance(net[1], torch.nn.Linear),
    issubclass(torch.nn.Linear, torch.nn.Module),)""",
    "sorting": """
x = torch.tensor([[3., 1., 2.], [0., 5., 4.]])
v, i = x.max(dim=1)
s, j = torch.sort(x, dim=1, descending=True)
t = x.topk(2)
result = v, i, s, j, t.values, t[1], x.max(), x.argmax(1), x.std(), x.var(dim=0), x.median(dim=1)[0]""",
}


def same(a, b):
    if isinstance(b, theirs.Tensor):
        assert isinstance(a, ours.Tensor), type(a)
        assert f"torch.{a.dtype}" == str(b.dtype)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
        assert tuple(a.shape) == tuple(b.shape)
    elif isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for p, q in zip(a, b, strict=True):
            same(p, q)
    else:
        assert a == b


def run(source, torch):
    torch.manual_seed(0)
    names = {"torch": torch, "np": np}
    exec(source, names)
    return names["result"]


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet(name):
    same(run(SNIPPETS[name], ours), run(SNIPPETS[name], theirs))

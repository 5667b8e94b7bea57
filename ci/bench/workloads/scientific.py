"""Differential equations, functions and learning to learn: derivatives inside the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ci.bench.library import F, array, functional_call, grad, nn, xp
from ci.bench.workload import Training, labels, normal, uniform, workload


def _tanh_mlp(inputs: int, width: int, layers: int, outputs: int) -> Any:
    parts: list[Any] = [nn.Linear(inputs, width), nn.Tanh()]
    for _ in range(layers - 1):
        parts += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*parts, nn.Linear(width, outputs))


@workload(
    "scientific",
    "PINN for Burgers' equation, 4 × 20 tanh",
    batch=1000,
    source="maziarraissi/PINNs; second derivatives",
)
def pinn_burgers(batch: int) -> Training:
    net = _tanh_mlp(2, 20, 4, 1)

    def slope(p: Any) -> Any:
        du = grad(lambda p: xp.sum(net(p)))(p)
        return xp.sum(du[:, 0]), du

    def loss(inside: Any, border: Any, target: Any) -> Any:
        u = net(inside)[:, 0]
        du, first = grad(slope, has_aux=True)(inside)
        residual = first[:, 1] + u * first[:, 0] - (0.01 / math.pi) * du[:, 0]
        return xp.mean(residual**2) + F.mse_loss(net(border), target)

    data = uniform(batch, 2, low=-1), uniform(100, 2, low=-1, seed=1), normal(100, 1)
    return Training(net, loss, data)


@workload(
    "scientific",
    "PINN for an oscillator, 3 × 32 tanh",
    batch=30,
    source="benmoseley/harmonic-oscillator-pinn",
)
def pinn_oscillator(batch: int) -> Training:
    net = _tanh_mlp(1, 32, 3, 1)

    def velocity(t: Any) -> Any:
        v = grad(lambda t: xp.sum(net(t)))(t)
        return xp.sum(v), v

    def loss(t: Any, at: Any, seen: Any) -> Any:
        a, v = grad(velocity, has_aux=True)(t)
        return F.mse_loss(net(at), seen) + 1e-4 * xp.mean((a + 4.0 * v + 400.0 * net(t)) ** 2)

    return Training(net, loss, (uniform(batch, 1), uniform(10, 1, seed=1), normal(10, 1)))


class Sine(nn.Module):  # type: ignore[misc]
    def __init__(self, a: int, b: int, frequency: float = 30.0) -> None:
        super().__init__()
        self.linear, self.frequency = nn.Linear(a, b), frequency

    def forward(self, x: Any) -> Any:
        return xp.sin(self.frequency * self.linear(x))


@workload(
    "scientific",
    "PINN for Helmholtz' equation, 3 × 64 sines, Laplacian in the plane",
    batch=1024,
    source="Sitzmann et al. 2020, section 4.3; second derivatives",
    tolerance=1e-3,
)
def pinn_helmholtz(batch: int) -> Training:
    net = nn.Sequential(Sine(2, 64, 5.0), Sine(64, 64, 5.0), Sine(64, 64, 5.0), nn.Linear(64, 1))
    slope = grad(lambda p: xp.sum(net(p)))

    def second(p: Any, axis: int) -> Any:
        return grad(lambda p: xp.sum(slope(p)[:, axis]))(p)[:, axis]

    def loss(inside: Any, source: Any, border: Any, seen: Any) -> Any:
        residual = second(inside, 0) + second(inside, 1) + 4.0 * net(inside)[:, 0] - source
        return 1e-3 * xp.mean(residual**2) + F.mse_loss(net(border), seen)

    data = uniform(batch, 2, low=-1), normal(batch), uniform(200, 2, low=-1, seed=1), normal(200, 1)
    return Training(net, loss, data, lr=1e-4)


@workload("scientific", "SIREN, 3 × 256, pixels of a picture", batch=1024, source="vsitzmann/siren")
def siren(batch: int) -> Training:
    net = nn.Sequential(Sine(2, 256), Sine(256, 256), Sine(256, 256), nn.Linear(256, 1))
    return Training(
        net, lambda x, y: F.mse_loss(net(x), y), (uniform(batch, 2, low=-1), uniform(batch, 1)), lr=1e-4
    )


@workload(
    "scientific",
    "NeRF's MLP, 8 × 128 with positional encoding",
    batch=512,
    source="yenchenlin/nerf-pytorch run_nerf_helpers.py",
)
def nerf(batch: int) -> Training:
    net = NeRF(8, 128, 63)

    def forward(x: Any) -> Any:
        parts = [x]
        for i in range(10):
            parts += [xp.sin(x * 2.0**i), xp.cos(x * 2.0**i)]
        return net(xp.concat(parts, axis=-1))

    return Training(
        net,
        lambda x, y: F.mse_loss(forward(x), y),
        (uniform(batch, 3), uniform(batch, 4, seed=1)),
        lr=5e-4,
        forward=forward,
    )


class NeRF(nn.Module):  # type: ignore[misc]
    def __init__(self, depth: int, width: int, inputs: int) -> None:
        super().__init__()
        self.pts_linears = nn.ModuleList(
            [
                nn.Linear(inputs if i == 0 else width + inputs if i == 5 else width, width)
                for i in range(depth)
            ]
        )
        self.output_linear = nn.Linear(width, 4)

    def forward(self, x: Any) -> Any:
        h = x
        for i, layer in enumerate(self.pts_linears):
            h = F.relu(layer(xp.concat([x, h], axis=-1) if i == 5 else h))
        return self.output_linear(h)


@workload(
    "scientific",
    "neural ODE, 20 Runge–Kutta steps, 2-50-2",
    batch=20,
    source="rtqichen/torchdiffeq examples/ode_demo.py, rk4",
)
def neural_ode(batch: int) -> Training:
    net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))

    def forward(y: Any) -> Any:
        h, path = 0.025, []
        for _ in range(20):
            k1 = net(y**3)
            k2 = net((y + h / 2 * k1) ** 3)
            k3 = net((y + h / 2 * k2) ** 3)
            k4 = net((y + h * k3) ** 3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            path.append(y)
        return xp.stack(path, axis=0)

    def loss(y: Any, target: Any) -> Any:
        return xp.mean(xp.abs(forward(y) - target))

    return Training(net, loss, (uniform(batch, 2), uniform(20, batch, 2, seed=1)), forward=forward)


class KANLinear(nn.Module):  # type: ignore[misc]
    """Cubic B-splines on a grid beside a SiLU branch."""

    def __init__(self, a: int, b: int, grid: int = 5, order: int = 3) -> None:
        super().__init__()
        h = 2.0 / grid
        knots = np.arange(-order, grid + order + 1) * h - 1.0
        self.register_buffer("grid", array(np.tile(knots.astype(np.float32), (a, 1))))
        self.base, self.order = nn.Linear(a, b, bias=False), order
        self.spline = nn.Linear(a * (grid + order), b, bias=False)

    def b_splines(self, x: Any) -> Any:
        grid, x = self.grid, x[:, :, None]
        inside = xp.logical_and(x >= grid[:, :-1], x < grid[:, 1:])
        bases = xp.astype(inside, x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * bases[:, :, :-1]
            bases = left + (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k]) * bases[:, :, 1:]
        return bases

    def forward(self, x: Any) -> Any:
        splines = self.b_splines(x)
        return self.base(F.silu(x)) + self.spline(xp.reshape(splines, (x.shape[0], -1)))


@workload("scientific", "KAN, 16-32-1, cubic splines", batch=256, source="Blealtan/efficient-kan")
def kan(batch: int) -> Training:
    net = nn.Sequential(KANLinear(16, 32), KANLinear(32, 1))
    return Training(
        net, lambda x, y: F.mse_loss(net(x), y), (uniform(batch, 16, low=-1), normal(batch, 1)), "adamw"
    )


class FastKANLinear(nn.Module):  # type: ignore[misc]
    """Gaussian bumps on a grid, of normalised inputs, beside a SiLU branch."""

    def __init__(self, a: int, b: int, grid: int = 8) -> None:
        super().__init__()
        self.layernorm, self.width = nn.LayerNorm(a), 4.0 / (grid - 1)
        self.register_buffer("grid", array(np.linspace(-2, 2, grid, dtype=np.float32)))
        self.spline, self.base = nn.Linear(a * grid, b, bias=False), nn.Linear(a, b)

    def forward(self, x: Any) -> Any:
        bumps = xp.exp(-(((self.layernorm(x)[:, :, None] - self.grid) / self.width) ** 2))
        return self.spline(xp.reshape(bumps, (x.shape[0], -1))) + self.base(F.silu(x))


@workload("scientific", "FastKAN, 64-64-10, Gaussian bumps", batch=256, source="ZiyaoLi/fast-kan")
def fast_kan(batch: int) -> Training:
    net = nn.Sequential(FastKANLinear(64, 64), FastKANLinear(64, 10))
    return Training(
        net, lambda x, y: F.cross_entropy(net(x), y), (normal(batch, 64), labels(batch, classes=10)), "adamw"
    )


@workload(
    "scientific", "DeepONet, branch and trunk of 3 × 64", batch=256, source="Lu et al. 2021; lululxvi/deepxde"
)
def deeponet(batch: int) -> Training:
    branch, trunk = _tanh_mlp(100, 64, 2, 64), _tanh_mlp(1, 64, 2, 64)

    def forward(u: Any, y: Any) -> Any:
        return xp.sum(branch(u) * trunk(y), axis=1)

    data = normal(batch, 100), uniform(batch, 1), normal(batch, seed=1)
    return Training(
        (branch, trunk), lambda u, y, s: F.mse_loss(forward(u, y), s), data, forward=forward, inputs=2
    )


@workload(
    "scientific", "Hamiltonian network, 4-200-200-1, its field", batch=200, source="greydanus/hamiltonian-nn"
)
def hamiltonian(batch: int) -> Training:
    net = nn.Sequential(
        nn.Linear(4, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 1, bias=False)
    )

    def loss(x: Any, dx: Any) -> Any:
        dh = grad(lambda x: xp.sum(net(x)))(x)
        field = xp.concat([dh[:, 2:], -dh[:, :2]], axis=1)
        return F.mse_loss(field, dx)

    return Training(net, loss, (normal(batch, 4), normal(batch, 4, seed=1)))


@workload(
    "scientific", "MAML on sines, 4 tasks × 10 points, second order", batch=4, source="cbfinn/maml, 1-40-40-1"
)
def maml(batch: int) -> Training:
    net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))

    def loss(xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
        start, total = dict(net.named_parameters()), 0.0
        for task in range(xs.shape[0]):

            def inner(p: Any, task: int = task) -> Any:
                return F.mse_loss(functional_call(net, p, xs[task]), ys[task])

            g = grad(inner)(start)
            adapted = {name: p - 0.01 * g[name] for name, p in start.items()}
            total = total + F.mse_loss(functional_call(net, adapted, xq[task]), yq[task])
        return total / xs.shape[0]

    data = tuple(uniform(batch, 10, 1, low=-5, high=5, seed=i) for i in range(4))
    return Training(net, loss, data, inputs=0)

"""Models that draw samples. Noise is part of the batch, so that all libraries get the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ci.bench.library import F, array, grad, nn, optimizer, xp
from ci.bench.workload import Training, integers, normal, uniform, workload


class VAE(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Any, noise: Any) -> Any:
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + noise * xp.exp(0.5 * logvar)
        return F.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


@workload("generative", "VAE, 784-400-20", batch=128, source="pytorch/examples vae/main.py")
def vae(batch: int) -> Training:
    net = VAE()

    def loss(x: Any, noise: Any) -> Any:
        y, mu, logvar = net(x, noise)
        bce = F.binary_cross_entropy(y, x, reduction="sum")
        return bce - 0.5 * xp.sum(1.0 + logvar - mu**2 - xp.exp(logvar))

    return Training(net, loss, (uniform(batch, 784), normal(batch, 20)), inputs=2)


@workload(
    "generative",
    "VAE of convolutions, 32×32",
    batch=32,
    source="AntixK/PyTorch-VAE vanilla_vae.py, two levels",
    images=True,
)
def conv_vae(batch: int) -> Training:
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.LeakyReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64), nn.LeakyReLU(), nn.Flatten(), nn.Linear(4096, 256),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(128, 4096), nn.Unflatten(1, (64, 8, 8)), nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(32), nn.LeakyReLU(), nn.ConvTranspose2d(32, 32, 3, stride=2, padding=1, output_padding=1), nn.BatchNorm2d(32),
        nn.LeakyReLU(), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip

    def forward(x: Any, noise: Any) -> Any:
        z = encoder(x)
        mu, logvar = z[:, :128], z[:, 128:]
        return decoder(mu + noise * xp.exp(0.5 * logvar)), mu, logvar

    def loss(x: Any, noise: Any) -> Any:
        y, mu, logvar = forward(x, noise)
        kl = xp.mean(-0.5 * xp.sum(1.0 + logvar - mu**2 - xp.exp(logvar), axis=1))
        return F.mse_loss(y, x) + 0.00025 * kl

    return Training(
        (encoder, decoder),
        loss,
        (uniform(batch, 3, 32, 32, low=-1), normal(batch, 128)),
        forward=forward,
        inputs=2,
    )


def _generator(latent: int, width: int) -> Any:
    return nn.Sequential(
        nn.ConvTranspose2d(latent, width * 4, 4, 1, 0, bias=False), nn.BatchNorm2d(width * 4), nn.ReLU(),
        nn.ConvTranspose2d(width * 4, width * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.ReLU(),
        nn.ConvTranspose2d(width * 2, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def _discriminator(width: int) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(width, width * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.LeakyReLU(0.2),
        nn.Conv2d(width * 2, width * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 4), nn.LeakyReLU(0.2),
        nn.Conv2d(width * 4, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip


@workload(
    "generative",
    "DCGAN, generator and discriminator step, 32×32",
    batch=16,
    source="pytorch/examples dcgan/main.py",
)
def dcgan(batch: int) -> Training:
    g, d = _generator(64, 32), _discriminator(32)
    of_g, of_d = optimizer(g.parameters(), "adam", 2e-4), optimizer(d.parameters(), "adam", 2e-4)

    def step(real: Any, noise: Any) -> Any:
        one, zero = xp.ones((real.shape[0],), dtype=real.dtype), xp.zeros((real.shape[0],), dtype=real.dtype)
        of_d.zero_grad()
        fake = g(noise)
        loss_d = F.binary_cross_entropy_with_logits(d(real), one) + F.binary_cross_entropy_with_logits(
            d(fake.detach()), zero
        )
        loss_d.backward()
        of_d.step()
        of_g.zero_grad()
        loss_g = F.binary_cross_entropy_with_logits(d(fake), one)
        loss_g.backward()
        of_g.step()
        return loss_d.detach() + loss_g.detach()

    data = normal(batch, 64, 1, 1), uniform(batch, 3, 32, 32, low=-1)
    return Training((g, d), None, data[::-1], step=step, forward=None, inputs=0)


@workload(
    "generative",
    "WGAN-GP critic step on points, gradient penalty",
    batch=256,
    source="igul222/improved_wgan_training gan_toy.py",
)
def wgan_gp(batch: int) -> Training:
    net = nn.Sequential(
        nn.Linear(2, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 1),
    )

    def loss(real: Any, fake: Any, alpha: Any) -> Any:
        mixed = real + alpha * (fake - real)
        slope = grad(lambda x: xp.sum(net(x)))(mixed)
        penalty = xp.mean((xp.sqrt(xp.sum(slope**2, axis=1)) - 1.0) ** 2)
        return xp.mean(net(fake)) - xp.mean(net(real)) + 0.1 * penalty

    return Training(net, loss, (normal(batch, 2), normal(batch, 2, seed=1), uniform(batch, 1)))


class ResidualBlock(nn.Module):  # type: ignore[misc]
    """DDPM's: GroupNorm, SiLU, convolution, with the time added in between."""

    def __init__(self, a: int, b: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1, self.time = (
            nn.GroupNorm(8, a),
            nn.Conv2d(a, b, 3, padding=1),
            nn.Linear(time, b),
        )
        self.norm2, self.conv2 = nn.GroupNorm(8, b), nn.Conv2d(b, b, 3, padding=1)
        self.shortcut = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Any, t: Any) -> Any:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.shortcut(x)


class AttentionBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = (
            nn.GroupNorm(8, width),
            nn.Conv2d(width, 3 * width, 1),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        qkv = xp.reshape(self.qkv(self.norm(x)), (n, 3, c, h * w))
        q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        weights = F.softmax(xp.matmul(xp.permute_dims(q, (0, 2, 1)), k) * (c**-0.5), dim=-1)
        y = xp.reshape(xp.matmul(v, xp.permute_dims(weights, (0, 2, 1))), (n, c, h, w))
        return x + self.proj(y)


class DDPMUNet(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        time, half = 4 * width, width // 2
        self.register_buffer(
            "frequencies", array(np.exp(-math.log(10000.0) * np.arange(half) / (half - 1)).astype(np.float32))
        )
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down1, self.down2 = ResidualBlock(width, width, time), ResidualBlock(width, 2 * width, time)
        self.pool1, self.pool2 = nn.Conv2d(width, width, 3, 2, 1), nn.Conv2d(2 * width, 2 * width, 3, 2, 1)
        self.middle1, self.attention, self.middle2 = (
            ResidualBlock(2 * width, 2 * width, time),
            AttentionBlock(2 * width),
            ResidualBlock(2 * width, 2 * width, time),
        )
        self.up2, self.up1 = ResidualBlock(4 * width, width, time), ResidualBlock(2 * width, width, time)
        self.norm, self.out = nn.GroupNorm(8, width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Any, t: Any) -> Any:
        angles = t[:, None] * self.frequencies
        t = self.time(xp.concat([xp.sin(angles), xp.cos(angles)], axis=1))
        x = self.first(x)
        a = self.down1(x, t)
        b = self.down2(self.pool1(a), t)
        m = self.middle2(self.attention(self.middle1(self.pool2(b), t)), t)
        m = self.up2(xp.concat([F.interpolate(m, scale_factor=2, mode="nearest"), b], axis=1), t)
        m = self.up1(xp.concat([F.interpolate(m, scale_factor=2, mode="nearest"), a], axis=1), t)
        return self.out(F.silu(self.norm(m)))


@workload("generative", "DDPM U-Net, width 32, 28×28", batch=8, source="Ho et al. 2020; labmlai ddpm/unet.py")
def ddpm(batch: int) -> Training:
    net = DDPMUNet(1, 32)
    data = normal(batch, 1, 28, 28), uniform(batch, high=1000.0), normal(batch, 1, 28, 28, seed=1)
    return Training(net, lambda x, t, noise: F.mse_loss(net(x, t), noise), data, inputs=2)


@workload("generative", "diffusion of points, MLP 3 × 128", batch=256, source="tanelp/tiny-diffusion ddpm.py")
def tiny_diffusion(batch: int) -> Training:
    net = nn.Sequential(
        nn.Linear(130, 128),
        nn.GELU(),
        nn.Linear(128, 128),
        nn.GELU(),
        nn.Linear(128, 128),
        nn.GELU(),
        nn.Linear(128, 2),
    )
    frequencies = np.exp(-np.log(10000.0) * np.arange(64) / 63).astype(np.float32)

    def forward(x: Any, angles: Any) -> Any:
        return net(xp.concat([x, xp.sin(angles), xp.cos(angles)], axis=-1))

    def loss(x: Any, angles: Any, noise: Any) -> Any:
        return F.mse_loss(forward(x, angles), noise)

    angles = uniform(batch, 1, high=50.0) * frequencies
    return Training(
        net, loss, (normal(batch, 2), angles, normal(batch, 2, seed=1)), "adamw", forward=forward, inputs=2
    )


class Coupling(nn.Module):  # type: ignore[misc]
    """RealNVP: one part of the variables scales and shifts the other."""

    def __init__(self, mask: Any, width: int) -> None:
        super().__init__()
        d = len(mask)
        self.register_buffer("mask", array(np.asarray(mask, np.float32)))
        self.s = nn.Sequential(
            nn.Linear(d, width),
            nn.LeakyReLU(),
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, d),
            nn.Tanh(),
        )
        self.t = nn.Sequential(
            nn.Linear(d, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, d)
        )

    def forward(self, x: Any) -> Any:
        kept = x * self.mask
        s, t = self.s(kept) * (1.0 - self.mask), self.t(kept) * (1.0 - self.mask)
        return kept + (1.0 - self.mask) * (x - t) * xp.exp(-s), -xp.sum(s, axis=1)


class Flow(nn.Module):  # type: ignore[misc]
    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any) -> Any:
        total: Any = 0.0
        for layer in self.layers:
            x, logdet = layer(x)
            total = total + logdet
        return x, total


def _likelihood(net: Any) -> Any:
    def loss(x: Any) -> Any:
        z, logdet = net(x)
        return -xp.mean(logdet - 0.5 * xp.sum(z**2, axis=1) - 0.5 * z.shape[1] * math.log(2 * math.pi))

    return loss


@workload(
    "generative",
    "RealNVP, 6 couplings, width 256, 2 variables",
    batch=256,
    source="senya-ashukha/real-nvp-pytorch",
)
def realnvp(batch: int) -> Training:
    net = Flow([Coupling([i % 2 * 1.0, (i + 1) % 2 * 1.0], 256) for i in range(6)])
    return Training(net, _likelihood(net), (normal(batch, 2),))


class MADE(nn.Module):  # type: ignore[misc]
    """One autoregressive layer: masked Linears give shift and log scale."""

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(d, width), nn.Linear(width, width), nn.Linear(width, 2 * d)
        inputs, hidden = np.arange(d), np.arange(width) % (d - 1)
        masks = hidden[:, None] >= inputs, hidden[:, None] >= hidden, np.tile(inputs, 2)[:, None] > hidden
        for i, mask in enumerate(masks):
            self.register_buffer(f"mask{i}", array(mask.astype(np.float32)))

    def forward(self, x: Any) -> Any:
        h = F.relu(F.linear(x, self.fc1.weight * self.mask0, self.fc1.bias))
        h = F.relu(F.linear(h, self.fc2.weight * self.mask1, self.fc2.bias))
        h = F.linear(h, self.fc3.weight * self.mask2, self.fc3.bias)
        m, a = h[:, : x.shape[1]], h[:, x.shape[1] :]
        return xp.flip((x - m) * xp.exp(-a), axis=1), -xp.sum(a, axis=1)


@workload(
    "generative",
    "masked autoregressive flow, 5 MADEs, POWER's 6 variables",
    batch=100,
    source="ikostrikov/pytorch-flows",
)
def maf(batch: int) -> Training:
    net = Flow([MADE(6, 100) for _ in range(5)])
    return Training(net, _likelihood(net), (normal(batch, 6),))


class MaskedConv2d(nn.Conv2d):  # type: ignore[misc]
    """PixelCNN's: a pixel sees those above and to the left of it."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        k = self.weight.shape[-1]
        mask = np.ones((1, 1, k, k), np.float32)
        mask[..., k // 2, k // 2 + (kind == "B") :] = 0
        mask[..., k // 2 + 1 :, :] = 0
        self.register_buffer("mask", array(mask))

    def forward(self, x: Any) -> Any:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.weight.shape[-1] // 2)


@workload(
    "generative",
    "PixelCNN, 6 masked 7×7 layers, 28×28",
    batch=8,
    source="jzbontar/pixelcnn-pytorch main.py",
    images=True,
)
def pixelcnn(batch: int) -> Training:
    layers: list[Any] = []
    for i in range(6):
        layers += [
            MaskedConv2d("B" if i else "A", 32 if i else 1, 32, 7, padding=3, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        ]
    net = nn.Sequential(*layers, nn.Conv2d(32, 64, 1))
    data = uniform(batch, 1, 28, 28), integers(batch, 28, 28, below=64)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)

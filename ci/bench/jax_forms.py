"""The workloads in JAX, where that is cheap to write: pure functions of a dictionary of PyTorch's names.

A form is the forward pass, ``(p, *inputs, train) -> output``, and the loss, ``(p, *batch) -> scalar``; where all of the batch but the last
array are inputs and the loss is a function of output and target, that function is enough. Several networks stand under the keys
``"0:name"``, ``"1:name"``; one network without the number. The test of agreement compares these with PyTorch's, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ci.bench import jax_layers as L

Tree = dict[str, Any]
FORMS: dict[str, tuple[Callable[..., Any] | None, Callable[..., Any]]] = {}
relu = jax.nn.relu


def _form(
    name: str, of: Callable[[Any, Any], Any] | None = None, loss: Callable[..., Any] | None = None
) -> Any:
    def declare(forward: Callable[..., Any]) -> Callable[..., Any]:
        whole = loss if of is None else lambda p, *batch: of(forward(p, *batch[:-1], train=True), batch[-1])
        assert whole is not None
        FORMS[name] = forward, whole
        return forward

    return declare


def _loss_only(name: str) -> Any:
    def declare(loss: Callable[..., Any]) -> Callable[..., Any]:
        FORMS[name] = None, loss
        return loss

    return declare


# ----- tabular -----


def _mlps(name: str, count: int, of: Any, act: Any = relu) -> None:
    _form(name, of)(lambda p, x, train: L.mlp(p, "", count, x, act))


_mlps("tiny-mlp", 2, L.mse, jnp.tanh)
_mlps("digits-mlp", 3, L.cross_entropy)
_mlps("mnist-mlp", 3, L.cross_entropy)
_mlps("mnist-mlp-sgd", 3, L.cross_entropy)
_mlps("wide-mlp", 3, L.cross_entropy)
_mlps("snn", 9, L.cross_entropy, jax.nn.selu)


@_form("tabular-embeddings", L.cross_entropy)
def tabular_embeddings(p: Tree, x_cat: Any, x_cont: Any, train: bool) -> Any:
    x = [p[f"embeds.{i}.weight"][x_cat[:, i]] for i in range(8)]
    x = jnp.concatenate([*x, L.batch_norm(p, "bn_cont", x_cont, train)], 1)
    for i in (0, 3):
        x = L.batch_norm(p, f"layers.{i + 2}", relu(L.linear(p, f"layers.{i}", x)), train)
    return L.linear(p, "layers.6", x)


@_form("ft-transformer", L.cross_entropy)
def ft_transformer(p: Tree, x_num: Any, x_cat: Any, train: bool) -> Any:
    tokens = x_num[:, :, None] * p["weight"] + p["bias"]
    cls = jnp.broadcast_to(p["cls"], (len(x_num), 1, 64))
    x = jnp.concatenate([cls, tokens, p["categories.weight"][x_cat]], 1)
    for i in range(3):
        name = f"blocks.{i}"
        x = x + L.attention(p, f"{name}.attention", L.layer_norm(p, f"{name}.norm1", x) if i else x, 8)
        a, b = jnp.split(L.linear(p, f"{name}.ff1", L.layer_norm(p, f"{name}.norm2", x)), 2, -1)
        x = x + L.linear(p, f"{name}.ff2", a * relu(b))
    return L.linear(p, "head", relu(L.layer_norm(p, "norm", x[:, 0])))


@_form("tab-transformer", L.bce_with_logits)
def tab_transformer(p: Tree, x_cat: Any, x_num: Any, train: bool) -> Any:
    x = p["embed.weight"][x_cat]
    for i in range(4):
        x = L.encoder_layer(p, f"encoder.layers.{i}", x, 8, L.gelu, True)
    return L.mlp(p, "mlp.", 3, jnp.concatenate([x.reshape(len(x), -1), L.layer_norm(p, "norm", x_num)], 1))[
        :, 0
    ]


@_form("deepfm", L.bce_with_logits)
@_form("deepfm-sgd", L.bce_with_logits)
def deepfm(p: Tree, x: Any, train: bool) -> Any:
    e = p["embedding.weight"][x]
    s = e.sum(1)
    pairs = 0.5 * (s * s - (e * e).sum(1)).sum(-1)
    return (
        p["linear.weight"][x].sum((1, 2))
        + p["bias"]
        + pairs
        + L.mlp(p, "mlp.", 3, e.reshape(len(e), -1))[:, 0]
    )


@_form("neural-cf", L.bce_with_logits)
def neural_cf(p: Tree, user: Any, item: Any, train: bool) -> Any:
    gmf = p["user_gmf.weight"][user] * p["item_gmf.weight"][item]
    both = jnp.concatenate([p["user_mlp.weight"][user], p["item_mlp.weight"][item]], -1)
    return L.linear(p, "out", jnp.concatenate([gmf, relu(L.mlp(p, "mlp.0.", 3, both))], -1))[:, 0]


@_form("autoencoder", loss=lambda p, x: L.mse(autoencoder(p, x, True), x))
def autoencoder(p: Tree, x: Any, train: bool) -> Any:
    return jnp.tanh(L.mlp(p, "1.", 4, L.mlp(p, "0.", 4, x)))


@_form("nbeats", lambda y, t: jnp.where(jnp.abs(y - t) < 1, 0.5 * (y - t) ** 2, jnp.abs(y - t) - 0.5).mean())
def nbeats(p: Tree, x: Any, train: bool) -> Any:
    forecast: Any = 0.0
    for i in range(6):
        theta = L.linear(p, f"heads.{i}", relu(L.mlp(p, f"blocks.{i}.0.", 4, x)))
        x, forecast = x - theta[:, :60], forecast + theta[:, 60:]
    return forecast


# ----- vision -----


@_form("lenet", L.cross_entropy)
def lenet(p: Tree, x: Any, train: bool) -> Any:
    x = L.max_pool(relu(L.conv(p, "0", x, padding=2)))
    x = L.max_pool(relu(L.conv(p, "3", x)))
    return L.chain(p, ["7", "9", "11"], x.reshape(len(x), -1))


@_form("mnist-convnet", L.cross_entropy)
def mnist_convnet(p: Tree, x: Any, train: bool) -> Any:
    x = L.max_pool(relu(L.conv(p, "2", relu(L.conv(p, "0", x)))))
    return jax.nn.log_softmax(L.chain(p, ["6", "8"], x.reshape(len(x), -1)))


def _resnet(p: Tree, x: Any, train: bool, counts: tuple[int, ...]) -> Any:
    x = relu(L.batch_norm(p, "1", L.conv(p, "0", x, padding=1), train))
    number = 3
    for i, count in enumerate(counts):
        for j in range(count):
            name, stride = str(number), 2 if i and not j else 1
            y = relu(L.batch_norm(p, f"{name}.bn1", L.conv(p, f"{name}.conv1", x, stride, 1), train))
            y = L.batch_norm(p, f"{name}.bn2", L.conv(p, f"{name}.conv2", y, 1, 1), train)
            if f"{name}.shortcut.0.weight" in p:
                x = L.batch_norm(p, f"{name}.shortcut.1", L.conv(p, f"{name}.shortcut.0", x, stride), train)
            x = relu(y + x)
            number += 1
    return L.linear(p, str(number + 2), x.mean((2, 3)))


_form("resnet8", L.cross_entropy)(lambda p, x, train: _resnet(p, x, train, (1, 1, 1)))
_form("resnet18", L.cross_entropy)(lambda p, x, train: _resnet(p, x, train, (2, 2, 2, 2)))


@_form("vgg11", L.cross_entropy)
def vgg11(p: Tree, x: Any, train: bool) -> Any:
    for i in (0, None, 4, None, 8, 11, None, 15, 18, None, 22, 25, None):
        x = (
            L.max_pool(x)
            if i is None
            else relu(L.batch_norm(p, f"{i + 1}", L.conv(p, f"{i}", x, padding=1), train))
        )
    return L.linear(p, "30", x.reshape(len(x), -1))


@_form("mobilenet-v2", L.cross_entropy)
def mobilenet_v2(p: Tree, x: Any, train: bool) -> Any:
    def conv_bn(name: str, i: int, x: Any, stride: int = 1, act: bool = True) -> Any:
        w = p[f"{name}{i}.weight"]
        y = L.conv(p, f"{name}{i}", x, stride, w.shape[-1] // 2, x.shape[1] // w.shape[1])
        y = L.batch_norm(p, f"{name}{i + 1}", y, train)
        return jnp.clip(y, 0, 6) if act else y

    x = conv_bn("", 0, x)
    number = 3
    for t, c, n, s in (
        (1, 8, 1, 1),
        (6, 16, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    ):
        for j in range(n):
            name, y, at = f"{number}.conv.", x, 0
            if t != 1:
                y, at = conv_bn(name, 0, y), 3
            y = conv_bn(name, at + 3, conv_bn(name, at, y, s if j == 0 else 1), act=False)
            x = x + y if (s == 1 or j) and x.shape[1] == c else y
            number += 1
    x = conv_bn("", number, x)
    return L.linear(p, str(number + 5), x.mean((2, 3)))


@_form("vit", L.cross_entropy)
def vit(p: Tree, x: Any, train: bool) -> Any:
    x = L.conv(p, "patch", x, 4)
    n, d = x.shape[:2]
    x = (
        jnp.concatenate([jnp.broadcast_to(p["cls"], (n, 1, d)), x.reshape(n, d, -1).swapaxes(1, 2)], 1)
        + p["positions"]
    )
    for i in range(4):
        x = L.encoder_layer(p, f"encoder.layers.{i}", x, 3, L.gelu, True)
    return L.linear(p, "head", L.layer_norm(p, "norm", x[:, 0]))


@_form("mlp-mixer", L.cross_entropy)
def mlp_mixer(p: Tree, x: Any, train: bool) -> Any:
    x = L.conv(p, "patch", x, 4)
    x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    for i in range(6):
        name = f"blocks.{i}"
        y = L.layer_norm(p, f"{name}.norm1", x).swapaxes(1, 2)
        x = x + L.mlp(p, f"{name}.tokens.", 2, y, L.gelu).swapaxes(1, 2)
        x = x + L.mlp(p, f"{name}.channels.", 2, L.layer_norm(p, f"{name}.norm2", x), L.gelu)
    return L.linear(p, "head", L.layer_norm(p, "norm", x).mean(1))


@_form("super-resolution", L.mse)
def super_resolution(p: Tree, x: Any, train: bool) -> Any:
    for i, padding in ((0, 2), (2, 1), (4, 1)):
        x = relu(L.conv(p, f"{i}", x, padding=padding))
    x = L.conv(p, "6", x, padding=1)
    n, _, h, w = x.shape
    return x.reshape(n, 1, 4, 4, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, 1, 4 * h, 4 * w)


# ----- sequence -----


@_form("lstm", L.cross_entropy)
def lstm(p: Tree, x: Any, train: bool) -> Any:
    return L.linear(p, "out", L.lstm(p, "rnn", x)[-1])


@_form("gru-tagger", L.cross_entropy)
def gru_tagger(p: Tree, x: Any, train: bool) -> Any:
    x = p["word_embeddings.weight"][x].swapaxes(0, 1)
    y = jnp.concatenate([L.gru(p, "rnn", x), L.gru(p, "rnn", x, "_l0_reverse", reverse=True)], -1)
    return L.linear(p, "hidden2tag", y).swapaxes(0, 1)


@_form("lstm-language-model", L.cross_entropy)
def lstm_language_model(p: Tree, x: Any, train: bool) -> Any:
    return L.linear(p, "decoder", L.lstm(p, "rnn", L.lstm(p, "rnn", p["encoder.weight"][x]), 1))


@_form("makemore-gru", L.cross_entropy)
def makemore_gru(p: Tree, x: Any, train: bool) -> Any:
    x = p["wte.weight"][x]
    h = jnp.broadcast_to(p["start"], (len(x), p["start"].shape[1]))

    def step(h: Any, now: Any) -> Any:
        h = L.gru_cell(p, "cell", "", now, h)
        return h, h

    return L.linear(p, "lm_head", jax.lax.scan(step, h, x.swapaxes(0, 1))[1].swapaxes(0, 1))


@_form("makemore-mlp", L.cross_entropy)
def makemore_mlp(p: Tree, x: Any, train: bool) -> Any:
    embs = []
    for _ in range(16):
        embs.append(p["wte.weight"][x])
        x = jnp.concatenate([jnp.full((len(x), 1), 27, x.dtype), x[:, :-1]], 1)
    return L.mlp(p, "mlp.", 2, jnp.concatenate(embs, -1), jnp.tanh)


def _gpt(p: Tree, x: Any, heads: int, act: Any) -> Any:
    x = p["wte.weight"][x] + p["wpe.weight"]
    n, t, d = x.shape
    i = 0
    while f"h.{i}.ln_1.weight" in p:
        qkv = L.linear(p, f"h.{i}.attn.c_attn", L.layer_norm(p, f"h.{i}.ln_1", x)).reshape(
            n, t, 3, heads, d // heads
        )
        y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
        x = x + L.linear(p, f"h.{i}.attn.c_proj", y.reshape(n, t, d))
        x = x + L.mlp(p, f"h.{i}.mlp.", 2, L.layer_norm(p, f"h.{i}.ln_2", x), act)
        i += 1
    return L.linear(p, "lm_head", L.layer_norm(p, "ln_f", x))


_form("makemore-transformer", L.cross_entropy)(lambda p, x, train: _gpt(p, x, 4, jax.nn.gelu))
_form("nanogpt", L.cross_entropy)(lambda p, x, train: _gpt(p, x, 4, L.gelu))


@_form("transformer-encoder", L.cross_entropy)
def transformer_encoder(p: Tree, x: Any, train: bool) -> Any:
    x = p["embed.weight"][x]
    for i in range(2):
        x = L.encoder_layer(p, f"encoder.layers.{i}", x, 4, relu, False)
    return L.linear(p, "out", x.mean(1))


@_form("text-cnn", L.cross_entropy)
def text_cnn(p: Tree, x: Any, train: bool) -> Any:
    x = p["embed.weight"][x].swapaxes(1, 2)
    return L.linear(p, "fc", jnp.concatenate([relu(L.conv(p, f"convs.{i}", x)).max(-1) for i in range(3)], 1))


@_form("tcn", L.cross_entropy)
def tcn(p: Tree, x: Any, train: bool) -> Any:
    for i in range(6):
        pad = 6 * 2**i
        y = relu(L.conv(p, f"tcn.{i}.conv1", x, padding=pad, dilation=2**i)[:, :, :-pad])
        y = relu(L.conv(p, f"tcn.{i}.conv2", y, padding=pad, dilation=2**i)[:, :, :-pad])
        x = relu(y + (x if i else L.conv(p, "tcn.0.downsample", x)))
    return L.linear(p, "linear", x[:, :, -1])


# ----- generative -----


def _likelihood(flow: Any) -> Any:
    def loss(p: Tree, x: Any) -> Any:
        z, logdet = flow(p, x, True)
        return -(logdet - 0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)).mean()

    return loss


@_form("realnvp", loss=lambda p, x: _likelihood(realnvp)(p, x))
def realnvp(p: Tree, x: Any, train: bool) -> Any:
    total: Any = 0.0
    leaky = jax.nn.leaky_relu
    for i in range(6):
        mask = p[f"layers.{i}.mask"]
        kept = x * mask
        s = jnp.tanh(L.mlp(p, f"layers.{i}.s.", 3, kept, leaky)) * (1 - mask)
        t = L.mlp(p, f"layers.{i}.t.", 3, kept, leaky) * (1 - mask)
        x, total = kept + (1 - mask) * (x - t) * jnp.exp(-s), total - s.sum(1)
    return x, total


@_form("maf", loss=lambda p, x: _likelihood(maf)(p, x))
def maf(p: Tree, x: Any, train: bool) -> Any:
    total: Any = 0.0
    for i in range(5):
        h = x
        for k in range(3):
            name = f"layers.{i}.fc{k + 1}"
            h = h @ (p[f"{name}.weight"] * p[f"layers.{i}.mask{k}"]).T + p[f"{name}.bias"]
            h = relu(h) if k < 2 else h
        m, a = jnp.split(h, 2, 1)
        x, total = ((x - m) * jnp.exp(-a))[:, ::-1], total - a.sum(1)
    return x, total


@_form("vae", loss=lambda p, x, noise: _vae_loss(vae(p, x, noise, True), x))
def vae(p: Tree, x: Any, noise: Any, train: bool) -> Any:
    h = relu(L.linear(p, "fc1", x))
    mu, logvar = L.linear(p, "fc21", h), L.linear(p, "fc22", h)
    z = mu + noise * jnp.exp(0.5 * logvar)
    return L.linear(p, "fc4", relu(L.linear(p, "fc3", z))), mu, logvar


def _vae_loss(out: Any, x: Any) -> Any:
    y, mu, logvar = out
    return L.bce_with_logits(y, x) * x.size - 0.5 * (1.0 + logvar - mu**2 - jnp.exp(logvar)).sum()


@_loss_only("wgan-gp")
def wgan_gp(p: Tree, real: Any, fake: Any, alpha: Any) -> Any:
    net = lambda x: L.mlp(p, "", 4, x)  # noqa: E731
    slope = jax.grad(lambda x: net(x).sum())(real + alpha * (fake - real))
    return net(fake).mean() - net(real).mean() + 0.1 * ((jnp.sqrt((slope**2).sum(1)) - 1.0) ** 2).mean()


@_form("tiny-diffusion", L.mse)
def tiny_diffusion(p: Tree, x: Any, angles: Any, train: bool) -> Any:
    return L.mlp(p, "", 4, jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], -1), L.gelu)


# ----- scientific -----


@_loss_only("pinn-burgers")
def pinn_burgers(p: Tree, inside: Any, border: Any, target: Any) -> Any:
    net = lambda x: L.mlp(p, "", 5, x, jnp.tanh)  # noqa: E731

    def slope(x: Any) -> Any:
        du = jax.grad(lambda x: net(x).sum())(x)
        return du[:, 0].sum(), du

    second, first = jax.grad(slope, has_aux=True)(inside)
    residual = first[:, 1] + net(inside)[:, 0] * first[:, 0] - (0.01 / math.pi) * second[:, 0]
    return (residual**2).mean() + L.mse(net(border), target)


@_loss_only("pinn-oscillator")
def pinn_oscillator(p: Tree, t: Any, at: Any, seen: Any) -> Any:
    net = lambda x: L.mlp(p, "", 4, x, jnp.tanh)  # noqa: E731

    def velocity(t: Any) -> Any:
        v = jax.grad(lambda t: net(t).sum())(t)
        return v.sum(), v

    a, v = jax.grad(velocity, has_aux=True)(t)
    return L.mse(net(at), seen) + 1e-4 * ((a + 4.0 * v + 400.0 * net(t)) ** 2).mean()


@_form("siren", L.mse)
def siren(p: Tree, x: Any, train: bool) -> Any:
    for i in range(3):
        x = jnp.sin(30.0 * L.linear(p, f"{i}.linear", x))
    return L.linear(p, "3", x)


@_form("nerf", L.mse)
def nerf(p: Tree, x: Any, train: bool) -> Any:
    parts = [x]
    for i in range(10):
        parts += [jnp.sin(x * 2.0**i), jnp.cos(x * 2.0**i)]
    x = h = jnp.concatenate(parts, -1)
    for i in range(8):
        h = relu(L.linear(p, f"pts_linears.{i}", jnp.concatenate([x, h], -1) if i == 5 else h))
    return L.linear(p, "output_linear", h)


@_form("neural-ode", lambda y, t: jnp.abs(y - t).mean())
def neural_ode(p: Tree, y: Any, train: bool) -> Any:
    net = lambda y: L.mlp(p, "", 2, y, jnp.tanh)  # noqa: E731
    h, path = 0.025, []
    for _ in range(20):
        k1 = net(y**3)
        k2 = net((y + h / 2 * k1) ** 3)
        k3 = net((y + h / 2 * k2) ** 3)
        k4 = net((y + h * k3) ** 3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(y)
    return jnp.stack(path)


@_form("deeponet", L.mse)
def deeponet(p: Tree, u: Any, y: Any, train: bool) -> Any:
    return (L.mlp(p, "0:", 3, u, jnp.tanh) * L.mlp(p, "1:", 3, y, jnp.tanh)).sum(1)


@_loss_only("hamiltonian")
def hamiltonian(p: Tree, x: Any, dx: Any) -> Any:
    dh = jax.grad(lambda x: L.mlp(p, "", 3, x, jnp.tanh).sum())(x)
    return L.mse(jnp.concatenate([dh[:, 2:], -dh[:, :2]], 1), dx)


@_loss_only("maml")
def maml(p: Tree, xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
    def task(xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
        g = jax.grad(lambda p: L.mse(L.mlp(p, "", 3, xs), ys))(p)
        return L.mse(L.mlp(jax.tree.map(lambda a, b: a - 0.01 * b, p, g), "", 3, xq), yq)

    return jax.vmap(task)(xs, ys, xq, yq).mean()


# ----- reinforcement and graphs -----


@_form("ppo", loss=lambda p, *batch: _ppo(p, *batch))
def ppo(p: Tree, state: Any, train: bool) -> Any:
    return L.mlp(p, "0:", 3, state, jnp.tanh)


def _ppo(p: Tree, state: Any, action: Any, old: Any, advantage: Any, returns: Any) -> Any:
    logp = jax.nn.log_softmax(ppo(p, state, True))
    entropy = -(jnp.exp(logp) * logp).sum(-1).mean()
    ratio = jnp.exp(jnp.take_along_axis(logp, action, 1)[:, 0] - old)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy = jnp.maximum(-advantage * ratio, -advantage * jnp.clip(ratio, 0.8, 1.2)).mean()
    value = 0.5 * ((L.mlp(p, "1:", 3, state, jnp.tanh)[:, 0] - returns) ** 2).mean()
    return policy - 0.01 * entropy + 0.5 * value


@_form("reinforce", loss=lambda p, *batch: _reinforce(p, *batch))
def reinforce(p: Tree, state: Any, train: bool) -> Any:
    return L.mlp(p, "", 2, state)


def _reinforce(p: Tree, state: Any, action: Any, returns: Any) -> Any:
    logp = jax.nn.log_softmax(reinforce(p, state, True))
    returns = (returns - returns.mean()) / (returns.std() + 1e-6)
    return -(jnp.take_along_axis(logp, action, 1)[:, 0] * returns).sum()


@_form("gcn", lambda y, t: L.cross_entropy(y[: len(t)], t))
def gcn(p: Tree, x: Any, edges: Any, weight: Any, train: bool) -> Any:
    for i in (1, 2):
        h = L.linear(p, f"gc{i}.linear", x)
        x = jnp.zeros_like(h).at[edges[1]].add(h[edges[0]] * weight[:, None])
        x = relu(x) if i == 1 else x
    return x


@_form("gcn-karate", L.cross_entropy)
def gcn_karate(p: Tree, x: Any, adjacency: Any, train: bool) -> Any:
    a, b = ({k[2:]: v for k, v in p.items() if k.startswith(f"{i}:")} for i in (0, 1))
    return adjacency @ (relu(adjacency @ (x @ a["weight"].T + a["bias"])) @ b["weight"].T + b["bias"])


@_form("graphsage", L.cross_entropy)
def graphsage(p: Tree, x: Any, edges: Any, degree: Any, train: bool) -> Any:
    for i in range(3):
        mean = jnp.zeros_like(x).at[edges[1]].add(x[edges[0]]) / degree[:, None]
        x = L.linear(p, f"lin_l.{i}", mean) + L.linear(p, f"lin_r.{i}", x)
        x = relu(x) if i < 2 else x
    return x

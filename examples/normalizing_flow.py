"""A normalizing flow: the exact likelihood of two moons and of handwritten digits, and new ones drawn from it.

RealNVP: couplings that are inverted in closed form. For the moons the true density is known (two half circles with normal noise,
integrated), so the figure is the nats that the flow loses to it on new points. Digits: bits a pixel beside the best normal distribution.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, heat_map, lines, tiles
from anynet.methods import RealNVP, dequantize, logit_transform
from anynet.nn import functional as F

NOISE = 0.1


def moons(n, generator):
    """n points of two interleaving half circles."""
    t = an.random.uniform((n,), high=an.pi, generator=generator)
    lower = an.astype(an.random.bernoulli(0.5, (n,), generator=generator), an.float32)
    x = (1 - 2 * lower) * an.cos(t) + lower
    y = (1 - 2 * lower) * an.sin(t) + 0.5 * lower
    return an.stack([x, y], axis=1) + an.random.normal((n, 2), std=NOISE, generator=generator)


def true_log_density(points):
    """log p of two moons: the mean over 400 places on each half circle of the normal density around it."""
    t = (an.arange(400, dtype=an.float32) + 0.5) * (an.pi / 400)
    upper = an.stack([an.cos(t), an.sin(t)], axis=1)
    places = an.concat([upper, an.asarray([1.0, 0.5]) - upper])
    d = an.sum((points[:, None, :] - places[None, :, :]) ** 2, axis=2)
    return F.logsumexp(-d / (2 * NOISE**2), dim=1) - an.log(an.asarray(800 * 2 * an.pi * NOISE**2))


def train(run, name, flow, batch, steps, lr):
    optimizer = an.optim.Adam(flow.parameters(), lr=lr)
    schedule, curve = an.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps), []
    for i in range(1, steps + 1):
        optimizer.zero_grad()
        (loss := flow(batch())).backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
        run.progress(i, steps, f"{name}: {curve[-1]:.3f} nats", times=4)
    return curve


def digit_rows(run, images, generator):
    """Dequantised, without bounds, and the nats that the change adds."""
    x = run.array(images.reshape(len(images), 64), dtype=an.float32)
    return logit_transform(dequantize(x, 17, generator=generator))


@example(
    topic="generation",
    figures=[
        Figure("nats lost to the true density of the moons", at_most=0.08, form=".3f"),
        Figure("bits a pixel that the flow saves", at_least=0.1, form=".3f"),
    ],
)
def main(run):
    draws = an.random.Generator(run.seed + 1)
    flow = RealNVP(2, layers=8, hidden=(64, 64))
    curve = train(run, "moons", flow, lambda: moons(256, draws), run.pick(3000, 10), 2e-3)
    new = moons(run.pick(5000, 200), an.random.Generator(99))
    with an.no_grad():
        run.figure("nats lost to the true density of the moons", an.mean(true_log_density(new) - flow.log_prob(new)))  # fmt: skip
        grid = an.asarray([[-1.5 + 4 * c / 39, 1.25 - 2 * r / 19] for r in range(20) for c in range(40)])
        density = an.reshape(an.exp(flow.log_prob(grid)), (20, 40))
    (images, _), (test, _) = run.data("digits", "train"), run.data("digits", "test")
    shift = an.log(an.asarray(17.0)) * 64  # of the density to that of whole numbers
    x, _ = digit_rows(run, images, draws)
    rows, log_det = digit_rows(run, test, an.random.Generator(98))
    centred = x - (centre := an.mean(x, axis=0))
    root = an.linalg.cholesky(an.matmul(centred.mT, centred) / x.shape[0] + 1e-3 * an.eye(64))
    white = an.linalg.solve(root, (rows - centre).mT).mT
    volume = an.sum(an.log(an.linalg.diagonal(root))) + 32 * an.log(an.asarray(2 * an.pi))
    log_p = -0.5 * an.sum(white**2, axis=1) - volume
    normal = (-an.mean(log_p + log_det) + shift).item() / 64 / 0.693147
    flow_of_digits = RealNVP(64, layers=8, hidden=(128,))

    def batch():
        chosen = an.random.integers(0, len(images), (128,), generator=draws).tolist()
        return digit_rows(run, images[chosen], draws)[0]

    train(run, "digits", flow_of_digits, batch, run.pick(1500, 5), 1e-3)
    with an.no_grad():
        bits = (-an.mean(flow_of_digits.log_prob(rows) + log_det) + shift).item() / 64 / 0.693147
        drawn = F.sigmoid(flow_of_digits.sample(32, temperature=0.8, generator=draws))
    run.say(f"digits: {bits:.3f} bits a pixel, the normal distribution {normal:.3f}")
    run.figure("bits a pixel that the flow saves", normal - bits)
    run.picture(
        lines(
            [Series("nats", list(range(1, len(curve) + 1)), curve)], title="moons: negative log-likelihood"
        ),
        heat_map((density / an.max(density)).tolist(), [""] * 20, [""] * 40, title="density of the moons"),
        tiles(an.reshape(drawn, (32, 8, 8)).tolist(), title="digits drawn from the flow", columns=16),
    )


if __name__ == "__main__":
    main()

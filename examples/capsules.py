"""Capsules on digits: what each dimension of a capsule draws, what is reconstructed, and whether routing helps (it hardly does here).

Sabour, Frosst and Hinton (2017), smaller: 32 kernels, primary capsules of 8 and class capsules of 16 dimensions.
"""

import anynet as an
from anynet.gallery import Figure, bars, example, tiles
from anynet.methods import CapsNet


def load(run, name, size, count):
    (a, labels), (b, truth) = run.data(name, "train", scaled=True), run.data(name, "test", scaled=True)
    x, test_x = (an.reshape(an.asarray(p, device=run.device), (-1, 1, size, size)) for p in (a[:count], b))
    y, test_y = (an.asarray(t, device=run.device) for t in (labels[:count], truth))
    return x, y, test_x, test_y


def accuracy(net, x, y):
    with an.no_grad():
        parts = [net(x[i : min(i + 500, len(y))]) for i in range(0, len(y), 500)]
    found = an.argmax(an.concat(parts), axis=1)
    return 100 * an.mean(an.astype(found == y, an.float32)).item()


def train(run, net, x, y, epochs, rate):
    optimizer, n = an.optim.Adam(net.parameters(), lr=rate), x.shape[0]
    steps, step = epochs * (n // 64), 0
    schedule = an.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        order = an.random.permutation(n)
        for start in range(0, n - 63, 64):
            chosen = order[start : start + 64]
            optimizer.zero_grad()
            loss = net.loss(an.take(x, chosen, axis=0), an.take(y, chosen, axis=0))
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            run.progress(step, steps, f"loss {loss.item():.4f}", times=4)


def perturbed(net, capsule, dimension):
    """What the decoder draws when one dimension of the class capsule changes."""
    pictures = []
    for change in (-0.25, -0.15, -0.05, 0.05, 0.15, 0.25):
        moved = an.asarray(capsule.data, copy=True)
        moved[:, :, dimension] += change
        pictures.append(net.reconstruct(moved, an.asarray([3], device=capsule.device))[0, 0])
    return pictures


@example(
    topic="research",
    figures=[
        Figure("digits, test accuracy", at_least=96.0, unit="%", quick=70.0, source="96.7 and 97.6"),
        Figure("digits, one round of routing", unit="%", source="96.7 and 97.1: no proof that routing helps"),
        Figure("MNIST, 10,000 images, 2 epochs", at_least=95.5, unit="%", source="96.2"),
    ],
)
def main(run):
    x, y, test_x, test_y = load(run, "digits", 8, run.pick(1442, 640))
    reached = {}
    for rounds in (3, 1):
        net = CapsNet(
            size=8, kernel_size=3, channels=32, primary_channels=8, primary_kernel=3, primary_stride=2, iterations=rounds,
            decoder=(128, 256), reconstruction=0.005,
        )  # fmt: skip
        train(run, net, x, y, run.pick(12, 3), run.pick(3e-3, 1e-2))
        reached[f"digits, {rounds} rounds"] = accuracy(net, test_x, test_y)
    last = float("nan")  # the quick form leaves MNIST out
    shown, shown_y, draw = test_x, test_y, net
    if not run.quick:
        x, y, shown, shown_y = load(run, "mnist", 28, 10_000)
        draw = CapsNet(channels=32, primary_channels=8, decoder=(256, 512))
        train(run, draw, x, y, 2, 2e-3)
        last = reached["MNIST"] = accuracy(draw, shown, shown_y)
    with an.no_grad():
        capsules = draw.capsules(shown[:300])
        pictures = draw.reconstruct(capsules[:8], shown_y[:8])
        three = next(i for i, label in enumerate(shown_y[:300].tolist()) if label == 3)
        moved = [p for d in (0, 5, 10) for p in perturbed(draw, capsules[three : three + 1], d)]
    run.picture(
        bars(list(reached), list(reached.values()), title="test accuracy in %", limits=(80.0, 100.0)),
        tiles([p[0] for p in shown[:8]], title="test images"),
        tiles([p[0] for p in pictures], title="drawn from the capsule of their class"),
        tiles(moved, title="a 3 as dimensions 0, 5 and 10 of its capsule change", columns=6, cell=70.0),
    )
    run.figure("digits, test accuracy", reached["digits, 3 rounds"])
    run.figure("digits, one round of routing", reached["digits, 1 rounds"])
    run.figure("MNIST, 10,000 images, 2 epochs", last)


if __name__ == "__main__":
    main()

"""Digits learned from sums alone: 3,000 pairs of MNIST pictures, of each only the sum is known.

P(sum) = Σ_a P(a) P(sum − a): the probability of a sum counts all pairs of digits that make it, exactly, and its gradient teaches the
classifier which digit is which. No picture has a label of its own. DeepProbLog's published figures: 92.2 % of sums with 3,000 pairs.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, tiles
from anynet.methods import addition_loss


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def digits(net, x):
    """The digit that is seen in each picture."""
    with an.no_grad():
        size = min(500, x.shape[0])
        parts = [net(x[i : i + size, ...]) for i in range(0, x.shape[0] - size + 1, size)]
        return an.argmax(an.concat(parts), axis=1)


@example(
    topic="symbolic learning",
    figures=[
        Figure(
            "accuracy of sums",
            at_least=92,
            unit="%",
            form=".1f",
            source="93.8 in PyTorch; DeepProbLog, published: 92.2",
        ),
        Figure(
            "accuracy of digits",
            at_least=96,
            unit="%",
            form=".1f",
            source="96.9 and 96.8 in PyTorch, 10 epochs",
        ),
    ],
)
def main(run):
    images, labels = run.data("mnist", "train", scaled=True)
    test, test_labels = run.data("mnist", "test", scaled=True)
    pairs, epochs = run.pick(3000, 200), run.pick(10, 1)
    x = run.array(images[: 2 * pairs].reshape(pairs, 2, 1, 28, 28))
    sums = run.array(labels[: 2 * pairs].reshape(pairs, 2).sum(axis=1))
    test = run.array(test[: run.pick(10_000, 500), None])
    truth = run.array(test_labels[: test.shape[0]])
    net = network()
    optimizer = an.optim.Adam(net.parameters(), lr=2e-3)
    loader = an.data.DataLoader(an.data.TensorDataset(x, sums), batch_size=32, shuffle=True, seed=run.seed)
    curve = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        for both, total_of_both in loader:
            optimizer.zero_grad()
            loss = addition_loss([net(both[:, 0, ...]), net(both[:, 1, ...])], total_of_both)
            loss.backward()
            optimizer.step()
            total += loss.item()
        right = an.mean(
            an.astype(
                digits(net, x[: min(pairs, 1000), 0, ...]) == run.array(labels[: 2 * min(pairs, 1000) : 2]),
                an.float32,
            )
        )
        curve.append((epoch, total / len(loader), 100 * right.item()))
        run.progress(
            epoch, epochs, f"loss {curve[-1][1]:.3f}, digits of the training pairs {curve[-1][2]:.1f} %"
        )
    seen = digits(net, test)
    half = test.shape[0] // 2
    sums_right = seen[:half] + seen[half : 2 * half] == truth[:half] + truth[half : 2 * half]
    shown = [x[i, k, 0, :, :].tolist() for i in range(8) for k in range(2)]
    names = [name for i in range(8) for name in ("", f"sum {int(sums[i])}")]
    run.picture(
        lines(
            [Series("digits, %", [e for e, _, _ in curve], [r for _, _, r in curve])],
            title="digits of the training pairs",
            whole=True,
        ),
        tiles(shown, names, title="what is given: two pictures and their sum"),
    )
    run.figure("accuracy of sums", 100 * an.mean(an.astype(sums_right, an.float32)).item())
    run.figure("accuracy of digits", 100 * an.mean(an.astype(seen == truth, an.float32)).item())


if __name__ == "__main__":
    main()

"""A logic tensor network: digits learned from one sentence of fuzzy logic about sums, without a label of any picture.

For all pairs (x, y) of sum n: there are digits a, b with a + b = n such that digit(x, a) and digit(y, b). "And" is the product, "there is"
the power mean of the pairs that the sum allows, its p raised from 1 to 6 while the network learns, "for all" the mean error with p = 2;
what is trained is the truth of the sentence. Against the closed form of the same sums: mnist_addition. Published (Badreddine et al. 2022):
93.5 % of sums with 3,000 pairs. The epoch is chosen by 1,000 other pairs, of which the sums alone are used.
"""

import copy

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, tiles
from anynet.methods import FuzzyLogic
from anynet.nn import functional as F


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ELU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 100), nn.ELU(), nn.Linear(100, 10),
    )  # fmt: skip


def truth(logic, net, pairs, sums, p):
    """How true the sentence is for a batch of pairs (n, 2, 1, 28, 28)."""
    n = pairs.shape[0]
    digit = F.softmax(net(an.reshape(pairs, (2 * n, 1, 28, 28))), dim=1)
    x, y = digit[0 : 2 * n : 2, :], digit[1 : 2 * n : 2, :]  # digit(x, a), digit(y, b)
    both = an.reshape(logic.conjunction(x[:, :, None], y[:, None, :]), (n, 100))
    a = an.arange(10, device=sums.device)
    total = an.reshape(a[:, None] + a[None, :], (1, 100))
    return logic.forall(logic.exists(both, axis=1, p=p, where=total == sums[:, None]), p=2)


def digits(net, x):
    """The digit that is seen in each picture of pairs (n, 2, 1, 28, 28)."""
    n = x.shape[0]
    with an.no_grad():
        parts = [net(an.reshape(x[i : min(i + 100, n), ...], (-1, 1, 28, 28))) for i in range(0, n, 100)]
        return an.argmax(an.concat(parts), axis=1)


def sums_right(seen, sums):
    return 100 * an.mean(an.astype(seen[0::2] + seen[1::2] == sums, an.float32)).item()


@example(
    topic="symbolic learning",
    figures=[
        Figure("accuracy of digits", at_least=95, unit="%", form=".1f", source="96.9 with exact counting"),
        Figure("accuracy of sums", at_least=92, unit="%", form=".1f", source="published: 93.5 with 3,000 pairs"),
    ],
)  # fmt: skip
def main(run):
    images, labels = run.data("mnist", "train", scaled=True)
    test, test_labels = run.data("mnist", "test", scaled=True)
    pairs, epochs, held = run.pick(3000, 160), run.pick(20, 2), run.pick(1000, 40)

    def given(images, labels, first, n):
        """n pairs and their sums."""
        part = slice(first, first + 2 * n)
        return run.array(images[part].reshape(n, 2, 1, 28, 28)), run.array(labels[part].reshape(n, 2).sum(1))

    x, sums = given(images, labels, 0, pairs)
    other, other_sums = given(images, labels, 50_000, held)
    test_pairs, test_sums = given(test, test_labels, 0, run.pick(5000, 100))
    net, logic = network(), FuzzyLogic("product")
    optimizer = an.optim.Adam(net.parameters(), lr=1e-3)
    loader = an.data.DataLoader(an.data.TensorDataset(x, sums), batch_size=32, shuffle=True, seed=run.seed)
    curve, best = [], (-1.0, None)
    for epoch in range(1, epochs + 1):
        p, total = (1, 2, 4, 6, 6)[5 * (epoch - 1) // epochs], 0.0
        for batch, batch_sums in loader:
            optimizer.zero_grad()
            (loss := 1.0 - truth(logic, net, batch, batch_sums, p)).backward()
            optimizer.step()
            total += 1.0 - loss.item()
        right = sums_right(digits(net, other), other_sums)
        curve.append((epoch, total / len(loader), right / 100))
        if right > best[0]:
            best = right, copy.deepcopy(net)
        run.progress(
            epoch, epochs, f"p = {p}: truth {curve[-1][1]:.3f}, sums held out {right:.1f} %", times=20
        )
    seen = digits(best[1], test_pairs)
    epoch, truths, rights = zip(*curve, strict=True)
    told = [Series("truth of the sentence", epoch, truths), Series("sums held out", epoch, rights)]
    shown = [test_pairs[i, k, 0, :, :].tolist() for i in range(8) for k in range(2)]
    run.picture(
        lines(told, title="what is trained, and what is right", whole=True),
        tiles(shown, list(map(str, seen[:16].tolist())), title="test pictures and the digits seen"),
    )
    right = an.astype(seen == run.array(test_labels[: seen.shape[0]]), an.float32)
    run.figure("accuracy of digits", 100 * an.mean(right).item())
    run.figure("accuracy of sums", sums_right(seen, test_sums))


if __name__ == "__main__":
    main()

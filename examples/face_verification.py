"""Siamese network on faces: the same person or not, for persons that were never seen.

ORL faces: 30 persons to learn from, the other 10 (100 pictures, 4,950 pairs) to be verified. One network for both pictures, trained by
the hardest triplets of each batch; beside it the contrastive loss, and the distance of the pixels. The threshold is the best on the 30
persons' pairs.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example, tiles
from anynet.methods import batch_hard_triplet_loss, contrastive_loss, pairwise_distances, verification
from anynet.nn import functional as F


class Embedding(nn.Module):
    def __init__(self):
        layers, channels = [], 1
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]  # fmt: skip
            channels = width
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 7 * 5, 64))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def pairs(distances, labels):
    """Each pair once: its distance, and whether it is one person."""
    rows = distances.tolist()
    each = [(i, j) for i in range(len(labels)) for j in range(i)]
    return an.asarray([rows[i][j] for i, j in each]), an.asarray([labels[i] == labels[j] for i, j in each])


def scores(embed, known, known_labels, new, new_labels):
    with an.no_grad():
        threshold = verification(*pairs(pairwise_distances(embed(known)), known_labels)).threshold
        return verification(*pairs(pairwise_distances(embed(new)), new_labels), threshold)


def train(run, loss_name, x, steps):
    an.random.manual_seed(run.seed)
    net, draws = Embedding(), an.random.Generator(run.seed + 1)
    optimizer = an.optim.Adam(net.parameters(), lr=1e-3)
    change = an.data.transforms.Compose([
        an.data.transforms.RandomHorizontalFlip(), an.data.transforms.RandomAffine(5, (0.05, 0.05), (0.95, 1.05)),
    ])  # fmt: skip
    labels = an.repeat(an.arange(8), 4)
    for i in range(1, steps + 1):
        persons = an.random.permutation(30, generator=draws)[:8].tolist()
        chosen = [10 * p + k for p in persons for k in an.random.permutation(10, generator=draws)[:4].tolist()]  # fmt: skip
        z = net(change(an.take(x, an.asarray(chosen), axis=0), generator=draws))
        optimizer.zero_grad()
        if loss_name == "triplet":
            loss = batch_hard_triplet_loss(z, labels, 0.2)
        else:  # neighbours in the batch are one person, the pictures 4 further on another
            one, two = an.concat([z, z]), an.concat([an.roll(z, 1, axis=0), an.roll(z, 4, axis=0)])
            same = an.concat([labels == an.roll(labels, 1), labels == an.roll(labels, 4)])
            loss = contrastive_loss(one, two, same)
        loss.backward()
        optimizer.step()
        run.progress(i, steps, f"{loss_name} loss {loss.item():.4f}", times=4)
    return net.eval()


@example(
    topic="few-shot learning",
    figures=[
        Figure("area under ROC, pixels", form=".3f"),
        Figure("area under ROC, contrastive loss", at_least=0.93, form=".3f"),
        Figure("area under ROC, triplet loss", at_least=0.95, form=".3f"),
        Figure("equal error rate, triplet loss", at_most=12, unit="%", form=".1f"),
    ],
)
def main(run):
    images, labels = run.data("faces", "all", scaled=True)
    x, labels = F.adaptive_avg_pool2d(run.array(images[:, None]), (56, 46)), labels.tolist()
    known, new = x[:300, ...], x[300:, ...]
    found = {"pixels": scores(nn.Flatten(), known, labels[:300], new, labels[300:])}
    for name in ("contrastive", "triplet"):
        net = train(run, name, known, run.pick(300, 3))
        found[f"{name} loss"] = scores(net, known, labels[:300], new, labels[300:])
    for name, score in found.items():
        run.say(
            f"{name}: accuracy {score.accuracy:.3f} at {score.threshold:.2f}, equal error rate {score.equal_error_rate:.3f}"
        )
        run.figure(f"area under ROC, {name}", score.auc)
    run.figure("equal error rate, triplet loss", 100 * found["triplet loss"].equal_error_rate)
    shown = [new[10 * i + k, 0, :, :].tolist() for i in range(4) for k in range(4)]
    chart = bars(list(found), [v.auc for v in found.values()], title="area under the ROC curve", limits=(0.5, 1.0))  # fmt: skip
    run.picture(chart, tiles(shown, title="four of the ten persons that the network has never seen"))


if __name__ == "__main__":
    main()

"""Four ways to learn from digits without labels, and what 100 labels make of each: SimCLR, BYOL, VICReg, masked autoencoder.

10,000 MNIST pictures, 10 epochs; then logistic regression on the frozen features of 100 of them, the mean of ten draws, scored on 5,000.
"""

import anynet as an
from anynet import methods, nn
from anynet.gallery import Figure, bars, example, tiles

SOURCE = "in PyTorch: SimCLR 87.3, VICReg 80.6, masked autoencoder 74.2, pixels 71.7; BYOL not run"
ONE = "one draw of 100 labels at first, with which pixels have 62.1 and this {}; before, "
POOLING = f"{ONE}stride 2, no pooling, the probe's penalty 0.1; on training pictures held out 0.03: 88.2 for SimCLR, not 88.0"
MASKED = f"{ONE.format(68.6)}a transformer: 36.9, a perceptron: 67.5; ten draws: 73.8, held out 79.9, with one cycle of rates 83.0"
TWO = {"SimCLR": methods.nt_xent_loss, "VICReg": methods.vicreg_loss}


def encoder():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(),
    )  # fmt: skip


class MaskedAutoencoder(nn.Module):
    def __init__(self):
        self.encoder = encoder()
        self.decoder = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 784), nn.Unflatten(1, (49, 16)))  # fmt: skip

    def forward(self, x):
        """The squared error of the hidden three quarters, the pictures with these drawn, and with these black."""
        patches, whole = methods.patchify(x, 4), lambda p: methods.unpatchify(p, 4, 1, 28, 28)
        hidden = methods.random_masking(x.shape[0], 49, 0.75, device=x.device)[1][:, :, None]
        seen = whole(an.where(hidden, 0.0, patches))
        drawn = an.where(hidden, self.decoder(self.encoder(seen)), patches)
        return an.mean((drawn - patches) ** 2) * 49 / 37, whole(drawn), seen


def train(run, way, x, epochs):
    an.random.manual_seed(run.seed)
    net = MaskedAutoencoder() if way == "masked autoencoder" else encoder()
    whole = nn.Sequential(net, methods.projector(128)) if way in TWO else net
    if way == "BYOL":
        whole = methods.BYOL(net, 128, hidden=256, out=64, decay=0.98)
    optimizer = an.optim.Adam([p for p in whole.parameters() if p.requires_grad], lr=1e-3)
    views = methods.TwoViews(an.data.transforms.RandomAffine(20, (0.15, 0.15), (0.75, 1.25), 10))
    loss_of = {"masked autoencoder": lambda x: net(x)[0], "BYOL": lambda x: whole(*views(x))}
    loss_of |= {name: lambda x, f=f: f(*map(whole, views(x))) for name, f in TWO.items()}
    loader = an.data.DataLoader(an.data.TensorDataset(x), batch_size=128, shuffle=True, drop_last=True, seed=run.seed)  # fmt: skip
    cycle = way == "masked autoencoder" and an.optim.OneCycleLR(optimizer, 6e-3, epochs * len(loader) + 1)
    for epoch in range(1, epochs + 1):
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = loss_of[way](batch)
            loss.backward()
            optimizer.step()
            if way == "BYOL":
                whole.update_target()
            elif cycle:
                cycle.step()
        run.progress(epoch, epochs, f"{way}: loss {loss.item():.3f}", times=3)
    return net.eval()


def features(net, x):
    with an.no_grad():
        return an.concat([net(x[i : min(i + 500, x.shape[0]), ...]) for i in range(0, x.shape[0], 500)])


@example(
    topic="self-supervised learning",
    figures=[
        *(Figure(way, unit="%", form=".1f") for way in ("pixels", "random encoder")),
        Figure("masked autoencoder", 74, None, "%", ".1f", source=SOURCE, changed=MASKED),
        Figure("BYOL", 75, None, "%", ".1f", changed=f"{ONE.format(80.0)}stride 2 and decay 0.98: 66.5"),
        Figure("VICReg", 78, None, "%", ".1f", source=SOURCE, changed=POOLING.format(86.7)),
        Figure("SimCLR", 85, None, "%", ".1f", source=SOURCE, changed=POOLING.format(84.9)),
    ],
)
def main(run):
    (images, labels), (test, test_labels) = (run.data("mnist", p, scaled=True) for p in ("train", "test"))
    x, test = run.array(images[: run.pick(10_000, 256), None]), run.array(test[: run.pick(5000, 100), None])
    y, truth, rates = run.array(labels[: len(x)]), run.array(test_labels[: len(test)]), {}
    draws = list(methods.EpisodeSampler(y.tolist(), 10, run.pick(9, 2), 1, run.pick(10, 2), run.seed))
    for way in ("pixels", "random encoder", "masked autoencoder", "BYOL", "VICReg", "SimCLR"):
        net = nn.Flatten() if way == "pixels" else train(run, way, x, run.pick(10, 1) * (way != "random encoder"))  # fmt: skip
        if way == "masked autoencoder":
            (_, drawn, hidden), net = net(test[:8, ...]), net.encoder
        seen, new = features(net, x), features(net, test)
        pairs = [[an.take(a, run.array(d), axis=0) for a in (seen, y)] for d in draws]
        found = [100 * methods.linear_probe(*pair, new, truth, 0.03).accuracy for pair in pairs]
        run.figure(way, rates.setdefault(way, sum(found) / len(found)))
    shown = [part[i, 0, :, :].tolist() for part in (test, hidden, drawn) for i in range(8)]
    run.picture(
        bars(list(rates), list(rates.values()), title="accuracy from 100 labels, %"),
        tiles(shown, title="pictures, what the masked autoencoder saw of them, what it drew"),
    )


if __name__ == "__main__":
    main()

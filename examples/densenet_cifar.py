"""DenseNet on 4,000 pictures of CIFAR-10: each layer sees what all layers before it have made.

A small DenseNet-BC (three blocks of 4 layers, growth 12: 0.1 million parameters) on the 400 pictures a class of the JPEG subset, 15
epochs with crops and flips; scored once on the 1,000 test pictures. The published network of 25.6 million has seen 50,000 pictures for
300 epochs: 96.54 %.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, lines, tiles


@example(
    topic="images",
    figures=[
        Figure("parameters", form=".0f"),
        Figure(
            "test accuracy",
            at_least=55,
            unit="%",
            form=".1f",
            source="published, all of CIFAR-10: 96.54",
        ),
    ],
)
def main(run):
    part = run.pick(slice(None), slice(None, None, 100))
    (images, labels), (test, truth) = (
        run.data("cifar10-jpeg-subset", split, scaled=True) for split in ("train", "test")
    )
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)

    def prepared(x):
        return (
            an.permute_dims(run.array(x[part]), (0, 3, 1, 2)) - an.asarray(mean)[:, None, None]
        ) / an.asarray(std)[:, None, None]

    x, y = prepared(images), run.array(labels[part])
    net = an.models.DenseNet(12, (4, 4, 4), 24, num_classes=10, stem="cifar")
    run.figure("parameters", sum(p.size for p in net.parameters()))
    T = an.data.transforms
    change = T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(32, padding=4)])
    epochs, batch = run.pick(15, 1), run.pick(64, 10)
    loader = an.data.DataLoader(
        an.data.TensorDataset(x, y), batch_size=batch, shuffle=True, drop_last=True, seed=run.seed
    )
    optimizer = an.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = an.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * len(loader))
    losses = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        for a, b in loader:
            optimizer.zero_grad()
            loss = an.nn.functional.cross_entropy(net(change(a)), b)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / len(loader))
        run.progress(epoch, epochs, f"loss {losses[-1]:.3f}")
    net.eval()
    size = run.pick(200, 10)
    x, truth = prepared(test), truth[part]
    with an.no_grad():
        seen = [
            int(c)
            for i in range(0, len(truth), size)
            for c in an.argmax(net(x[i : i + size, ...]), axis=1).tolist()
        ]
    right = sum(a == b for a, b in zip(seen, truth.tolist(), strict=True))
    names = an.data.catalog.SOURCES["cifar10"].classes
    shown = [test[part][i].transpose(2, 0, 1) for i in range(min(16, len(truth)))]
    run.picture(
        lines([Series("loss", list(range(1, epochs + 1)), losses)], title="training loss", whole=True),
        tiles(
            shown,
            [str(names[seen[i]]) for i in range(min(16, len(truth)))],
            title="test pictures and what the network says",
        ),
    )
    run.figure("test accuracy", 100 * right / len(truth))


if __name__ == "__main__":
    main()

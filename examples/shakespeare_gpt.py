"""A small GPT on tiny Shakespeare, letter by letter, in the configuration that nanoGPT gives for a CPU.

4 layers of 4 heads, 128 wide, 64 letters, batches of 12, AdamW 1e-3 with a warm-up of 100 steps and a cosine over
2,000. nanoGPT's README says 1.88 nats on the last tenth of the text.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, text_block


@example(
    topic="language",
    figures=[
        Figure(
            "validation loss in nats", at_most=1.95, form=".3f", source="1.88 of nanoGPT; 1.896", quick=4.3
        )
    ],
)
def main(run):
    text = run.data("tinyshakespeare")
    alphabet = sorted(set(text))
    codes, cut, steps = {c: i for i, c in enumerate(alphabet)}, len(text) * 9 // 10, run.pick(2000, 8)
    learnt, held = an.asarray([codes[c] for c in text[:cut]]), an.asarray([codes[c] for c in text[cut:]])
    net = an.models.GPT(
        len(alphabet), context=64, width=run.pick(128, 32), layers=run.pick(4, 2), heads=4, bias=False
    )
    optimizer = an.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    warm, after = (
        an.optim.LinearLR(optimizer, 0.01, total_iters=100),
        an.optim.CosineAnnealingLR(optimizer, steps, 1e-4),
    )
    schedule = an.optim.SequentialLR(optimizer, [warm, after], [run.pick(100, 2)])
    window, criterion = an.reshape(an.arange(65), (1, 65)), nn.TokenCrossEntropyLoss()

    def drawn(tokens, count):
        rows = an.random.integers(0, tokens.shape[0] - 65, (count, 1)) + window
        return an.reshape(an.take(tokens, an.reshape(rows, (-1,))), (count, 65))

    def validation():
        n = (held.shape[0] - 1) // 64 * 64 if not run.quick else 2048
        x, y = (an.reshape(held[i : i + n], (-1, 64)) for i in (0, 1))
        return an.evaluate(net, (x, y), loss=criterion, batch_size=128)["loss"]

    at, losses, found = [], [], []
    for step in range(1, steps + 1):
        tokens = drawn(learnt, 12)
        optimizer.zero_grad()
        loss = criterion(net(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % (steps // 8) == 0:
            at.append(step)
            losses.append(loss.item())
            found.append(validation() if step % (steps // 2) == 0 else float("nan"))
            run.say(f"step {step:4}: training {losses[-1]:.3f}, validation {found[-1]:.3f} nats")
    letters = list(an.generate(net, [codes["\n"]], length=run.pick(500, 5), context=64, seed=run.seed))
    written = "".join(alphabet[int(t)] for t in letters)
    run.say(written)
    run.picture(
        lines(
            [Series("training", at, losses), Series("validation", at, found)], title="loss in nats by step"
        ),
        text_block(written, title="what it writes"),
    )
    run.figure("validation loss in nats", found[-1])


if __name__ == "__main__":
    main()

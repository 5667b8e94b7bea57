"""Music: a recurrent network reads 1,000 folk tunes in ABC notation, letter by letter, then writes one, as a MIDI and a WAV file.

The Nottingham tunes; every tenth is held out. The tune that is written is not chosen: it is the first with 20 notes
or more.
"""

import itertools
from collections import Counter
from math import log

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, scatter, text_block
from anynet.gallery.music import abc_notes, midi, wav


def body(tune):
    """Metre, unit, key and the notes of a tune, without its names and remarks."""
    kept = (line.strip() for line in tune.split("\n") if line.strip() and line[0] not in "XTSNPQRBCFHIZ%W")
    return "\n".join(kept) + "\n\n"


@example(
    topic="sequences",
    figures=[
        Figure("notes of the tune that it writes", at_least=20, form=".0f"),
        Figure("pairs counted, nats", form=".3f"),
        Figure("loss on tunes held out, nats", at_most=1.2, form=".3f", quick=4.5),
    ],
)
def main(run):
    tunes = [body(t) for t in run.data("nottingham").split("\nX:")]
    tunes = [t for t in tunes if "K:" in t]
    learnt = "".join(t for i, t in enumerate(tunes) if i % 10)
    held = "".join(tunes[::10])
    alphabet = sorted(set(learnt + held))
    codes = {c: i for i, c in enumerate(alphabet)}
    counted, rows = Counter(itertools.pairwise(learnt)), Counter(learnt)
    pairs = -sum(log((counted[p] + 1) / (rows[p[0]] + len(alphabet))) for p in itertools.pairwise(held)) / (
        len(held) - 1
    )
    tokens, test = (an.asarray([codes[c] for c in text]) for text in (learnt, held[: run.pick(None, 4000)]))
    net, criterion = (
        an.models.LSTMLanguageModel(len(alphabet), width=run.pick(192, 32), layers=1),
        nn.TokenCrossEntropyLoss(),
    )
    steps, window = run.pick(2000, 8), an.reshape(an.arange(97), (1, 97))
    optimizer = an.optim.Adam(net.parameters(), lr=4e-3)
    schedule = an.optim.CosineAnnealingLR(optimizer, steps)
    losses = []
    for step in range(1, steps + 1):
        places = an.random.integers(0, tokens.shape[0] - 97, (32, 1)) + window
        batch = an.reshape(an.take(tokens, an.reshape(places, (-1,))), (32, 97))
        optimizer.zero_grad()
        loss = criterion(net(batch[:, :-1]), batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        run.progress(step, steps, f"loss {losses[-1]:.3f}")
    n = (test.shape[0] - 1) // 96 * 96
    with an.no_grad():
        scored = criterion(net(an.reshape(test[:n], (-1, 96))), an.reshape(test[1 : n + 1], (-1, 96))).item()
    tune, notes = "", []
    for seed in range(run.pick(10, 1)):
        start = "M:4/4\nL:1/4\nK:G\n"
        said = an.generate(
            net, [codes[c] for c in start], length=run.pick(400, 10), temperature=0.7, seed=seed
        )
        tune = start + "".join(alphabet[t] for t in said).partition("\n\n")[0]
        notes = abc_notes(tune)
        if len(notes) >= 20:
            break
    run.write("music.abc", f"X:1\nT:Written by a network\n{tune}\n")
    run.write("music.mid", midi(notes, tempo=140, program=21))
    run.write("music.wav", wav(notes[: run.pick(200, 4)], tempo=140))
    begins = [float(sum(length for _, length in notes[:i])) for i in range(len(notes))]
    sung = [(b, p) for b, (p, _) in zip(begins, notes, strict=True) if p is not None] or [(0.0, 60)]
    run.picture(
        lines([Series("training", range(1, steps + 1), losses)], title="loss in nats by step"),
        text_block(tune, title="the tune"),
        scatter(
            [b for b, _ in sung],
            [float(p) for _, p in sung],
            title="its notes",
            x_label="quarters",
            y_label="pitch (MIDI)",
        ),
    )
    run.figure("notes of the tune that it writes", len(notes))
    run.figure("pairs counted, nats", pairs)
    run.figure("loss on tunes held out, nats", scored)


if __name__ == "__main__":
    main()

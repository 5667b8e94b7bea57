"""From German to English with the library's transformer, on the sentences of translation_gru.

Multi30k, pairs of at most 12 words; two layers, four heads, width 192 (Vaswani et al. 2017). To reach: BLEU 25.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example, history_lines, text_block
from anynet.gallery.sentences import BEGIN, END, PAD, Words, short_pairs

LONGEST = 12


@example(topic="language", figures=[Figure("BLEU", at_least=24.0, form=".1f", source="25.0 of the GRU")])
def main(run):
    train, test = (
        short_pairs(data["de"], data["en"], LONGEST)[:limit]
        for data, limit in (
            (run.data("multi30k", "train"), run.pick(None, 600)),
            (run.data("multi30k", "test"), run.pick(None, 20)),
        )
    )
    german, english = Words(a for a, _ in train), Words(b for _, b in train)
    x, y = german.rows((a for a, _ in train), LONGEST + 1), english.rows((b for _, b in train), LONGEST + 1)
    began = an.concat([an.full((y.shape[0], 1), BEGIN, dtype=y.dtype), y[:, :-1]], axis=1)
    run.say(
        f"{len(train)} pairs, {len(german)} German and {len(english)} English words; {len(test)} test sentences"
    )
    width, layers = run.pick((192, 2), (16, 1))
    net = an.models.EncoderDecoder(
        len(german), len(english), width=width, layers=layers, heads=4, dropout=0.2, padding=PAD
    )
    history = an.fit(
        net, ((x, began), y), loss=nn.TokenCrossEntropyLoss(ignore_index=PAD), lr=1e-3, batch_size=64, clip_norm=1.0,
        epochs=run.pick(10, 1), scheduler="onecycle", device=run.device, seed=run.seed,
    )  # fmt: skip
    source, wanted = german.rows((a for a, _ in test), LONGEST + 1), [" ".join(b) for _, b in test]
    said = []
    for i in range(0, len(test), 100):
        rows = net.generate(
            source[i : min(i + 100, len(test))],
            begin=BEGIN,
            end=END,
            length=LONGEST + 2,
            beams=run.pick(4, 1),
        )
        said += [english.text(row) for row in rows]
        run.say(f"{len(said)} of {len(test)} sentences translated")
    scores = {
        "repeating the German": an.metrics.bleu([" ".join(a) for a, _ in test], wanted),
        "transformer": an.metrics.bleu(said, wanted),
    }
    told = [
        f"{' '.join(a)}\n  said:   {s}\n  wanted: {' '.join(b)}"
        for (a, b), s in zip(test[:6], said, strict=False)
    ]
    run.say("\n".join(told))
    run.picture(
        bars(list(scores), [float(s) for s in scores.values()], title="BLEU"),
        history_lines(history, "loss", title="loss by epoch"),
        text_block("\n".join(told), title="test sentences"),
    )
    run.figure("BLEU", scores["transformer"])


if __name__ == "__main__":
    main()

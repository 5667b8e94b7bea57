"""GPT-2 (Radford et al. 2019): trained small on a text, or with the weights that Hugging Face distributes.

python examples/gpt2.py                                     learns tiny Shakespeare, character by character
python examples/gpt2.py book.txt                            learns another text
python examples/gpt2.py model.safetensors tokenizer.json    writes with the weights of `gpt2` (extra `text`)
"""

import anynet as an
from anynet.data.text import TextPreprocessing
from anynet.data.tokens import Tokenizer
from anynet.gallery import Figure, Series, example, lines, text_block


def pretrained(run, weights, tokenizer, prompt="The sea was"):
    """Writes on with GPT-2 as it was published."""
    net = an.models.GPT(vocabulary=50257, context=1024, width=768, layers=12, heads=12)
    run.say(an.models.load_weights(net, weights))
    words = TextPreprocessing(Tokenizer.from_file(tokenizer), context=1024)
    return prompt + "".join(an.generate(net, prompt, length=100, top_k=40, preprocessing=words))


@example(
    topic="language",
    figures=[
        Figure("loss on text held out, nats", at_most=2.4819, source="pairs counted, exact: 2.4819"),
        Figure(
            "loss of the last epoch in nats",
            at_most=2.2,
            quick=4.4,
            source="a character at random: 4.17",
            changed="3 epochs at first: 2.374; the bound had been a guess",
        ),
    ],
    arguments="a text, or weights and a tokenizer of GPT-2",
)
def main(run):
    if len(run.arguments) == 2:
        run.picture(text_block(pretrained(run, *run.arguments), title="what it writes"))
        run.figure("loss on text held out, nats", None)
        run.figure("loss of the last epoch in nats", None)
        return
    book = run.arguments[0] if run.arguments else an.data.catalog.path_of("tinyshakespeare")
    text = an.data.Text(book, context=64, windows=run.pick(None, 96), valid=run.pick(0.1, 0.002))
    run.say(text.describe())
    net = text.network("gpt", width=64, layers=2)
    history = an.fit(net, text, **{**text.defaults(), "epochs": run.pick(10, 1)})
    losses = [row["loss"] for row in history]
    written = "".join(an.generate(net, "\n", length=run.pick(400, 20), preprocessing=text))
    run.say(written)
    curve = lines([Series("loss", range(1, len(losses) + 1), losses)], title="loss by epoch", whole=True)
    run.picture(curve, text_block(written, title="what it writes"))
    run.figure("loss on text held out, nats", history[-1]["val_loss"])
    run.figure("loss of the last epoch in nats", losses[-1])


if __name__ == "__main__":
    main()

"""Sentences as rows of numbers, for the examples that translate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from anynet.ops.creation import asarray
from anynet.tensor import Tensor

__all__ = ["BEGIN", "END", "PAD", "UNKNOWN", "Words", "short_pairs", "split_words"]

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
"""The tokens that are no words; the words begin at 4."""


def split_words(sentence: str) -> list[str]:
    """Words and signs, in small letters.

    >>> split_words("Zwei Männer, im Freien.")
    ['zwei', 'männer', ',', 'im', 'freien', '.']
    """
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def short_pairs(
    sources: Iterable[str], targets: Iterable[str], longest: int
) -> list[tuple[list[str], list[str]]]:
    """The pairs of sentences that have at most `longest` words each, as lists of words."""
    pairs = ((split_words(a), split_words(b)) for a, b in zip(sources, targets, strict=True))
    return [pair for pair in pairs if max(map(len, pair)) <= longest]


class Words:
    """A vocabulary: the words that stand `least` times or more in the sentences, in the order of the alphabet.

    >>> words = Words([["a", "man"], ["a", "dog"]], least=1)
    >>> words.rows([["a", "cat"]], 4).tolist(), words.text([4, 6, 2, 0])
    ([[4, 3, 2, 0]], 'a man')
    """

    def __init__(self, sentences: Iterable[Sequence[str]], least: int = 2) -> None:
        counted = Counter(word for sentence in sentences for word in sentence)
        self.words = ["", "<s>", "</s>", "<unk>", *sorted(w for w, n in counted.items() if n >= least)]
        self.codes = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def rows(self, sentences: Iterable[Sequence[str]], length: int) -> Tensor:
        """Tokens (n, length) that end with END and are filled up with PAD; sentences have less than `length` words."""
        rows = [[self.codes.get(word, UNKNOWN) for word in sentence] for sentence in sentences]
        return asarray([[*row, END, *[PAD] * (length - len(row) - 1)] for row in rows])

    def text(self, row: Sequence[int]) -> str:
        """The words of a row up to its END."""
        return " ".join(self.words[t] for t in (row[: row.index(END)] if END in row else row))

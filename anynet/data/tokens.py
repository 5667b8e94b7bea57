"""Tokens: the numbers that stand for a text: characters, bytes, or byte-pairs (with the extra `text`)."""

from __future__ import annotations

import codecs
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anynet._optional import optional
from anynet.data.idx import DataError
from anynet_backends import Array, backend_of, host, registry

__all__ = ["Bytes", "Characters", "Tokenizer", "Tokens", "tokens_from_json"]

_CHUNK = 1 << 22
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Tokens(ABC):
    """A vocabulary: texts as numbers and back."""

    kind: str
    vocabulary: Sequence[str]
    """The text of each token."""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary)

    @abstractmethod
    def array(self, text: str) -> Array:
        """The tokens of a text on the host, in the smallest type of integers that holds them; ValueError for what it cannot say."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens."""

    @abstractmethod
    def stream(self) -> Stream:
        """Decoding token by token."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""

    def _checked(self, ids: Iterable[int]) -> list[int]:
        found = [int(i) for i in ids]
        for i in found:
            if not 0 <= i < self.size:
                msg = f"decode: tokens must be in [0, {self.size}), got {i}"
                raise ValueError(msg)
        return found


class Stream:
    """Text as its tokens come: a piece is given out when it is certain."""

    def __call__(self, token: int) -> str:
        """What this token adds."""
        raise NotImplementedError

    def end(self) -> str:
        """What is left over where the tokens end."""
        return ""


class _Pieces(Stream):
    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = pieces

    def __call__(self, token: int) -> str:
        return self.pieces[token]


def _smallest(size: int) -> str:
    return "uint8" if size <= 1 << 8 else "uint16" if size <= 1 << 16 else "int32"


class Characters(Tokens):
    """One token a character (a code point). With `unknown`, token 0 stands for all others and is read as �; without, they are refused."""

    kind = "char"

    def __init__(self, characters: Iterable[str], unknown: bool = False) -> None:
        kept = sorted(set(characters) - {UNKNOWN} if unknown else set(characters))
        if any(len(c) != 1 for c in kept) or not (kept or unknown):
            msg = "characters must be single characters, at least one"
            raise ValueError(msg)
        self.unknown = unknown
        self.vocabulary = [UNKNOWN, *kept] if unknown else kept
        points = [ord(c) for c in kept]
        xp = registry.resolve("cpu")[0]
        table = xp.full((max(points, default=0) + 2,), 0 if unknown else -1, dtype=xp.int32)
        table[registry.asarray(points, "int64")] = registry.asarray(
            range(self.size - len(kept), self.size), "int32"
        )
        self._table = table  # by code point; the last entry is for all that are greater

    def array(self, text: str) -> Array:
        xp, kind = backend_of(self._table), _smallest(self.size)
        last = self._table.shape[0] - 1
        parts = []
        for at in range(0, max(len(text), 1), _CHUNK):
            data = text[at : at + _CHUNK].encode("utf-32-le", "surrogatepass")
            points = xp.astype(host.from_bytes(data, "uint32", (len(data) // 4,)), xp.int64)
            found = xp.take(self._table, xp.minimum(points, last), axis=0)
            if not self.unknown and bool(xp.any(found < 0)):
                self._refuse(text)
            parts.append(xp.astype(found, getattr(xp, kind)))
        return xp.concat(parts) if len(parts) > 1 else parts[0]

    def _refuse(self, text: str) -> None:
        missing = sorted(set(text) - set(self.vocabulary))
        shown = ", ".join(repr(c) for c in missing[:10]) + (", …" if len(missing) > 10 else "")
        msg = (
            f"the vocabulary of {self.size} characters has no {shown}; leave such characters out, or make it with unknown=True, which "
            "has a token for all others"
        )
        raise ValueError(msg)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join([self.vocabulary[i] for i in self._checked(ids)])

    def stream(self) -> Stream:
        return _Pieces(self.vocabulary)

    def to_json(self) -> dict[str, Any]:
        first = 1 if self.unknown else 0
        return {"tokens": self.kind, "characters": "".join(self.vocabulary[first:]), "unknown": self.unknown}


class Bytes(Tokens):
    """One token a byte of the UTF-8 form: 256 of them, and any text can be said. What is no UTF-8 is read as �."""

    kind = "byte"

    def __init__(self) -> None:
        self.vocabulary = [chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in range(256)]

    def array(self, text: str) -> Array:
        return self.of_bytes(text.encode("utf-8", "surrogatepass"))

    def of_bytes(self, data: bytes) -> Array:
        """The tokens of bytes as they are."""
        return host.from_bytes(data, "uint8", (len(data),))

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(self._checked(ids)).decode("utf-8", "replace")

    def stream(self) -> Stream:
        return _ByteStream()

    def to_json(self) -> dict[str, Any]:
        return {"tokens": self.kind}


class _ByteStream(Stream):
    """A character is given out when its last byte has come."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: int) -> str:
        return self.decoder.decode(bytes([token]))

    def end(self) -> str:
        return self.decoder.decode(b"", True)


class Tokenizer(Tokens):
    """A tokenizer of Hugging Face's library `tokenizers`, by its JSON text."""

    kind = "tokenizer"

    def __init__(self, text: str) -> None:
        library = optional("tokenizers", "text", "byte-pair tokens")
        try:
            self.inner = library.Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 the library raises Exception itself
            msg = f"this is no tokenizer.json that the library tokenizers reads: {error}"
            raise DataError(msg) from None
        self.text = text
        size = self.inner.get_vocab_size(with_added_tokens=True)
        self.vocabulary = [self.inner.id_to_token(i) or "" for i in range(size)]

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """That of a tokenizer.json."""
        try:
            return cls(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            msg = f"{path}: no UTF-8 at byte {error.start}, so no tokenizer.json"
            raise DataError(msg) from None
        except DataError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from None

    @classmethod
    def trained(cls, text: str, size: int) -> Tokenizer:
        """Byte-pairs of a text (Sennrich et al. 2016): of bytes, so that any text can be said; at most `size` tokens."""
        library = optional("tokenizers", "text", "byte-pair tokens")
        inner = library.Tokenizer(library.models.BPE())
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        inner.train_from_iterator(_lines(text), trainer)
        return cls(inner.to_str())

    def array(self, text: str) -> Array:
        ids = self.inner.encode(text, add_special_tokens=False).ids
        return registry.asarray(ids, _smallest(self.size))

    def decode(self, ids: Iterable[int]) -> str:
        return str(self.inner.decode(self._checked(ids), skip_special_tokens=False))

    def stream(self) -> Stream:
        return _TokenizerStream(self)

    def to_json(self) -> dict[str, Any]:
        return {"tokens": self.kind, "tokenizer": self.text}


class _TokenizerStream(Stream):
    """What the tokens so far say that those before have not: a token may be part of a character, and a space may depend on the next."""

    def __init__(self, tokens: Tokenizer) -> None:
        self.tokens = tokens
        self.ids: list[int] = []
        self.begin, self.read = (
            0,
            0,
        )  # tokens from `begin` on are decoded again; up to `read` they have been given out

    def __call__(self, token: int) -> str:
        self.ids.append(token)
        before, now = self._texts()
        if now.endswith(UNKNOWN):
            return ""
        self.begin, self.read = self.read, len(self.ids)
        return now[len(before) :]

    def end(self) -> str:
        before, now = self._texts()
        return now[len(before) :]

    def _texts(self) -> tuple[str, str]:
        """What has been given out of the tokens from `begin` on, and all that they say."""
        decode = self.tokens.decode
        return decode(self.ids[self.begin : self.read]), decode(self.ids[self.begin :])


def _lines(text: str) -> Iterable[str]:
    at = 0
    while at < len(text):
        end = text.find("\n", at + 4096) + 1 or len(text)
        yield text[at:end]
        at = end


def tokens_from_json(data: Mapping[str, Any]) -> Tokens:
    """The inverse of `to_json`; ValueError names what is wrong."""
    kind = data.get("tokens")
    if kind == "byte":
        return Bytes()
    if kind == "char" and isinstance(data.get("characters"), str):
        return Characters(data["characters"], bool(data.get("unknown", False)))
    if kind == "tokenizer" and isinstance(data.get("tokenizer"), str):
        return Tokenizer(data["tokenizer"])
    msg = f"a vocabulary must have tokens of char, byte or tokenizer with what belongs to them, got {kind!r:.40}"
    raise ValueError(msg)

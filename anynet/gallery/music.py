"""Music in ABC notation: read into notes, written as MIDI and WAV files.

The part of ABC that folk tunes use: K: with its signature, L: and M:, notes with accidentals, octaves and lengths, broken rhythm
(``>``, ``<``), triplets ``(3``, rests, chords of which the first note is taken; what else
stands there is passed over (ABC 2.1, abcnotation.com).
"""

from __future__ import annotations

import io
import math
import re
import struct
import wave
from array import array
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["abc_notes", "midi", "wav"]

Note = tuple[int | None, Fraction]
"""A MIDI pitch (None is a rest) and how many quarters it lasts."""

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
_MODES = {
    "": 0,
    "maj": 0,
    "ion": 0,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "dor": -2,
    "phr": -4,
    "lyd": 1,
    "mix": -1,
    "loc": -5,
}
_TOKEN = re.compile(
    r'(?P<skip>"[^"]*"|\[[A-Z]:[^\]]*\]|![^!]*!|\{[^}]*\})|(?P<bar>:*\|[|:\]]*|::)|\((?P<tuplet>[2-9])'
    r"|(?P<open>\[)|(?P<close>\])(?P<chord>\d*/*\d*)|(?P<broken>[<>])"
    r"|(?P<accidental>\^{1,2}|_{1,2}|=)?(?P<letter>[A-Ga-gz])(?P<octave>[',]*)(?P<length>\d*/*\d*)"
)


def _signature(key: str) -> dict[str, int]:
    """What the key does to each letter."""
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", key.strip())
    if found is None:
        return {}
    count = _SHARPS[found[1]] + {"#": 7, "b": -7, "": 0}[found[2]]
    mode = found[3].lower()
    count += _MODES.get(mode if mode in _MODES else mode[:3], 0)
    letters = "FCGDAEB" if count > 0 else "BEADGCF"
    return {letter: 1 if count > 0 else -1 for letter in letters[: abs(count)]}


def _length(text: str) -> Fraction:
    """A length as ABC writes it: "", "2", "3/2", "/", "//", "/4"."""
    above, slashes, below = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()  # type: ignore[union-attr]
    under = int(below or 0) or 2 ** len(slashes)
    return Fraction(int(above or 1), under)


def _pitch(token: re.Match[str], signature: dict[str, int], bar: dict[str, int]) -> int | None:
    letter = token["letter"]
    if letter == "z":
        return None
    place = letter + token["octave"]
    if token["accidental"]:
        bar[place] = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}[token["accidental"]]
    octave = 12 * (letter.islower() + token["octave"].count("'") - token["octave"].count(","))
    return 60 + _STEPS[letter.upper()] + octave + bar.get(place, signature.get(letter.upper(), 0))


def abc_notes(text: str) -> list[Note]:
    """The notes of a tune, each with its length in quarters; repeats are played once.

    >>> [(pitch, float(length)) for pitch, length in abc_notes("L:1/8\\nK:G\\nF2 ^c z/ | [Ge]4")]
    [(66, 1.0), (73, 0.5), (None, 0.25), (67, 2.0)]
    """
    unit, signature, music = Fraction(1, 8), _signature("C"), []
    for line in text.split("\n"):
        line = line.partition("%")[0]
        field = re.match(r"([A-Za-z]):(?!\|)\s*(.*)", line)
        if field is None:
            music.append(line)
        elif field[1] == "K":
            signature = _signature(field[2])
        elif field[1] == "L" and re.fullmatch(r"\d+/[1-9]\d*\s*", field[2]):
            unit = Fraction(field[2].strip())
    notes: list[Note] = []
    bar: dict[str, int] = {}
    triplet, pending, chord = (
        0,
        Fraction(1),
        0,
    )  # notes left in a tuplet; what a broken rhythm does to the next note; notes seen of a chord
    share = Fraction(1)
    for token in _TOKEN.finditer("\n".join(music)):
        if token["bar"]:
            bar.clear()
        elif token["tuplet"]:
            triplet = int(token["tuplet"])
            share = Fraction(3 if triplet in (2, 4, 8) else 2, triplet)
        elif token["open"]:
            chord = 1
        elif token["close"]:
            if chord > 1 and notes:
                notes[-1] = (notes[-1][0], notes[-1][1] * _length(token["chord"]))
            chord = 0
        elif token["broken"] and notes:
            more, less = (Fraction(3, 2), Fraction(1, 2))[:: 1 if token["broken"] == ">" else -1]
            notes[-1], pending = (notes[-1][0], notes[-1][1] * more), less
        elif token["letter"]:
            pitch = _pitch(token, signature, bar)
            if chord:
                chord += 1
                if chord > 2:
                    continue
            length = _length(token["length"]) * unit * 4 * pending * (share if triplet else 1)
            notes.append((pitch, length))
            triplet, pending = max(0, triplet - 1), Fraction(1)
    return [(pitch, length) for pitch, length in notes if length > 0]


def _number(value: int) -> bytes:
    """A whole number as MIDI writes times: seven bits a byte, all but the last with the highest bit."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.insert(0, (value & 0x7F) | 0x80)
    return bytes(out)


def midi(notes: Sequence[Note], *, tempo: float = 120.0, program: int = 0) -> bytes:
    """A MIDI file (format 0) of the notes; `tempo` in quarters a minute, `program` is the instrument (0 a piano, 21 an accordion).

    >>> midi([(60, Fraction(1))])[:4]
    b'MThd'
    """
    ticks, wait = 480, 0
    track = b"\0\xff\x51\x03" + round(60e6 / tempo).to_bytes(3, "big") + bytes([0, 0xC0, program])
    for pitch, length in notes:
        lasts = round(length * ticks)
        if pitch is None or not 0 <= pitch < 128:
            wait += lasts
            continue
        track += _number(wait) + bytes([0x90, pitch, 80]) + _number(lasts) + bytes([0x80, pitch, 0])
        wait = 0
    track += _number(wait) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, ticks) + b"MTrk" + struct.pack(">I", len(track)) + track


def wav(notes: Sequence[Note], *, tempo: float = 120.0, rate: int = 22050) -> bytes:
    """A WAV file (one channel of 16 bits) of the notes: three partials that fade.

    >>> wav([(69, Fraction(1))])[:4]
    b'RIFF'
    """
    samples = array("h")
    for pitch, length in notes:
        count = round(float(length) * 60 / tempo * rate)
        if pitch is None:
            samples.extend([0] * count)
            continue
        turn = 2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) / rate
        for i in range(count):
            swell = min(1.0, i / 200, (count - i) / 400) * math.exp(-2.5 * i / rate)
            tone = math.sin(turn * i) + 0.4 * math.sin(2 * turn * i) + 0.15 * math.sin(3 * turn * i)
            samples.append(round(12000 * swell * tone))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return out.getvalue()

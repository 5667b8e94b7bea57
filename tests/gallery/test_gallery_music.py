"""ABC read into notes, and what is written as MIDI and WAV."""

from __future__ import annotations

import io
import itertools
import struct
import wave
from fractions import Fraction as Q

from anynet.gallery.music import abc_notes, midi, wav


def test_keys_accidentals_and_bars() -> None:
    # G has F sharp; an accidental holds to the end of the bar; = takes it back
    assert [p for p, _ in abc_notes("K:G\nF ^c c =F | c F")] == [66, 73, 73, 65, 72, 66]
    assert [p for p, _ in abc_notes("K:Bb\nB e' B,")] == [70, 87, 58]
    assert [p for p, _ in abc_notes("K:Am\nF c")] == [65, 72]
    assert [p for p, _ in abc_notes("K:Ddor\nB f")] == [71, 77]
    assert [p for p, _ in abc_notes("K:F#m\nF G c")] == [66, 68, 73]


def test_lengths() -> None:
    assert [n for _, n in abc_notes("L:1/4\nK:C\nC C2 C/ C3/2 C/4 z")] == [1, 2, Q(1, 2), Q(3, 2), Q(1, 4), 1]
    assert [n for _, n in abc_notes("L:1/8\nK:C\nC>D E<F")] == [Q(3, 4), Q(1, 4), Q(1, 4), Q(3, 4)]
    assert [n for _, n in abc_notes("L:1/8\nK:C\n(3CDE F")] == [Q(1, 3)] * 3 + [Q(1, 2)]
    assert abc_notes('L:1/4\nK:C\n"Am"[CEG]2 [1 D :|') == [(60, Q(2)), (62, Q(1))]


def test_a_tune_of_the_nottingham_collection() -> None:
    tune = 'T:A and A\'s Waltz\nM:3/4\nL:1/4\nK:G\ne|:"G"d2B|"D"A3/2B/2c|"G"B2G|"D"A2e|\n"F"B=F|'
    assert abc_notes(tune) == [
        (76, Q(1)), (74, Q(2)), (71, Q(1)), (69, Q(3, 2)), (71, Q(1, 2)), (72, Q(1)), (71, Q(2)), (67, Q(1)), (69, Q(2)), (76, Q(1)),
        (71, Q(1)), (65, Q(1)),
    ]  # fmt: skip


def test_any_text_is_read_without_an_error() -> None:
    assert abc_notes("K:H\n]][ (( >< 3/ ^ |: \nL:0/0\n%%\n") == []
    assert abc_notes("C0 D") == [(62, Q(1, 2))]


def test_midi() -> None:
    data = midi([(60, Q(1)), (None, Q(2)), (64, Q(1, 2))], tempo=60)
    assert data[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    assert struct.unpack(">I", data[18:22])[0] == len(data) - 22
    events = data[22:]
    assert events.startswith(b"\0\xff\x51\x03" + (1_000_000).to_bytes(3, "big"))
    assert b"\x90\x3c\x50\x83\x60\x80\x3c\x00" in events  # 480 ticks: 0x83 0x60
    assert b"\x87\x40\x90\x40\x50\x81\x70\x80\x40\x00" in events  # after 960, for 240
    assert events.endswith(b"\0\xff\x2f\0")


def test_wav() -> None:
    with wave.open(io.BytesIO(wav([(69, Q(1)), (None, Q(1))], tempo=120, rate=8000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            1,
            2,
            8000,
            8000,
        )
        samples = struct.unpack("<8000h", file.readframes(8000))
    assert set(samples[4000:]) == {0}
    ups = sum(a < 0 <= b for a, b in itertools.pairwise(samples[:4000]))
    assert abs(ups - 220) <= 2  # 440 Hz for half a second

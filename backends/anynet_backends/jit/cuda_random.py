"""Random words in CUDA C++: those of `numpy.random.Philox`."""

from __future__ import annotations

from typing import Final

__all__ = ["PHILOX", "WORD"]

PHILOX: Final = r"""
// Philox4x64-10, the words of numpy.random.Philox: block b (from 0) has the counter (b + 1, step, stream, 0).
__device__ inline void philox(
    const unsigned long long b, unsigned long long k0, unsigned long long k1, const unsigned long long step,
    const unsigned long long stream, unsigned long long* word)
{
    unsigned long long c0 = b + 1, c1 = step, c2 = stream, c3 = 0;
    #pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long h0 = __umul64hi(0xD2E7470EE14C6C93ULL, c0);
        const unsigned long long l0 = 0xD2E7470EE14C6C93ULL * c0;
        const unsigned long long h1 = __umul64hi(0xCA5A826395121157ULL, c2);
        const unsigned long long l1 = 0xCA5A826395121157ULL * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B97F4A7C15ULL;
        k1 += 0xBB67AE8584CAA73BULL;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}
"""
"""A block of four words of 64 bits."""

WORD: Final = (
    PHILOX
    + r"""
__device__ inline unsigned int random_word(
    const unsigned long long i, const unsigned long long k0, const unsigned long long k1, const unsigned long long step,
    const unsigned long long stream)
{
    unsigned long long word[4];
    philox(i / 8, k0, k1, step, stream, word);
    const int j = i % 8;
    const unsigned long long both = j < 4 ? (j < 2 ? word[0] : word[1]) : (j < 6 ? word[2] : word[3]);
    return (unsigned int)(both >> (32 * (j & 1)));
}
"""
)
"""One word of 32 bits of `Backend.random_bits`."""

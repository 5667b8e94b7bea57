"""How each function of the array API standard is differentiated; a test keeps the table complete.

Four answers are possible:

- ``"rule"``: its gradient, to any order.
- ``"piecewise constant"``: zero, which is the derivative wherever it exists (rounding, comparisons, positions).
- ``"raises"``: a `GradientError`, because there is no derivative to give.
- ``"no array"``: it takes no array of floats whose derivative could be asked (creation, dtypes, inspection).

A function with a rule may still raise for some arguments; the table says for which.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from anynet._hints import nearest

__all__ = ["TABLE", "Entry", "gradient_of"]


class Entry(NamedTuple):
    """The gradient of a function of the standard, whether complex arrays are differentiable too, and what to know."""

    gradient: str
    complex: bool = False
    note: str = ""


def _names(text: str) -> list[str]:
    return text.split()


_COMPLEX_RULE: Final = _names("""
from_dlpack abs acos acosh add asin asinh atan atanh conj cos cosh divide exp expm1 imag log log10 log1p log2 multiply negative
positive pow real reciprocal sign sin sinh sqrt square subtract tan tanh where matmul matrix_transpose tensordot
vecdot take take_along_axis broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape
roll squeeze stack tile unstack cumulative_prod cumulative_sum diff mean prod sum meshgrid tril triu astype asarray
linalg.cholesky linalg.cross linalg.det linalg.diagonal linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh
linalg.inv linalg.matmul linalg.matrix_norm linalg.matrix_power linalg.matrix_transpose linalg.outer linalg.pinv
linalg.qr linalg.slogdet linalg.solve linalg.svd linalg.svdvals linalg.tensordot linalg.trace linalg.vecdot
linalg.vector_norm fft.fft fft.ifft fft.fftn fft.ifftn fft.irfft fft.irfftn fft.hfft fft.fftshift fft.ifftshift
""")

_REAL_RULE: Final = _names("""
atan2 clip copysign hypot logaddexp maximum minimum remainder max min std var sort unique_all unique_counts
unique_inverse unique_values fft.rfft fft.rfftn fft.ihfft
""")

_CONSTANT: Final = _names("""
all any argmax argmin argsort bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
ceil count_nonzero equal floor floor_divide greater greater_equal isfinite isin isinf isnan less less_equal
logical_and logical_not logical_or logical_xor nonzero not_equal round searchsorted signbit trunc linalg.matrix_rank
""")

_NO_ARRAY: Final = _names("""
arange broadcast_shapes can_cast empty empty_like eye finfo full full_like iinfo isdtype linspace ones
ones_like result_type zeros zeros_like fft.fftfreq fft.rfftfreq
""")

_NOTES: Final = {
    "abs": "0 at 0, where it has a corner",
    "astype": "between floating and complex dtypes; to an integer or bool it is cut",
    "from_dlpack": "of a Tensor; `Tensor.__dlpack__` warns that it shares the data alone",
    "maximum": "the gradient is shared where both are equal; so for minimum, max and min",
    "minimum": "shared where both are equal",
    "max": "shared by equal elements",
    "min": "shared by equal elements",
    "nextafter": "the next representable number is not a differentiable function",
    "sign": "0 for real numbers; of a complex x it is x / |x|",
    "clip": "passes within the bounds, the bounds included",
    "linalg.cholesky": "over Hermitian matrices",
    "linalg.eigh": "over Hermitian matrices; eigenvectors only of simple eigenvalues, up to phase (else nan)",
    "linalg.eigvalsh": "over Hermitian matrices",
    "linalg.eig": "simple eigenvalues, up to the phase of the vectors (else nan)",
    "linalg.eigvals": "simple eigenvalues",
    "linalg.svd": "simple singular values, up to phase (else nan); full_matrices=True of rectangular matrices raises",
    "linalg.qr": "full rank; mode='complete' of matrices with more rows than columns raises",
    "linalg.pinv": "where the rank does not change",
    "linalg.det": "of singular matrices too",
    "linalg.matrix_norm": "0 at 0",
    "linalg.vector_norm": "0 at 0; ord=0 counts, and is piecewise constant",
}

TABLE: Final[dict[str, Entry]] = {
    **{n: Entry("rule", True, _NOTES.get(n, "")) for n in _COMPLEX_RULE},
    **{n: Entry("rule", False, _NOTES.get(n, "")) for n in _REAL_RULE},
    **{n: Entry("piecewise constant", False, _NOTES.get(n, "")) for n in _CONSTANT},
    **{n: Entry("no array", False, _NOTES.get(n, "")) for n in _NO_ARRAY},
    "nextafter": Entry("raises", False, _NOTES["nextafter"]),
}
"""By name; the extensions' as ``linalg.inv`` and ``fft.fft``."""


def gradient_of(name: str) -> Entry:
    """The entry of a function of the standard, by its name.

    >>> gradient_of("linalg.det").gradient
    'rule'
    """
    if name not in TABLE:
        msg = f"the standard has no function {name!r}{nearest(name, TABLE, everything=False)}"
        raise KeyError(msg)
    return TABLE[name]

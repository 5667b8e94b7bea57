// The headers with which CuPy begins the kernels that it writes itself.
#pragma once

#include "kernel.h"

#include <cupy/complex.cuh>

#include <cupy/carray.cuh>

#include <cupy/atomics.cuh>

#include <cupy/math_constants.h>

// What CuPy's module `cub` calls: reductions and scans of a whole array or of rows, and what `thrust` calls: sorting.
// Each is recorded as one launch; the real ones make one or more.
#include "emulator.h"
#include "lapack.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace emulator {

enum Operation { SUM, MIN, MAX, ARGMIN, ARGMAX, CUMSUM, CUMPROD, PROD };  // CUPY_CUB_…

struct Half {
    __half bits;
    Half(float x = 0) : bits(__float2half(x)) {}
    operator float() const { return __half2float(bits); }
};

template <class F>
void with_type(int type, F f) {  // CuPy's numbers of the types
    switch (type) {
        case 0: return f(int8_t{});
        case 1: return f(uint8_t{});
        case 2: return f(int16_t{});
        case 3: return f(uint16_t{});
        case 4: return f(int32_t{});
        case 5: return f(uint32_t{});
        case 6: return f(int64_t{});
        case 7: return f(uint64_t{});
        case 8: return f(Half{});
        case 9: return f(float{});
        case 10: return f(double{});
        case 11: return f(complex64{});
        case 12: return f(complex128{});
        case 13: return f(bool{});
        default: throw std::runtime_error("CUDA emulator: a type that CuPy does not number");
    }
}

template <class T>
bool is_nan(const T& x) {
    if constexpr (std::is_integral_v<T>)
        return false;
    else if constexpr (std::is_same_v<T, complex64> || std::is_same_v<T, complex128>)
        return std::isnan(x.real()) || std::isnan(x.imag());
    else
        return std::isnan(static_cast<double>(x));
}

// The order of numpy.sort: NaN last; complex numbers by real part, then imaginary part.
template <class T>
bool before(const T& a, const T& b) {
    if constexpr (std::is_same_v<T, complex64> || std::is_same_v<T, complex128>) {
        if (is_nan(a) || is_nan(b)) {
            const int ka = 2 * std::isnan(a.real()) + std::isnan(a.imag()), kb = 2 * std::isnan(b.real()) + std::isnan(b.imag());
            if (ka != kb) return ka < kb;
            if (!std::isnan(a.real())) return a.real() < b.real();
            return !std::isnan(a.imag()) && a.imag() < b.imag();
        }
        return a.real() < b.real() || (a.real() == b.real() && a.imag() < b.imag());
    } else {
        return is_nan(a) ? false : is_nan(b) ? true : a < b;
    }
}

template <class T>
T combine(int operation, const T& a, const T& b) {
    switch (operation) {
        case SUM:
        case CUMSUM: return static_cast<T>(a + b);
        case PROD:
        case CUMPROD: return static_cast<T>(a * b);
        case MIN: return is_nan(a) ? a : is_nan(b) ? b : before(b, a) ? b : a;
        default: return is_nan(a) ? a : is_nan(b) ? b : before(a, b) ? b : a;
    }
}

template <class T>
T tree(int operation, const T* x, size_t n) {  // halves of halves, as on the device
    if (n == 0) return T(operation == PROD ? 1 : 0);
    if (n == 1) return x[0];
    return combine<T>(operation, tree(operation, x, n / 2), tree(operation, x + n / 2, n - n / 2));
}

template <class T>
int first_best(int operation, const T* x, int n) {
    int best = 0;
    for (int i = 1; i < n && !is_nan(x[best]); ++i)
        if (is_nan(x[i]) || (operation == ARGMIN ? before(x[i], x[best]) : before(x[best], x[i]))) best = i;
    return best;
}

template <class T, class F>
void sort_rows(const std::vector<ptrdiff_t>& shape, F sort_row) {
    size_t total = 1;
    for (auto n : shape) total *= n;
    const size_t width = shape.back();
    for (size_t row = 0; width && row < total / width; ++row) sort_row(row * width, width);
}

}  // namespace emulator

using namespace emulator;

void cub_device_reduce(void*, size_t&, void* x, void* y, int n, cudaStream_t stream, int operation, int type) {
    submit(stream, "launch", "cub::DeviceReduce", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            if (operation == ARGMIN || operation == ARGMAX)
                *static_cast<int*>(y) = first_best(operation, static_cast<const T*>(x), n);
            else
                *static_cast<T*>(y) = tree(operation, static_cast<const T*>(x), n);
        });
    });
}

void cub_device_segmented_reduce(void*, size_t&, void* x, void* y, int rows, int width, cudaStream_t stream, int operation, int type) {
    submit(stream, "launch", "cub::DeviceSegmentedReduce", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            for (int i = 0; i < rows; ++i)
                static_cast<T*>(y)[i] = tree(operation, static_cast<const T*>(x) + size_t(i) * width, width);
        });
    });
}

void cub_device_scan(void*, size_t&, void* x, void* y, int n, cudaStream_t stream, int operation, int type) {
    submit(stream, "launch", "cub::DeviceScan", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            auto *from = static_cast<const T*>(x);
            auto *to = static_cast<T*>(y);
            for (int i = 0; i < n; ++i) to[i] = i ? combine<T>(operation, to[i - 1], from[i]) : from[i];
        });
    });
}

void cub_device_histogram_range(void*, size_t&, void*, void*, int, void*, size_t, cudaStream_t, int) {
    unsupported("cub::DeviceHistogram::HistogramRange");
    throw std::runtime_error("CUDA emulator: histograms are not emulated");
}
void cub_device_histogram_even(void*, size_t&, void*, void*, int, int, int, size_t, cudaStream_t, int) {
    unsupported("cub::DeviceHistogram::HistogramEven");
    throw std::runtime_error("CUDA emulator: histograms are not emulated");
}

size_t cub_device_reduce_get_workspace_size(void*, void*, int, cudaStream_t, int, int) { return 1024; }
size_t cub_device_segmented_reduce_get_workspace_size(void*, void*, int, int, cudaStream_t, int, int) { return 1024; }
size_t cub_device_scan_get_workspace_size(void*, void*, int, cudaStream_t, int, int) { return 1024; }
size_t cub_device_histogram_range_get_workspace_size(void*, void*, int, void*, size_t, cudaStream_t, int) { return 1024; }
size_t cub_device_histogram_even_get_workspace_size(void*, void*, int, int, int, size_t, cudaStream_t, int) { return 1024; }

void thrust_sort(int type, void* data, size_t*, const std::vector<ptrdiff_t>& shape, intptr_t stream, void*) {
    submit(reinterpret_cast<void*>(stream), "launch", "thrust::sort", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            auto* x = static_cast<T*>(data);
            sort_rows<T>(shape, [=](size_t at, size_t n) { std::stable_sort(x + at, x + at + n, before<T>); });
        });
    });
}

void thrust_argsort(int type, size_t* out, void* data, void*, const std::vector<ptrdiff_t>& shape, intptr_t stream, void*) {
    submit(reinterpret_cast<void*>(stream), "launch", "thrust::argsort", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            auto* x = static_cast<const T*>(data);
            sort_rows<T>(shape, [=](size_t at, size_t n) {
                std::iota(out + at, out + at + n, size_t(0));
                std::stable_sort(out + at, out + at + n, [=](size_t i, size_t j) { return before(x[at + i], x[at + j]); });
            });
        });
    });
}

void thrust_lexsort(int type, size_t* out, void* keys, size_t k, size_t n, intptr_t stream, void*) {
    submit(reinterpret_cast<void*>(stream), "launch", "thrust::lexsort", [=] {
        with_type(type, [=](auto zero) {
            using T = decltype(zero);
            auto* x = static_cast<const T*>(keys);
            std::iota(out, out + n, size_t(0));
            for (size_t key = 0; key < k; ++key)
                std::stable_sort(out, out + n, [=](size_t i, size_t j) { return before(x[key * n + i], x[key * n + j]); });
        });
    });
}

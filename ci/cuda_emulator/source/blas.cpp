// cuBLAS by OpenBLAS. 16-bit products are computed in float32 and rounded, as the hardware does.
#include "emulator.h"
#include "lapack.h"

#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace emulator {

struct Blas {
    void* stream = nullptr;
    int pointers_on_device = 0, math = 0;
};

enum DataType { R_32F = 0, R_64F = 1, R_16F = 2, C_32F = 4, C_64F = 5, R_16BF = 14 };

static int operation(int op) { return op == 0 ? 111 : op == 1 ? 112 : 113; }  // cuBLAS's N, T, C as CBLAS counts them

template <class T>
T conjugate(T x) {
    return x;
}
template <class T>
std::complex<T> conjugate(std::complex<T> x) {
    return std::conj(x);
}

// An empty product: OpenBLAS refuses leading dimensions of 0, and C = beta C is still wanted.
template <class T>
void product(int opa, int opb, int m, int n, int k, T alpha, const T* a, int lda, const T* b, int ldb, T beta, T* c, int ldc) {
    if (m == 0 || n == 0) return;
    if (beta == T(0))  // C need not be a number
        for (int j = 0; j < n; ++j) std::fill_n(c + size_t(j) * ldc, m, T(0));
    if (k) gemm(operation(opa), operation(opb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

inline float to_float(__half x) { return __half2float(x); }
inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline void from_float(__half& out, float x) { out = __float2half(x); }
inline void from_float(__nv_bfloat16& out, float x) { out = __float2bfloat16(x); }

template <class H>
void short_product(int opa, int opb, int m, int n, int k, float alpha, const H* a, int lda, const H* b, int ldb, float beta,
                   H* c, int ldc) {
    auto widen = [](const H* from, int ld, int columns) {
        std::vector<float> out(size_t(ld) * columns);
        for (size_t i = 0; i < out.size(); ++i) out[i] = to_float(from[i]);
        return out;
    };
    // the last column has only as many rows as the matrix
    auto dense = [&](const H* from, int ld, int rows, int columns) {
        if (!rows || !columns) return std::vector<float>(1);
        std::vector<float> out = widen(from, ld, columns - 1);
        out.resize(size_t(ld) * columns);
        for (int i = 0; i < rows; ++i) out[size_t(ld) * (columns - 1) + i] = to_float(from[size_t(ld) * (columns - 1) + i]);
        return out;
    };
    const auto wide_a = dense(a, lda, opa ? k : m, opa ? m : k), wide_b = dense(b, ldb, opb ? n : k, opb ? k : n);
    auto wide_c = dense(c, ldc, m, n);
    product<float>(opa, opb, m, n, k, alpha, wide_a.data(), lda, wide_b.data(), ldb, beta, wide_c.data(), ldc);
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) from_float(c[i + size_t(j) * ldc], wide_c[i + size_t(j) * ldc]);
}

static size_t size_of(int type) {
    switch (type) {
        case R_16F:
        case R_16BF: return 2;
        case R_32F: return 4;
        case R_64F:
        case C_32F: return 8;
        default: return 16;
    }
}

template <class T>
void typed_product(int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int lda, const void* b, int ldb,
                   const void* beta, void* c, int ldc) {
    product<T>(opa, opb, m, n, k, *static_cast<const T*>(alpha), static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb,
               *static_cast<const T*>(beta), static_cast<T*>(c), ldc);
}

bool any_product(int type, bool half_scalars, int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int lda, const void* b,
                 int ldb, const void* beta, void* c, int ldc) {
    auto scalar = [half_scalars](const void* p) {
        return half_scalars ? __half2float(*static_cast<const __half*>(p)) : *static_cast<const float*>(p);
    };
    switch (type) {
        case R_32F: typed_product<float>(opa, opb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); return true;
        case R_64F: typed_product<double>(opa, opb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); return true;
        case C_32F: typed_product<complex64>(opa, opb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); return true;
        case C_64F: typed_product<complex128>(opa, opb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); return true;
        case R_16F:
            short_product(opa, opb, m, n, k, scalar(alpha), static_cast<const __half*>(a), lda, static_cast<const __half*>(b), ldb,
                          scalar(beta), static_cast<__half*>(c), ldc);
            return true;
        case R_16BF:
            short_product(opa, opb, m, n, k, scalar(alpha), static_cast<const __nv_bfloat16*>(a), lda,
                          static_cast<const __nv_bfloat16*>(b), ldb, scalar(beta), static_cast<__nv_bfloat16*>(c), ldc);
            return true;
        default: return false;
    }
}

// Scalars are read now when they lie on the host, and when the work runs when they lie on the device.
struct Scalar {
    char bytes[16];
    const void* address;
    Scalar(const Blas* handle, const void* from, size_t size) : address(handle->pointers_on_device ? from : nullptr) {
        if (!address) memcpy(bytes, from, size);
    }
    const void* get() const { return address ? address : bytes; }
};

static int gemm_ex(const char* name, Blas* handle, int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int atype,
                   int lda, long long stride_a, const void* b, int btype, int ldb, long long stride_b, const void* beta, void* c,
                   int ctype, int ldc, long long stride_c, int count, int compute) {
    if (atype != btype || atype != ctype) return unsupported("a product of arrays of different types"), 15;
    const bool half_scalars = atype == R_16F && (compute == R_16F || compute == 64);  // CUBLAS_COMPUTE_16F
    const size_t size = atype == R_16F && half_scalars ? 2 : atype == R_16F || atype == R_16BF ? 4 : size_of(atype);
    if (!size_of(atype)) return 15;
    const Scalar x(handle, alpha, size), y(handle, beta, size);
    bool known = true;
    submit(handle->stream, "launch", name, [=] {
        const size_t step = size_of(atype);
        for (int i = 0; i < count; ++i)
            any_product(atype, half_scalars, opa, opb, m, n, k, x.get(), static_cast<const char*>(a) + i * stride_a * step, lda,
                        static_cast<const char*>(b) + i * stride_b * step, ldb, y.get(), static_cast<char*>(c) + i * stride_c * step,
                        ldc);
    });
    return known ? 0 : 15;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

int cublasCreate_v2(Blas** out) { return *out = new Blas, 0; }
int cublasDestroy_v2(Blas* handle) { return delete handle, 0; }
int cublasGetVersion_v2(Blas*, int* version) { return *version = 120900, 0; }
int cublasSetStream_v2(Blas* handle, void* stream) { return handle->stream = stream, 0; }
int cublasGetStream_v2(Blas* handle, void** stream) { return *stream = handle->stream, 0; }
int cublasSetPointerMode_v2(Blas* handle, int mode) { return handle->pointers_on_device = mode, 0; }
int cublasGetPointerMode_v2(Blas* handle, int* mode) { return *mode = handle->pointers_on_device, 0; }
int cublasSetMathMode(Blas* handle, int mode) { return handle->math = mode, 0; }
int cublasGetMathMode(Blas* handle, int* mode) { return *mode = handle->math, 0; }

int cublasGemmEx(Blas* h, int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int atype, int lda, const void* b,
                 int btype, int ldb, const void* beta, void* c, int ctype, int ldc, int compute, int) {
    return gemm_ex("cublasGemmEx", h, opa, opb, m, n, k, alpha, a, atype, lda, 0, b, btype, ldb, 0, beta, c, ctype, ldc, 0, 1, compute);
}
int cublasGemmStridedBatchedEx(Blas* h, int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int atype, int lda,
                               long long sa, const void* b, int btype, int ldb, long long sb, const void* beta, void* c, int ctype,
                               int ldc, long long sc, int count, int compute, int) {
    return gemm_ex("cublasGemmStridedBatchedEx", h, opa, opb, m, n, k, alpha, a, atype, lda, sa, b, btype, ldb, sb, beta, c, ctype,
                   ldc, sc, count, compute);
}
int cublasSgemmEx(Blas* h, int opa, int opb, int m, int n, int k, const float* alpha, const void* a, int atype, int lda, const void* b,
                  int btype, int ldb, const float* beta, void* c, int ctype, int ldc) {
    return gemm_ex("cublasSgemmEx", h, opa, opb, m, n, k, alpha, a, atype, lda, 0, b, btype, ldb, 0, beta, c, ctype, ldc, 0, 1, R_32F);
}

// For each type: L is its letter, T the type, R its real type, TYPE its number.
#define EMULATOR_CUBLAS(L, T, R, TYPE)                                                                                               \
    int cublas##L##gemm_v2(Blas* h, int opa, int opb, int m, int n, int k, const T* alpha, const T* a, int lda, const T* b, int ldb, \
                           const T* beta, T* c, int ldc) {                                                                           \
        return gemm_ex("cublas" #L "gemm", h, opa, opb, m, n, k, alpha, a, TYPE, lda, 0, b, TYPE, ldb, 0, beta, c, TYPE, ldc, 0, 1,  \
                       TYPE);                                                                                                        \
    }                                                                                                                                \
    int cublas##L##gemmStridedBatched(Blas* h, int opa, int opb, int m, int n, int k, const T* alpha, const T* a, int lda,           \
                                      long long sa, const T* b, int ldb, long long sb, const T* beta, T* c, int ldc, long long sc,   \
                                      int count) {                                                                                   \
        return gemm_ex("cublas" #L "gemmStridedBatched", h, opa, opb, m, n, k, alpha, a, TYPE, lda, sa, b, TYPE, ldb, sb, beta, c,   \
                       TYPE, ldc, sc, count, TYPE);                                                                                  \
    }                                                                                                                                \
    int cublas##L##gemmBatched(Blas* h, int opa, int opb, int m, int n, int k, const T* alpha, const T* const* a, int lda,           \
                               const T* const* b, int ldb, const T* beta, T* const* c, int ldc, int count) {                         \
        const Scalar x(h, alpha, sizeof(T)), y(h, beta, sizeof(T));                                                                  \
        submit(h->stream, "launch", "cublas" #L "gemmBatched", [=] {                                                                 \
            for (int i = 0; i < count; ++i)                                                                                          \
                typed_product<T>(opa, opb, m, n, k, x.get(), a[i], lda, b[i], ldb, y.get(), c[i], ldc);                              \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##gemv_v2(Blas* h, int op, int m, int n, const T* alpha, const T* a, int lda, const T* x, int incx, const T* beta,  \
                           T* y, int incy) {                                                                                         \
        const Scalar p(h, alpha, sizeof(T)), q(h, beta, sizeof(T));                                                                  \
        submit(h->stream, "launch", "cublas" #L "gemv", [=] {                                                                        \
            const T factor = *static_cast<const T*>(q.get());                                                                        \
            if (factor == T(0))                                                                                                      \
                for (int i = 0; i < (op ? n : m); ++i) y[size_t(i) * incy] = T(0);                                                   \
            if (m && n) gemv(operation(op), m, n, *static_cast<const T*>(p.get()), a, lda, x, incx, factor, y, incy);                \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##scal_v2(Blas* h, int n, const T* alpha, T* x, int incx) {                                                         \
        const Scalar p(h, alpha, sizeof(T));                                                                                         \
        submit(h->stream, "launch", "cublas" #L "scal", [=] {                                                                        \
            for (int i = 0; i < n; ++i) x[size_t(i) * incx] *= *static_cast<const T*>(p.get());                                      \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##trsm_v2(Blas* h, int side, int part, int op, int unit, int m, int n, const T* alpha, const T* a, int lda, T* b,   \
                           int ldb) {                                                                                                \
        const Scalar p(h, alpha, sizeof(T));                                                                                         \
        submit(h->stream, "launch", "cublas" #L "trsm", [=] {                                                                        \
            trsm(side ? 142 : 141, part ? 121 : 122, operation(op), unit ? 132 : 131, m, n, *static_cast<const T*>(p.get()), a, lda, \
                 b, ldb);                                                                                                            \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##getrfBatched(Blas* h, int n, T* const* a, int lda, int* pivots, int* info, int count) {                           \
        submit(h->stream, "launch", "cublas" #L "getrfBatched", [=] {                                                                \
            std::vector<int> own(n);                                                                                                 \
            for (int i = 0; i < count; ++i) info[i] = getrf(n, n, a[i], lda, pivots ? pivots + size_t(i) * n : own.data());          \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##getrsBatched(Blas* h, int op, int n, int k, const T* const* a, int lda, const int* pivots, T* const* b, int ldb,  \
                                int* info, int count) {                                                                              \
        *info = 0; /* of the arguments, on the host */                                                                               \
        submit(h->stream, "launch", "cublas" #L "getrsBatched", [=] {                                                                \
            for (int i = 0; i < count; ++i) getrs("NTC"[op], n, k, a[i], lda, pivots + size_t(i) * n, b[i], ldb);                    \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }                                                                                                                                \
    int cublas##L##getriBatched(Blas* h, int n, const T* const* a, int lda, const int* pivots, T* const* c, int ldc, int* info,      \
                                int count) {                                                                                         \
        submit(h->stream, "launch", "cublas" #L "getriBatched", [=] {                                                                \
            for (int i = 0; i < count; ++i) {                                                                                        \
                for (int j = 0; j < n; ++j) memcpy(c[i] + size_t(j) * ldc, a[i] + size_t(j) * lda, n * sizeof(T));                   \
                info[i] = getri(n, c[i], ldc, pivots + size_t(i) * n);                                                               \
            }                                                                                                                        \
        });                                                                                                                          \
        return 0;                                                                                                                    \
    }
EMULATOR_CUBLAS(S, float, float, R_32F)
EMULATOR_CUBLAS(D, double, double, R_64F)
EMULATOR_CUBLAS(C, complex64, float, C_32F)
EMULATOR_CUBLAS(Z, complex128, double, C_64F)

#define EMULATOR_DOT(NAME, T, FIRST)                                                                                       \
    int cublas##NAME##_v2(Blas* h, int n, const T* x, int incx, const T* y, int incy, T* out) {                            \
        if (!h->pointers_on_device) record("synchronize", "cublas" #NAME);                                                 \
        submit(h->stream, "launch", "cublas" #NAME, [=] {                                                                  \
            T sum = T(0);                                                                                                  \
            for (int i = 0; i < n; ++i) sum += FIRST(x[size_t(i) * incx]) * y[size_t(i) * incy];                           \
            *out = sum;                                                                                                    \
        });                                                                                                                \
        if (!h->pointers_on_device) finish_stream(h->stream);                                                              \
        return 0;                                                                                                          \
    }
EMULATOR_DOT(Sdot, float, )
EMULATOR_DOT(Ddot, double, )
EMULATOR_DOT(Cdotu, complex64, )
EMULATOR_DOT(Cdotc, complex64, conjugate)
EMULATOR_DOT(Zdotu, complex128, )
EMULATOR_DOT(Zdotc, complex128, conjugate)

}

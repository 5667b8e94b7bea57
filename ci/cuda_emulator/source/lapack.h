// OpenBLAS's functions for the four types, as overloads: gemm(float…), gemm(std::complex<double>…), …
#pragma once

#include <complex>

namespace emulator {

using complex64 = std::complex<float>;
using complex128 = std::complex<double>;

template <class T>
struct RealOf {
    using type = T;
};
template <class T>
struct RealOf<std::complex<T>> {
    using type = T;
};
template <class T>
using real_of = typename RealOf<T>::type;

constexpr int COLUMN_MAJOR = 102;  // of LAPACKE and CBLAS

}  // namespace emulator

#define EMULATOR_LAPACK(t, T, R)                                                                                                \
    extern "C" {                                                                                                                \
    int scipy_LAPACKE_##t##getrf(int, int, int, T*, int, int*);                                                                 \
    int scipy_LAPACKE_##t##getrs(int, char, int, int, const T*, int, const int*, T*, int);                                      \
    int scipy_LAPACKE_##t##getri(int, int, T*, int, const int*);                                                                \
    int scipy_LAPACKE_##t##potrf(int, char, int, T*, int);                                                                      \
    int scipy_LAPACKE_##t##potrs(int, char, int, int, const T*, int, T*, int);                                                  \
    int scipy_LAPACKE_##t##geqrf(int, int, int, T*, int, T*);                                                                   \
    int scipy_LAPACKE_##t##gesvd(int, char, char, int, int, T*, int, R*, T*, int, T*, int, R*);                                 \
    }                                                                                                                           \
    namespace emulator {                                                                                                        \
    inline int getrf(int m, int n, T* a, int lda, int* pivots) {                                                                \
        return scipy_LAPACKE_##t##getrf(COLUMN_MAJOR, m, n, a, lda, pivots);                                                    \
    }                                                                                                                           \
    inline int getrs(char op, int n, int k, const T* a, int lda, const int* pivots, T* b, int ldb) {                            \
        return scipy_LAPACKE_##t##getrs(COLUMN_MAJOR, op, n, k, a, lda, pivots, b, ldb);                                        \
    }                                                                                                                           \
    inline int getri(int n, T* a, int lda, const int* pivots) {                                                                 \
        return scipy_LAPACKE_##t##getri(COLUMN_MAJOR, n, a, lda, pivots);                                                       \
    }                                                                                                                           \
    inline int potrf(char part, int n, T* a, int lda) { return scipy_LAPACKE_##t##potrf(COLUMN_MAJOR, part, n, a, lda); }       \
    inline int potrs(char part, int n, int k, const T* a, int lda, T* b, int ldb) {                                             \
        return scipy_LAPACKE_##t##potrs(COLUMN_MAJOR, part, n, k, a, lda, b, ldb);                                              \
    }                                                                                                                           \
    inline int geqrf(int m, int n, T* a, int lda, T* tau) { return scipy_LAPACKE_##t##geqrf(COLUMN_MAJOR, m, n, a, lda, tau); } \
    inline int gesvd(char u, char v, int m, int n, T* a, int lda, R* s, T* left, int ldu, T* right, int ldv, R* rest) {         \
        return scipy_LAPACKE_##t##gesvd(COLUMN_MAJOR, u, v, m, n, a, lda, s, left, ldu, right, ldv, rest);                      \
    }                                                                                                                           \
    }
EMULATOR_LAPACK(s, float, float)
EMULATOR_LAPACK(d, double, double)
EMULATOR_LAPACK(c, emulator::complex64, float)
EMULATOR_LAPACK(z, emulator::complex128, double)
#undef EMULATOR_LAPACK

// Those whose names differ between real and complex matrices.
#define EMULATOR_LAPACK(t, T, R, ORGQR, ORMQR, SYEVD)                                                                         \
    extern "C" {                                                                                                               \
    int scipy_LAPACKE_##t##ORGQR(int, int, int, int, T*, int, const T*);                                                       \
    int scipy_LAPACKE_##t##ORMQR(int, char, char, int, int, int, const T*, int, const T*, T*, int);                            \
    int scipy_LAPACKE_##t##SYEVD(int, char, char, int, T*, int, R*);                                                           \
    }                                                                                                                          \
    namespace emulator {                                                                                                       \
    inline int orgqr(int m, int n, int k, T* a, int lda, const T* tau) {                                                       \
        return scipy_LAPACKE_##t##ORGQR(COLUMN_MAJOR, m, n, k, a, lda, tau);                                                   \
    }                                                                                                                          \
    inline int ormqr(char side, char op, int m, int n, int k, const T* a, int lda, const T* tau, T* c, int ldc) {              \
        return scipy_LAPACKE_##t##ORMQR(COLUMN_MAJOR, side, op, m, n, k, a, lda, tau, c, ldc);                                 \
    }                                                                                                                          \
    inline int syevd(char job, char part, int n, T* a, int lda, R* w) {                                                        \
        return scipy_LAPACKE_##t##SYEVD(COLUMN_MAJOR, job, part, n, a, lda, w);                                                \
    }                                                                                                                          \
    }
EMULATOR_LAPACK(s, float, float, orgqr, ormqr, syevd)
EMULATOR_LAPACK(d, double, double, orgqr, ormqr, syevd)
EMULATOR_LAPACK(c, emulator::complex64, float, ungqr, unmqr, heevd)
EMULATOR_LAPACK(z, emulator::complex128, double, ungqr, unmqr, heevd)
#undef EMULATOR_LAPACK

#define EMULATOR_BLAS(t, T, SCALAR, ADDRESS)                                                                                     \
    extern "C" {                                                                                                                 \
    void scipy_cblas_##t##gemm(int, int, int, int, int, int, SCALAR, const T*, int, const T*, int, SCALAR, T*, int);             \
    void scipy_cblas_##t##gemv(int, int, int, int, SCALAR, const T*, int, const T*, int, SCALAR, T*, int);                       \
    void scipy_cblas_##t##trsm(int, int, int, int, int, int, int, SCALAR, const T*, int, T*, int);                               \
    }                                                                                                                            \
    namespace emulator {                                                                                                         \
    inline void gemm(int opa, int opb, int m, int n, int k, T alpha, const T* a, int lda, const T* b, int ldb, T beta, T* c,     \
                     int ldc) {                                                                                                  \
        scipy_cblas_##t##gemm(COLUMN_MAJOR, opa, opb, m, n, k, ADDRESS alpha, a, lda, b, ldb, ADDRESS beta, c, ldc);             \
    }                                                                                                                            \
    inline void gemv(int op, int m, int n, T alpha, const T* a, int lda, const T* x, int incx, T beta, T* y, int incy) {         \
        scipy_cblas_##t##gemv(COLUMN_MAJOR, op, m, n, ADDRESS alpha, a, lda, x, incx, ADDRESS beta, y, incy);                    \
    }                                                                                                                            \
    inline void trsm(int side, int part, int op, int diagonal, int m, int n, T alpha, const T* a, int lda, T* b, int ldb) {      \
        scipy_cblas_##t##trsm(COLUMN_MAJOR, side, part, op, diagonal, m, n, ADDRESS alpha, a, lda, b, ldb);                      \
    }                                                                                                                            \
    }
EMULATOR_BLAS(s, float, float, )
EMULATOR_BLAS(d, double, double, )
EMULATOR_BLAS(c, emulator::complex64, const void*, &)
EMULATOR_BLAS(z, emulator::complex128, const void*, &)
#undef EMULATOR_BLAS

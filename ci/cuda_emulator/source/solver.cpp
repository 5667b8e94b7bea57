// cuSOLVER by LAPACK. LAPACK finds its own workspace, so that what is asked for here is one number.
#include "emulator.h"
#include "lapack.h"

#include <cstring>

extern "C" {
int scipy_LAPACKE_sgeev(int, char, char, int, float*, int, float*, float*, float*, int, float*, int);
int scipy_LAPACKE_dgeev(int, char, char, int, double*, int, double*, double*, double*, int, double*, int);
int scipy_LAPACKE_cgeev(int, char, char, int, emulator::complex64*, int, emulator::complex64*, emulator::complex64*, int,
                        emulator::complex64*, int);
int scipy_LAPACKE_zgeev(int, char, char, int, emulator::complex128*, int, emulator::complex128*, emulator::complex128*, int,
                        emulator::complex128*, int);
}

namespace emulator {

struct Solver {
    void* stream = nullptr;
};

static void run(Solver* handle, const char* name, Work work) { submit(handle->stream, "launch", name, std::move(work)); }
static char part(int fill) { return fill ? 'U' : 'L'; }
static char job(int vectors) { return vectors ? 'V' : 'N'; }
static char operation(int op) { return "NTC"[op]; }

// A = U S V*, with V (not V*), as the Jacobi methods of cuSOLVER answer.
template <class T>
int jacobi_svd(bool vectors, bool economy, int m, int n, T* a, int lda, real_of<T>* s, T* u, int ldu, T* v, int ldv) {
    const int k = std::min(m, n), rows = economy ? k : n;
    std::vector<real_of<T>> rest(k + 1);
    std::vector<T> right(size_t(rows) * n + 1);
    const char wanted = !vectors ? 'N' : economy ? 'S' : 'A';
    const int info = gesvd(wanted, wanted, m, n, a, lda, s, u, ldu, right.data(), std::max(rows, 1), rest.data());
    if (vectors)
        for (int i = 0; i < rows; ++i)
            for (int j = 0; j < n; ++j) {
                if constexpr (std::is_same_v<T, real_of<T>>)
                    v[j + size_t(i) * ldv] = right[i + size_t(j) * rows];
                else
                    v[j + size_t(i) * ldv] = std::conj(right[i + size_t(j) * rows]);
            }
    return info;
}

// LAPACK answers real matrices with pairs of columns (re, im); cuSOLVER, asked for complex eigenvectors, does too.
template <class T, class F>
int real_eigenvalues(F geev, bool vectors, int n, T* a, int lda, std::complex<T>* w, T* right, int ldv) {
    std::vector<T> re(n), im(n);
    T nothing;
    const int info = geev(COLUMN_MAJOR, 'N', job(vectors), n, a, lda, re.data(), im.data(), &nothing, 1, right, ldv);
    for (int i = 0; i < n; ++i) w[i] = {re[i], im[i]};
    return info;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

int cusolverDnCreate(Solver** out) { return *out = new Solver, 0; }
int cusolverDnDestroy(Solver* handle) { return delete handle, 0; }
int cusolverDnSetStream(Solver* handle, void* stream) { return handle->stream = stream, 0; }
int cusolverDnGetStream(Solver* handle, void** stream) { return *stream = handle->stream, 0; }
int cusolverDnCreateParams(void** out) { return *out = new char, 0; }
int cusolverDnDestroyParams(void* params) { return delete static_cast<char*>(params), 0; }
int cusolverDnCreateSyevjInfo(void** out) { return *out = new char, 0; }
int cusolverDnDestroySyevjInfo(void* params) { return delete static_cast<char*>(params), 0; }
int cusolverDnCreateGesvdjInfo(void** out) { return *out = new char, 0; }
int cusolverDnDestroyGesvdjInfo(void* params) { return delete static_cast<char*>(params), 0; }
int cusolverGetProperty(int which, int* value) { return *value = which == 0 ? 11 : which == 1 ? 7 : 5, 0; }

#define SYEV_SIZE(NAME, T, R) \
    int cusolverDn##NAME##_bufferSize(Solver*, int, int, int, const T*, int, const R*, int* size) { return *size = 1, 0; }
#define SYEVJ_SIZE(NAME, T, R)                                                                                                     \
    int cusolverDn##NAME##_bufferSize(Solver*, int, int, int, const T*, int, const R*, int* size, void*) { return *size = 1, 0; }  \
    int cusolverDn##NAME##Batched_bufferSize(Solver*, int, int, int, const T*, int, const R*, int* size, void*, int) {             \
        return *size = 1, 0;                                                                                                       \
    }

// L: the letter; T, R: the type and its real type; ORGQR, ORMQR, SYEV: the names that differ.
#define EMULATOR_CUSOLVER(L, T, R, ORGQR, ORMQR, SYEV)                                                                               \
    int cusolverDn##L##potrf_bufferSize(Solver*, int, int, T*, int, int* size) { return *size = 1, 0; }                              \
    int cusolverDn##L##potrf(Solver* h, int fill, int n, T* a, int lda, T*, int, int* info) {                                        \
        return run(h, "cusolverDn" #L "potrf", [=] { *info = potrf(part(fill), n, a, lda); }), 0;                                    \
    }                                                                                                                                \
    int cusolverDn##L##potrfBatched(Solver* h, int fill, int n, T** a, int lda, int* info, int count) {                              \
        return run(h, "cusolverDn" #L "potrfBatched", [=] {                                                                          \
            for (int i = 0; i < count; ++i) info[i] = potrf(part(fill), n, a[i], lda);                                               \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    int cusolverDn##L##potrs(Solver* h, int fill, int n, int k, const T* a, int lda, T* b, int ldb, int* info) {                     \
        return run(h, "cusolverDn" #L "potrs", [=] { *info = potrs(part(fill), n, k, a, lda, b, ldb); }), 0;                         \
    }                                                                                                                                \
    int cusolverDn##L##potrsBatched(Solver* h, int fill, int n, int k, T** a, int lda, T** b, int ldb, int* info, int count) {       \
        return run(h, "cusolverDn" #L "potrsBatched", [=] {                                                                          \
            for (int i = 0; i < count; ++i) *info = potrs(part(fill), n, k, a[i], lda, b[i], ldb);                                   \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    int cusolverDn##L##getrf_bufferSize(Solver*, int, int, T*, int, int* size) { return *size = 1, 0; }                              \
    int cusolverDn##L##getrf(Solver* h, int m, int n, T* a, int lda, T*, int* pivots, int* info) {                                   \
        return run(h, "cusolverDn" #L "getrf", [=] { *info = getrf(m, n, a, lda, pivots); }), 0;                                     \
    }                                                                                                                                \
    int cusolverDn##L##getrs(Solver* h, int op, int n, int k, const T* a, int lda, const int* pivots, T* b, int ldb, int* info) {    \
        return run(h, "cusolverDn" #L "getrs", [=] { *info = getrs(operation(op), n, k, a, lda, pivots, b, ldb); }), 0;              \
    }                                                                                                                                \
    int cusolverDn##L##geqrf_bufferSize(Solver*, int, int, T*, int, int* size) { return *size = 1, 0; }                              \
    int cusolverDn##L##geqrf(Solver* h, int m, int n, T* a, int lda, T* tau, T*, int, int* info) {                                   \
        return run(h, "cusolverDn" #L "geqrf", [=] { *info = geqrf(m, n, a, lda, tau); }), 0;                                        \
    }                                                                                                                                \
    int cusolverDn##L##ORGQR##_bufferSize(Solver*, int, int, int, const T*, int, const T*, int* size) { return *size = 1, 0; }       \
    int cusolverDn##L##ORGQR(Solver* h, int m, int n, int k, T* a, int lda, const T* tau, T*, int, int* info) {                      \
        return run(h, "cusolverDn" #L #ORGQR, [=] { *info = orgqr(m, n, k, a, lda, tau); }), 0;                                      \
    }                                                                                                                                \
    int cusolverDn##L##ORMQR##_bufferSize(Solver*, int, int, int, int, int, const T*, int, const T*, const T*, int, int* size) {     \
        return *size = 1, 0;                                                                                                         \
    }                                                                                                                                \
    int cusolverDn##L##ORMQR(Solver* h, int side, int op, int m, int n, int k, const T* a, int lda, const T* tau, T* c, int ldc, T*, \
                             int, int* info) {                                                                                       \
        return run(h, "cusolverDn" #L #ORMQR, [=] {                                                                                  \
            *info = ormqr(side ? 'R' : 'L', operation(op), m, n, k, a, lda, tau, c, ldc);                                            \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    int cusolverDn##L##gesvd_bufferSize(Solver*, int, int, int* size) { return *size = 1, 0; }                                       \
    int cusolverDn##L##gesvd(Solver* h, signed char ju, signed char jv, int m, int n, T* a, int lda, R* s, T* u, int ldu, T* vt,     \
                             int ldvt, T*, int, R*, int* info) {                                                                     \
        return run(h, "cusolverDn" #L "gesvd", [=] {                                                                                 \
            std::vector<R> rest(std::min(m, n) + 1);                                                                                 \
            *info = gesvd(ju, jv, m, n, a, lda, s, u, std::max(ldu, 1), vt, std::max(ldvt, 1), rest.data());                         \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    int cusolverDn##L##gesvdj_bufferSize(Solver*, int, int, int, int, const T*, int, const R*, const T*, int, const T*, int,         \
                                         int* size, void*) {                                                                         \
        return *size = 1, 0;                                                                                                         \
    }                                                                                                                                \
    int cusolverDn##L##gesvdj(Solver* h, int vectors, int economy, int m, int n, T* a, int lda, R* s, T* u, int ldu, T* v, int ldv,  \
                              T*, int, int* info, void*) {                                                                           \
        return run(h, "cusolverDn" #L "gesvdj", [=] {                                                                                \
            *info = jacobi_svd<T>(vectors, economy, m, n, a, lda, s, u, ldu, v, ldv);                                                \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    int cusolverDn##L##gesvdjBatched_bufferSize(Solver*, int, int, int, const T*, int, const R*, const T*, int, const T*, int,       \
                                                int* size, void*, int) {                                                             \
        return *size = 1, 0;                                                                                                         \
    }                                                                                                                                \
    int cusolverDn##L##gesvdjBatched(Solver* h, int vectors, int m, int n, T* a, int lda, R* s, T* u, int ldu, T* v, int ldv, T*,    \
                                     int, int* info, void*, int count) {                                                             \
        return run(h, "cusolverDn" #L "gesvdjBatched", [=] {                                                                         \
            for (size_t i = 0; i < size_t(count); ++i)                                                                               \
                info[i] = jacobi_svd<T>(vectors, false, m, n, a + i * lda * n, lda, s + i * std::min(m, n), u + i * ldu * m, ldu,    \
                                        v + i * ldv * n, ldv);                                                                       \
        }), 0;                                                                                                                       \
    }                                                                                                                                \
    SYEV_SIZE(L##SYEV##d, T, R)                                                                                                      \
    int cusolverDn##L##SYEV##d(Solver* h, int vectors, int fill, int n, T* a, int lda, R* w, T*, int, int* info) {                   \
        return run(h, "cusolverDn" #L #SYEV "d", [=] { *info = syevd(job(vectors), part(fill), n, a, lda, w); }), 0;                 \
    }                                                                                                                                \
    SYEVJ_SIZE(L##SYEV##j, T, R)                                                                                                     \
    int cusolverDn##L##SYEV##j(Solver* h, int vectors, int fill, int n, T* a, int lda, R* w, T*, int, int* info, void*) {            \
        return cusolverDn##L##SYEV##d(h, vectors, fill, n, a, lda, w, nullptr, 0, info);                                             \
    }                                                                                                                                \
    int cusolverDn##L##SYEV##jBatched(Solver* h, int vectors, int fill, int n, T* a, int lda, R* w, T*, int, int* info, void*,       \
                                      int count) {                                                                                   \
        return run(h, "cusolverDn" #L #SYEV "jBatched", [=] {                                                                        \
            for (size_t i = 0; i < size_t(count); ++i)                                                                               \
                info[i] = syevd(job(vectors), part(fill), n, a + i * lda * n, lda, w + i * n);                                       \
        }), 0;                                                                                                                       \
    }
EMULATOR_CUSOLVER(S, float, float, orgqr, ormqr, syev)
EMULATOR_CUSOLVER(D, double, double, orgqr, ormqr, syev)
EMULATOR_CUSOLVER(C, complex64, float, ungqr, unmqr, heev)
EMULATOR_CUSOLVER(Z, complex128, double, ungqr, unmqr, heev)

int cusolverDnXsyevd_bufferSize(Solver*, void*, int, int, int64_t, int, const void*, int64_t, int, const void*, int, size_t* device,
                                size_t* host) {
    return *device = *host = 1, 0;
}
int cusolverDnXsyevd(Solver* h, void*, int vectors, int fill, int64_t n, int type, void* a, int64_t lda, int, void* w, int, void*,
                     size_t, void*, size_t, int* info) {
    return run(h, "cusolverDnXsyevd", [=] {
        const char j = job(vectors), p = part(fill);
        switch (type) {
            case 0: *info = syevd(j, p, n, static_cast<float*>(a), lda, static_cast<float*>(w)); break;
            case 1: *info = syevd(j, p, n, static_cast<double*>(a), lda, static_cast<double*>(w)); break;
            case 4: *info = syevd(j, p, n, static_cast<complex64*>(a), lda, static_cast<float*>(w)); break;
            case 5: *info = syevd(j, p, n, static_cast<complex128*>(a), lda, static_cast<double*>(w)); break;
            default: *info = -1;
        }
    }), 0;
}

int cusolverDnXgeev_bufferSize(Solver*, void*, int, int, int64_t, int, const void*, int64_t, int, const void*, int, const void*,
                               int64_t, int, const void*, int64_t, int, size_t* device, size_t* host) {
    return *device = *host = 1, 0;
}
int cusolverDnXgeev(Solver* h, void*, int, int vectors, int64_t n, int type, void* a, int64_t lda, int, void* w, int, void*, int64_t,
                    int, void* right, int64_t ldv, int, void*, size_t, void*, size_t, int* info) {
    return run(h, "cusolverDnXgeev", [=] {
        const int ld = std::max<int>(ldv, 1);
        complex64 nothing;
        complex128 nothing_wide;
        switch (type) {
            case 0:
                *info = real_eigenvalues<float>(scipy_LAPACKE_sgeev, vectors, n, static_cast<float*>(a), lda,
                                                static_cast<complex64*>(w), static_cast<float*>(right), ld);
                break;
            case 1:
                *info = real_eigenvalues<double>(scipy_LAPACKE_dgeev, vectors, n, static_cast<double*>(a), lda,
                                                 static_cast<complex128*>(w), static_cast<double*>(right), ld);
                break;
            case 4:
                *info = scipy_LAPACKE_cgeev(COLUMN_MAJOR, 'N', job(vectors), n, static_cast<complex64*>(a), lda,
                                            static_cast<complex64*>(w), &nothing, 1, static_cast<complex64*>(right), ld);
                break;
            case 5:
                *info = scipy_LAPACKE_zgeev(COLUMN_MAJOR, 'N', job(vectors), n, static_cast<complex128*>(a), lda,
                                            static_cast<complex128*>(w), &nothing_wide, 1, static_cast<complex128*>(right), ld);
                break;
            default: *info = -1;
        }
    }), 0;
}

}

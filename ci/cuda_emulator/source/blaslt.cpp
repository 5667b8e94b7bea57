// cuBLASLt by the products of blas.cpp. What NVIDIA's documentation refuses is refused, with the reason on standard error: layouts that
// do not fit together, types that no computation takes, addresses less aligned than the algorithm was asked for, too little workspace.
// The workspace is written to, so that a product whose operand lies there is wrong.
#include "emulator.h"

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

struct cublasLtContext {
    int device;
};

namespace emulator {

struct Operation {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t pointer_mode = 0, op_a = CUBLAS_OP_N, op_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void* bias = nullptr;
};
struct Layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
    int32_t order = CUBLASLT_ORDER_COL, count = 1;
    int64_t stride = 0;

    uint64_t extent() const {  // elements from the first to behind the last
        return rows && columns ? uint64_t(count - 1) * stride + (columns - 1) * ld + rows : 0;
    }
};
struct Preference {
    uint64_t workspace = 0;
    uint32_t alignment[4] = {256, 256, 256, 256};
};
// What an algorithm holds: for which operation it was found, and what it needs.
struct Algorithm {
    uint64_t magic, operation, workspace;
    uint32_t alignment[4];
    uint64_t unused[3];
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
constexpr uint64_t MAGIC = 0x616e796e65744c74;

static std::set<const void*> objects;  // that were made and not destroyed

static cublasStatus_t refused(cublasStatus_t status, const std::string& why) {
    record("refused", "cuBLASLt: " + why);
    fprintf(stderr, "CUDA emulator: cuBLASLt: %s\n", why.c_str());
    return status;
}
static cublasStatus_t invalid(const std::string& why) { return refused(CUBLAS_STATUS_INVALID_VALUE, why); }

template <class T, class Opaque>
T* object(Opaque* handle) {
    Guard guard(lock);
    return objects.count(handle) ? reinterpret_cast<T*>(handle) : nullptr;
}
template <class T, class Opaque>
void keep(T* made, Opaque** out) {
    Guard guard(lock);
    objects.insert(made);
    *out = reinterpret_cast<Opaque*>(made);
}
template <class T, class Opaque>
cublasStatus_t destroy(Opaque* handle) {
    Guard guard(lock);
    if (!objects.erase(handle)) return invalid("a descriptor is destroyed that is not there");
    delete reinterpret_cast<T*>(handle);
    return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t set(T& field, const void* value, size_t size) {
    if (size != sizeof(T)) return invalid("an attribute of " + std::to_string(sizeof(T)) + " bytes was given " + std::to_string(size));
    memcpy(&field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

static bool short_type(cudaDataType_t type) { return type == CUDA_R_16F || type == CUDA_R_16BF; }

static size_t bytes(cudaDataType_t type) {
    return short_type(type) ? 2 : type == CUDA_R_32F ? 4 : type == CUDA_R_64F || type == CUDA_C_32F ? 8 : type == CUDA_C_64F ? 16 : 0;
}

// Which types a computation takes: the table of cublasLtMatmul, without what anynet does not have (integers, 8 bits).
static bool takes(const Operation& operation, cudaDataType_t in, cudaDataType_t out) {
    switch (operation.compute) {
        case CUBLAS_COMPUTE_32F:
        case CUBLAS_COMPUTE_32F_PEDANTIC:
            if (in == CUDA_C_32F) return operation.scale == CUDA_C_32F && out == in;
            return operation.scale == CUDA_R_32F && (in == CUDA_R_32F ? out == in : short_type(in) && (out == in || out == CUDA_R_32F));
        case CUBLAS_COMPUTE_32F_FAST_16F:
        case CUBLAS_COMPUTE_32F_FAST_16BF:
        case CUBLAS_COMPUTE_32F_FAST_TF32:
            return in == out && in == operation.scale && (in == CUDA_R_32F || in == CUDA_C_32F);
        case CUBLAS_COMPUTE_64F:
        case CUBLAS_COMPUTE_64F_PEDANTIC: return in == out && in == operation.scale && (in == CUDA_R_64F || in == CUDA_C_64F);
        default: return false;
    }
}

static uint64_t hash(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    uint64_t h = 1469598103934665603ull;
    auto mix = [&h](uint64_t value) { h = (h ^ value) * 1099511628211ull; };
    for (uint64_t v : {uint64_t(o.compute), uint64_t(o.scale), uint64_t(o.op_a), uint64_t(o.op_b), uint64_t(o.epilogue)}) mix(v);
    for (const Layout* l : {&a, &b, &c, &d})
        for (uint64_t v : {uint64_t(l->type), l->rows, l->columns, uint64_t(l->ld), uint64_t(l->count), uint64_t(l->stride)}) mix(v);
    return h;
}

// The operation and its layouts, as both the heuristic and the product look at them.
static cublasStatus_t check(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    for (const Layout* l : {&a, &b, &c, &d}) {
        if (!bytes(l->type)) return refused(CUBLAS_STATUS_NOT_SUPPORTED, "type " + std::to_string(l->type) + " is not emulated");
        if (l->order != CUBLASLT_ORDER_COL) return refused(CUBLAS_STATUS_NOT_SUPPORTED, "orders but that of columns are not emulated");
        if (!l->rows || !l->columns) return invalid("a matrix is empty");
        if (l->ld < int64_t(l->rows)) return invalid("the leading dimension is below the number of rows: columns overlap");
        if (l->count != d.count || l->count < 1) return invalid("batch counts differ");
        if (l->stride < 0) return invalid("a batch stride is negative");
    }
    if (d.count > 1 && uint64_t(d.stride) < (d.columns - 1) * d.ld + d.rows) return invalid("the results of a batch overlap");
    if (o.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return refused(CUBLAS_STATUS_NOT_SUPPORTED, "scalars on the device are not emulated");
    for (int32_t op : {o.op_a, o.op_b})
        if (op < CUBLAS_OP_N || op > CUBLAS_OP_C) return invalid("no such operation on an operand");
    const uint64_t m = o.op_a ? a.columns : a.rows, k = o.op_a ? a.rows : a.columns;
    const uint64_t kb = o.op_b ? b.columns : b.rows, n = o.op_b ? b.rows : b.columns;
    if (k != kb || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return invalid("the shapes do not fit together");
    if (a.type != b.type || c.type != d.type || !takes(o, a.type, d.type))
        return refused(CUBLAS_STATUS_NOT_SUPPORTED, "this computation does not take these types");
    if (o.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
    if (o.epilogue != CUBLASLT_EPILOGUE_BIAS && o.epilogue != CUBLASLT_EPILOGUE_BGRADA && o.epilogue != CUBLASLT_EPILOGUE_BGRADB)
        return refused(CUBLAS_STATUS_NOT_SUPPORTED, "epilogue " + std::to_string(o.epilogue) + " is not emulated");
    // the real library may do so: what calls it has to have another way, which is tried here with all but float32 and 16 bits
    if (d.type != CUDA_R_32F && !short_type(d.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!o.bias) return invalid("the epilogue has no vector");
    if (o.epilogue != CUBLASLT_EPILOGUE_BIAS && d.count > 1)
        return refused(CUBLAS_STATUS_NOT_SUPPORTED, "gradients of biases of batches are not emulated");
    return CUBLAS_STATUS_SUCCESS;
}

// Whether `extent` elements lie in memory of the device, aligned as asked.
static cublasStatus_t check_place(const char* name, const void* address, uint64_t size, uint32_t alignment, int device) {
    if (!address) return invalid(std::string(name) + " is a null pointer");
    if (reinterpret_cast<uintptr_t>(address) % alignment)
        return invalid(std::string(name) + " is not aligned to " + std::to_string(alignment) + " bytes, for which the algorithm was asked");
    const Allocation found = find(address);
    if (found.place != Place::device || static_cast<const char*>(address) + size > found.base + found.size)
        return refused(CUBLAS_STATUS_EXECUTION_FAILED, std::string(name) + " reaches outside of the device's memory");
    if (found.device != device)
        return refused(CUBLAS_STATUS_EXECUTION_FAILED, std::string(name) + " lies on another device than the handle's");
    return CUBLAS_STATUS_SUCCESS;
}

// ---- computing ----

static float narrowed(float x, cublasComputeType_t compute) {
    if (x != x || std::isinf(x)) return x;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    switch (compute) {
        case CUBLAS_COMPUTE_32F_FAST_TF32: bits = (bits + 0x1000) & 0xFFFFE000; break;
        case CUBLAS_COMPUTE_32F_FAST_16BF: return __bfloat162float(__float2bfloat16(x));
        case CUBLAS_COMPUTE_32F_FAST_16F: return __half2float(__float2half(x));
        default: break;
    }
    memcpy(&x, &bits, 4);
    return x;
}

static double element(const void* base, cudaDataType_t type, uint64_t i) {
    switch (type) {
        case CUDA_R_16F: return __half2float(static_cast<const __half*>(base)[i]);
        case CUDA_R_16BF: return __bfloat162float(static_cast<const __nv_bfloat16*>(base)[i]);
        case CUDA_R_32F: return static_cast<const float*>(base)[i];
        default: return static_cast<const double*>(base)[i];
    }
}
static void put(void* base, cudaDataType_t type, uint64_t i, double x) {
    switch (type) {
        case CUDA_R_16F: static_cast<__half*>(base)[i] = __float2half(float(x)); break;
        case CUDA_R_16BF: static_cast<__nv_bfloat16*>(base)[i] = __float2bfloat16(float(x)); break;
        case CUDA_R_32F: static_cast<float*>(base)[i] = float(x); break;
        default: static_cast<double*>(base)[i] = x;
    }
}

struct Product {
    Operation o;
    Layout a, b, c, d;
    char alpha[16], beta[16];
    const void *pa, *pb, *pc;
    void* pd;

    static const void* at(const void* base, const Layout& l, int batch) {
        return static_cast<const char*>(base) + int64_t(batch) * l.stride * bytes(l.type);
    }
    std::vector<float> narrow(const void* from, const Layout& l) const {  // of one matrix, with its columns where they are
        std::vector<float> out((l.columns - 1) * l.ld + l.rows);
        for (uint64_t j = 0; j < l.columns; ++j)
            for (uint64_t i = 0; i < l.rows; ++i) out[i + j * l.ld] = narrowed(static_cast<const float*>(from)[i + j * l.ld], o.compute);
        return out;
    }
    bool scale_is(const char* scalar, double value) const {
        return o.scale == CUDA_R_32F || o.scale == CUDA_C_32F ? *reinterpret_cast<const float*>(scalar) == value
                                                                : *reinterpret_cast<const double*>(scalar) == value;
    }
    void run() const {
        const int m = int(d.rows), n = int(d.columns), k = int(o.op_a ? a.rows : a.columns);
        for (int batch = 0; batch < d.count; ++batch) {
            const void *ai = at(pa, a, batch), *bi = at(pb, b, batch), *ci = at(pc, c, batch);
            void* di = const_cast<void*>(at(pd, d, batch));
            if (ci != di && !scale_is(beta, 0))
                for (uint64_t j = 0; j < d.columns; ++j)
                    memcpy(static_cast<char*>(di) + j * d.ld * bytes(d.type), static_cast<const char*>(ci) + j * c.ld * bytes(c.type),
                           d.rows * bytes(d.type));
            std::vector<float> na, nb;
            if (a.type == CUDA_R_32F && o.compute != CUBLAS_COMPUTE_32F) {
                na = narrow(ai, a), nb = narrow(bi, b);
                ai = na.data(), bi = nb.data();
            }
            any_product(d.type, false, o.op_a, o.op_b, m, n, k, alpha, ai, int(a.ld), bi, int(b.ld), beta, di, int(d.ld));
            if (o.epilogue == CUBLASLT_EPILOGUE_BIAS)
                for (uint64_t j = 0; j < d.columns; ++j)
                    for (uint64_t i = 0; i < d.rows; ++i)
                        put(di, d.type, i + j * d.ld, element(di, d.type, i + j * d.ld) + element(o.bias, d.type, i));
        }
        if (o.epilogue == CUBLASLT_EPILOGUE_BGRADA) sums(pa, a, o.op_a != CUBLAS_OP_N, m, k);
        if (o.epilogue == CUBLASLT_EPILOGUE_BGRADB) sums(pb, b, o.op_b == CUBLAS_OP_N, n, k);
    }
    void sums(const void* from, const Layout& l, bool along_columns, int count, int k) const {
        for (int i = 0; i < count; ++i) {
            double sum = 0;
            for (int j = 0; j < k; ++j) sum += element(from, l.type, along_columns ? j + int64_t(i) * l.ld : i + int64_t(j) * l.ld);
            put(o.bias, d.type, i, sum);
        }
    }
};

static const char* name_of_status(int status) {
    switch (status) {
        case 0: return "CUBLAS_STATUS_SUCCESS";
        case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case 7: return "CUBLAS_STATUS_INVALID_VALUE";
        case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
const char* cublasLtGetStatusName(cublasStatus_t status) { return name_of_status(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* out) {
    auto* made = new cublasLtContext{current_device()};
    Guard guard(lock);
    objects.insert(made);
    *out = made;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy<cublasLtContext>(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* out, cublasComputeType_t compute, cudaDataType_t scale) {
    auto* made = new Operation;
    made->compute = compute, made->scale = scale;
    return keep(made, out), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) { return destroy<Operation>(handle); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t size) {
    auto* o = object<Operation>(handle);
    if (!o) return invalid("no such operation");
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(o->pointer_mode, value, size);
        case CUBLASLT_MATMUL_DESC_TRANSA: return set(o->op_a, value, size);
        case CUBLASLT_MATMUL_DESC_TRANSB: return set(o->op_b, value, size);
        case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(o->epilogue, value, size);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(o->bias, value, size);
        default: return invalid("attribute " + std::to_string(attribute) + " of an operation is not emulated");
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* out, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld) {
    return keep(new Layout{type, rows, columns, ld}, out), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) { return destroy<Layout>(handle); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t size) {
    auto* l = object<Layout>(handle);
    if (!l) return invalid("no such layout");
    switch (attribute) {
        case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(l->order, value, size);
        case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(l->count, value, size);
        case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(l->stride, value, size);
        default: return invalid("attribute " + std::to_string(attribute) + " of a layout is not emulated");
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* out) {
    return keep(new Preference, out), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) { return destroy<Preference>(handle); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t size) {
    auto* p = object<Preference>(handle);
    if (!p) return invalid("no such preference");
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(p->workspace, value, size);
    const int which = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (which < 0 || which > 3) return invalid("attribute " + std::to_string(attribute) + " of a preference is not emulated");
    return set(p->alignment[which], value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t* found,
                                              int* count) {
    Guard guard(lock);
    *count = 0;
    const auto* p = object<Preference>(preference);
    const auto* o = object<Operation>(operation);
    const Layout* layouts[] = {object<Layout>(a), object<Layout>(b), object<Layout>(c), object<Layout>(d)};
    if (!objects.count(handle) || !p || !o || std::count(layouts, layouts + 4, nullptr)) return invalid("no such handle or descriptor");
    if (wanted < 1) return invalid("no algorithm is asked for");
    const cublasStatus_t status = check(*o, *layouts[0], *layouts[1], *layouts[2], *layouts[3]);
    if (status) return status;
    for (int i = 0; i < 4; ++i) {
        const uint32_t size = bytes(layouts[i]->type), aligned = p->alignment[i];
        if (aligned < std::min(size, 4u) || aligned & (aligned - 1)) return invalid("an alignment is no power of two, or below a number's");
    }
    // a long sum is taken in parts, which lie in the workspace
    const uint64_t k = o->op_a ? layouts[0]->rows : layouts[0]->columns;
    Algorithm algorithm{MAGIC, hash(*o, *layouts[0], *layouts[1], *layouts[2], *layouts[3]),
                        k >= 8 ? std::min<uint64_t>(p->workspace, 1 << 16) : 0, {}, {}};
    std::copy(p->alignment, p->alignment + 4, algorithm.alignment);
    memset(found, 0, sizeof *found);
    memcpy(&found->algo, &algorithm, sizeof algorithm);
    found->workspaceSize = algorithm.workspace;
    found->wavesCount = 1;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* pa,
                              cublasLtMatrixLayout_t a, const void* pb, cublasLtMatrixLayout_t b, const void* beta, const void* pc,
                              cublasLtMatrixLayout_t c, void* pd, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t size, cudaStream_t stream) {
    Guard guard(lock);
    const auto* o = object<Operation>(operation);
    const Layout* layouts[] = {object<Layout>(a), object<Layout>(b), object<Layout>(c), object<Layout>(d)};
    if (!objects.count(handle) || !o || std::count(layouts, layouts + 4, nullptr)) return invalid("no such handle or descriptor");
    if (handle->device != current_device()) return invalid("another device is current than the handle's");
    if (!alpha || !beta || !algo) return invalid("no alpha, beta or algorithm");
    Product product{*o, *layouts[0], *layouts[1], *layouts[2], *layouts[3], {}, {}, pa, pb, pc, pd};
    cublasStatus_t status = check(product.o, product.a, product.b, product.c, product.d);
    if (status) return status;
    Algorithm algorithm;
    memcpy(&algorithm, algo, sizeof algorithm);
    if (algorithm.magic != MAGIC || algorithm.operation != hash(product.o, product.a, product.b, product.c, product.d))
        return invalid("the algorithm was found for another operation");
    const void* places[] = {pa, pb, pc, pd};
    for (int i = 0; i < 4; ++i)
        if ((status = check_place(&"A\0B\0C\0D"[2 * i], places[i], layouts[i]->extent() * bytes(layouts[i]->type), algorithm.alignment[i],
                                  handle->device)))
            return status;
    if (pc == pd && (product.c.ld != product.d.ld || product.c.stride != product.d.stride)) return invalid("C is D in another layout");
    const uint64_t length = o->epilogue == CUBLASLT_EPILOGUE_BGRADB ? product.d.columns : product.d.rows;
    if (o->epilogue != CUBLASLT_EPILOGUE_DEFAULT &&
        (status = check_place("the bias", o->bias, length * bytes(product.d.type), bytes(product.d.type), handle->device)))
        return status;
    if (size < algorithm.workspace) return invalid("the workspace is smaller than the algorithm needs");
    if (algorithm.workspace && (status = check_place("the workspace", workspace, size, 256, handle->device))) return status;
    const size_t scalar = bytes(o->scale);
    memcpy(product.alpha, alpha, scalar);
    memcpy(product.beta, beta, scalar);
    const uint64_t used = algorithm.workspace;
    const std::string name = std::string("cublasLtMatmul") + (o->epilogue == CUBLASLT_EPILOGUE_BIAS      ? " bias"
                                                              : o->epilogue == CUBLASLT_EPILOGUE_DEFAULT ? ""
                                                                                                         : " bias gradient");
    submit(stream, "launch", name, [product, workspace, used] {
        if (used) memset(workspace, 0x5A, used);
        product.run();
    });
    return CUBLAS_STATUS_SUCCESS;
}

}

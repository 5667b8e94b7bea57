// cuDNN's backend API (descriptors with attributes), made with NVIDIA's header of it: convolutions and their gradients, and attention, as
// cuDNN's frontend asks for them. An attribute, a descriptor or an argument that does not fit is refused, with the reason on standard error and in
// cudnnGetLastErrorString. Each graph has several engines: those that take part of the bits, change from run to run or want too much memory
// come first, so that who does not choose is found out by the numbers. The workspace is written to.
#include "emulator.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cudnn_graph.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>

struct cudnnContext {
    int device;
    cudaStream_t stream;
};

namespace emulator {

// ---- descriptors ----

struct Body;
using Shared = std::shared_ptr<const Body>;

struct Attribute {
    cudnnBackendAttributeType_t type;
    std::vector<char> bytes;
    std::vector<Shared> descriptors;
    int64_t count = 0;
};

struct Body {
    cudnnBackendDescriptorType_t type;
    bool final = false;
    std::map<int, Attribute> attributes;

    const Attribute* get(int name) const {
        auto found = attributes.find(name);
        return found == attributes.end() ? nullptr : &found->second;
    }
    template <class T>
    std::vector<T> all(int name) const {
        const Attribute* a = get(name);
        std::vector<T> out(a ? a->count : 0);
        if (a) memcpy(out.data(), a->bytes.data(), out.size() * sizeof(T));
        return out;
    }
    template <class T>
    T one(int name, T otherwise = T()) const {
        const std::vector<T> found = all<T>(name);
        return found.empty() ? otherwise : found[0];
    }
    Shared part(int name) const {
        const Attribute* a = get(name);
        return a && !a->descriptors.empty() ? a->descriptors[0] : nullptr;
    }
};

struct Descriptor {
    std::shared_ptr<Body> body;
};

static std::set<const void*> objects;  // that were made and not destroyed
static thread_local std::string last_error;

static cudnnStatus_t refused(cudnnStatus_t status, const std::string& why) {
    record("refused", "cuDNN: " + why);
    fprintf(stderr, "CUDA emulator: cuDNN: %s\n", why.c_str());
    last_error = why;
    return status;
}
static cudnnStatus_t invalid(const std::string& why) { return refused(CUDNN_STATUS_BAD_PARAM, why); }
// What is a matter of course for who asks whether it is possible.
static cudnnStatus_t unable(const std::string& why) {
    last_error = why;
    return CUDNN_STATUS_NOT_SUPPORTED;
}

static Descriptor* descriptor(cudnnBackendDescriptor_t handle) {
    return objects.count(handle) ? reinterpret_cast<Descriptor*>(handle) : nullptr;
}

static size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
        case CUDNN_TYPE_HANDLE:
        case CUDNN_TYPE_INT64:
        case CUDNN_TYPE_DOUBLE:
        case CUDNN_TYPE_VOID_PTR:
        case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
        case CUDNN_TYPE_BOOLEAN:
        case CUDNN_TYPE_CHAR: return 1;
        default: return 4;
    }
}

// The attributes that are known of each descriptor, and their types.
static const std::map<int, std::map<int, cudnnBackendAttributeType_t>> KNOWN = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     {{CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE},
      {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN},
      {CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN},
      {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64}}},
    {CUDNN_BACKEND_MATMUL_DESCRIPTOR, {{CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE}}},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR}}},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
     {{CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE}, {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE}}},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT},
      {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT}}},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
     {{CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE},
      {CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE},
      {CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, CUDNN_TYPE_BOOLEAN}}},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR}}},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_RESHAPE_MODE, CUDNN_TYPE_RESHAPE_MODE}}},
    {CUDNN_BACKEND_OPERATION_SOFTMAX_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_SOFTMAX_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_SOFTMAX_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_SOFTMAX_STATS_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR}}},
    {CUDNN_BACKEND_OPERATION_DIAGONAL_BAND_MASK_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_COMPARISON_MODE, CUDNN_TYPE_POINTWISE_MODE}}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
     {{CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE},
      {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE},
      {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64},
      {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64}}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT}}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT}}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT}}},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR}, {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE}}},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
     {{CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR},
      {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE},
      {CUDNN_ATTR_ENGINEHEUR_SM_COUNT_TARGET, CUDNN_TYPE_INT32}}},
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, {}},
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, {}},
    {CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, {}},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, {{CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR}}},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
     {{CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR},
      {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR},
      {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64}}},
};

// ---- what they say ----

using Dims = std::vector<int64_t>;

struct Tensor {
    int64_t uid = -1, alignment = 0;
    bool is_virtual = false, by_value = false;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    Dims dims, strides;

    int64_t size() const {
        int64_t n = 1;
        for (int64_t d : dims) n *= d;
        return n;
    }
    int64_t extent() const {  // elements from the first to behind the last
        int64_t n = 1;
        for (size_t i = 0; i < dims.size(); ++i) n += (dims[i] - 1) * strides[i];
        return n;
    }
};

static size_t bytes(cudnnDataType_t type) {
    switch (type) {
        case CUDNN_DATA_HALF:
        case CUDNN_DATA_BFLOAT16: return 2;
        case CUDNN_DATA_FLOAT: return 4;
        default: return 0;
    }
}

static Tensor tensor_of(const Body& b) {
    Tensor t;
    t.uid = b.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, -1);
    t.alignment = b.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    t.is_virtual = b.one<char>(CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0);
    t.by_value = b.one<char>(CUDNN_ATTR_TENSOR_IS_BY_VALUE, 0);
    t.type = cudnnDataType_t(b.one<int32_t>(CUDNN_ATTR_TENSOR_DATA_TYPE, -1));
    t.dims = b.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    t.strides = b.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    return t;
}

static cudnnStatus_t check_tensor(const Tensor& t) {
    if (t.uid < 0) return invalid("a tensor has no unique id");
    if (!bytes(t.type)) return refused(CUDNN_STATUS_NOT_SUPPORTED, "tensors of type " + std::to_string(t.type) + " are not emulated");
    if (t.dims.size() < 3 || t.dims.size() != t.strides.size() || t.dims.size() > 8)
        return invalid("a tensor's dimensions and strides do not fit");
    if (t.alignment < int64_t(bytes(t.type)) || t.alignment & (t.alignment - 1)) return invalid("a tensor's alignment is no power of two");
    std::vector<std::pair<int64_t, int64_t>> axes;
    for (size_t i = 0; i < t.dims.size(); ++i) {
        if (t.dims[i] < 1 || t.strides[i] < 1) return invalid("a tensor has a dimension or a stride below 1");
        if (t.dims[i] > 1) axes.push_back({t.strides[i], t.dims[i]});
    }
    if (t.is_virtual) return CUDNN_STATUS_SUCCESS;  // it lies nowhere
    std::sort(axes.begin(), axes.end());
    for (size_t i = 1; i < axes.size(); ++i)
        if (axes[i].first < axes[i - 1].first * axes[i - 1].second) return invalid("elements of a tensor overlap");
    return CUDNN_STATUS_SUCCESS;
}

enum class Kind { forward, data, filter };

struct Convolution {
    Kind kind;
    Tensor x, w, y;
    Dims pre, post, stride, dilation;

    const Tensor& result() const { return kind == Kind::forward ? y : kind == Kind::data ? x : w; }
    const char* name() const {
        return kind == Kind::forward ? "cudnn convolution" : kind == Kind::data ? "cudnn data gradient" : "cudnn weight gradient";
    }
};

static bool is_convolution(const Body& b) {
    return b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
           b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
           b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

struct Names {
    int x, w, y, how, alpha, beta;
};
static Names names_of(const Body& b) {
    if (b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    if (b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

static Convolution convolution_of(const Body& b) {
    const Names n = names_of(b);
    const Body& how = *b.part(n.how);
    return {b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? Kind::forward
            : b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? Kind::data
                                                                                      : Kind::filter,
            tensor_of(*b.part(n.x)),
            tensor_of(*b.part(n.w)),
            tensor_of(*b.part(n.y)),
            how.all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
            how.all<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
            how.all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
            how.all<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS)};
}

static cudnnStatus_t check_how(const Body& b) {
    const int64_t axes = b.one<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0);
    if (axes < 1 || axes > 3) return invalid("a convolution has " + std::to_string(axes) + " spatial dimensions");
    if (b.one<int32_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, -1) != CUDNN_DATA_FLOAT)
        return refused(CUDNN_STATUS_NOT_SUPPORTED, "only convolutions that are computed in float32 are emulated");
    if (b.one<int32_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE, -1) != CUDNN_CROSS_CORRELATION)
        return refused(CUDNN_STATUS_NOT_SUPPORTED, "only cross-correlations are emulated");
    for (int name : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_DILATIONS,
                     CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES}) {
        const Dims values = b.all<int64_t>(name);
        const int64_t least = name == CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS || name == CUDNN_ATTR_CONVOLUTION_POST_PADDINGS ? 0 : 1;
        if (int64_t(values.size()) != axes) return invalid("a convolution's options are not as many as its spatial dimensions");
        for (int64_t v : values)
            if (v < least) return invalid("an option of a convolution is " + std::to_string(v));
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_convolution(const Body& b) {
    const Names n = names_of(b);
    for (int name : {n.x, n.w, n.y})
        if (!b.part(name) || b.part(name)->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) return invalid("a convolution lacks a tensor");
    if (!b.part(n.how) || b.part(n.how)->type != CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR) return invalid("a convolution lacks its options");
    if (b.one<float>(n.alpha, 0) != 1 || b.one<float>(n.beta, 1) != 0) return invalid("only alpha 1 and beta 0 are emulated");
    const Convolution c = convolution_of(b);
    const size_t axes = c.pre.size();
    if (c.x.dims.size() != axes + 2 || c.w.dims.size() != axes + 2 || c.y.dims.size() != axes + 2)
        return invalid("a convolution's tensors do not have as many dimensions as its options");
    if (c.x.type != c.w.type || c.x.type != c.y.type) return invalid("a convolution's tensors are of several types");
    if (c.x.dims[0] != c.y.dims[0] || c.w.dims[0] != c.y.dims[1] || c.x.dims[1] % c.w.dims[1] || c.w.dims[0] % (c.x.dims[1] / c.w.dims[1]))
        return invalid("a convolution's batches, channels or groups do not fit");
    for (size_t i = 0; i < axes; ++i) {
        const int64_t room = c.x.dims[i + 2] + c.pre[i] + c.post[i] - c.dilation[i] * (c.w.dims[i + 2] - 1) - 1;
        if (room < 0 || c.y.dims[i + 2] != room / c.stride[i] + 1) return invalid("the size of a convolution's output does not fit");
    }
    return CUDNN_STATUS_SUCCESS;
}

// ---- engines ----

struct Engine {
    const char* name;
    std::vector<int32_t> notes;
    int64_t workspace;
    enum How { full, changing, half_inputs, tf32, half_sums } how;
};

static const std::vector<Engine> ENGINES = {
    {"nondeterministic", {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0, Engine::changing},
    {"reduced sums", {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, 0, Engine::half_sums},
    {"converted inputs", {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, 0, Engine::half_inputs},
    {"winograd", {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6}, 0, Engine::half_sums},
    {"fft", {CUDNN_NUMERICAL_NOTE_FFT}, 0, Engine::half_sums},
    {"greedy", {}, int64_t(1) << 40, Engine::half_sums},
    {"tensor cores", {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 1 << 16, Engine::tf32},
    {"in full", {}, 1 << 12, Engine::full},
    {"fallback", {}, 0, Engine::full},
};

// Channels first or channels last, as all engines here take tensors; and not both in one graph.
static bool packed(const Tensor& t, bool last) {
    int64_t stride = 1;
    const size_t n = t.dims.size();
    auto next = [&](size_t i) {
        const bool fits = t.dims[i] == 1 || t.strides[i] == stride;
        stride *= t.dims[i];
        return fits;
    };
    if (last && !next(1)) return false;
    for (size_t i = n - 1; i >= 2; --i)
        if (!next(i)) return false;
    if (!last && !next(1)) return false;
    return next(0);
}
static bool taken(const Convolution& c) {
    for (bool last : {false, true})
        if (packed(c.x, last) && packed(c.w, last) && packed(c.y, last)) return true;
    return false;
}

static std::vector<int64_t> engines_for(const Convolution& c, int32_t mode) {
    if (!taken(c)) return {};
    if (mode == CUDNN_HEUR_MODE_FALLBACK) return {int64_t(ENGINES.size()) - 1};
    std::vector<int64_t> found;
    for (size_t i = 0; i + 1 < ENGINES.size(); ++i) found.push_back(int64_t(i));
    return found;
}

static std::shared_ptr<Body> made(cudnnBackendDescriptorType_t type, int name, Shared of, int64_t index) {
    auto body = std::make_shared<Body>();
    body->type = type;
    body->final = true;
    Attribute graph{CUDNN_TYPE_BACKEND_DESCRIPTOR, {}, {of}, 1};
    body->attributes[name] = graph;
    Attribute number{CUDNN_TYPE_INT64, std::vector<char>(8), {}, 1};
    memcpy(number.bytes.data(), &index, 8);
    body->attributes[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = number;
    return body;
}
static const Engine& engine_of(const Body& b) { return ENGINES.at(b.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX)); }

// ---- computing ----

static float narrowed(float x, Engine::How how) {
    if (how == Engine::half_inputs) return __half2float(__float2half(x));
    if (how != Engine::tf32 || x != x || std::isinf(x)) return x;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & 0xFFFFE000;
    memcpy(&x, &bits, 4);
    return x;
}
static double element(const void* base, cudnnDataType_t type, int64_t i) {
    switch (type) {
        case CUDNN_DATA_HALF: return __half2float(static_cast<const __half*>(base)[i]);
        case CUDNN_DATA_BFLOAT16: return __bfloat162float(static_cast<const __nv_bfloat16*>(base)[i]);
        default: return static_cast<const float*>(base)[i];
    }
}
static void put(void* base, cudnnDataType_t type, int64_t i, double x) {
    switch (type) {
        case CUDNN_DATA_HALF: static_cast<__half*>(base)[i] = __float2half(float(x)); break;
        case CUDNN_DATA_BFLOAT16: static_cast<__nv_bfloat16*>(base)[i] = __float2bfloat16(float(x)); break;
        default: static_cast<float*>(base)[i] = float(x);
    }
}

// Calls f(place in memory) for each element, in the order of its indices by rows.
template <class F>
static void each(const Tensor& t, F f) {
    Dims at(t.dims.size(), 0);
    const int64_t n = t.size();
    int64_t place = 0;
    for (int64_t i = 0; i < n; ++i) {
        f(i, place);
        for (int axis = int(at.size()) - 1; axis >= 0; --axis) {
            place += t.strides[axis];
            if (++at[axis] < t.dims[axis]) break;
            place -= t.strides[axis] * t.dims[axis];
            at[axis] = 0;
        }
    }
}

#include "cudnn_graphs.h"

struct Run {
    Convolution c;
    Engine::How how;
    const char *x, *w, *y;  // one of them is what is written

    std::vector<double> read(const Tensor& t, const void* base) const {
        std::vector<double> out(t.size());
        each(t, [&](int64_t i, int64_t place) {
            const double v = element(base, t.type, place);
            out[i] = t.type == CUDNN_DATA_FLOAT ? narrowed(float(v), how) : v;
        });
        return out;
    }
    void operator()() const {
        const int axes = int(c.pre.size());
        int64_t in[3] = {1, 1, 1}, k[3] = {1, 1, 1}, out[3] = {1, 1, 1}, pad[3] = {}, step[3] = {1, 1, 1}, apart[3] = {1, 1, 1};
        for (int i = 0; i < axes; ++i) {
            const int at = 3 - axes + i;
            in[at] = c.x.dims[i + 2], k[at] = c.w.dims[i + 2], out[at] = c.y.dims[i + 2];
            pad[at] = c.pre[i], step[at] = c.stride[i], apart[at] = c.dilation[i];
        }
        std::vector<double> vx, vw, vy;
        if (c.kind == Kind::data) vx.assign(c.x.size(), 0); else vx = read(c.x, x);
        if (c.kind == Kind::filter) vw.assign(c.w.size(), 0); else vw = read(c.w, w);
        if (c.kind == Kind::forward) vy.assign(c.y.size(), 0); else vy = read(c.y, y);
        const int64_t each_in = c.w.dims[1], each_out = c.w.dims[0] / (c.x.dims[1] / each_in);
        auto add = [this](double& to, double v) {
            to += v;
            if (how == Engine::half_sums) to = __half2float(__float2half(float(to)));
        };
        for (int64_t n = 0; n < c.x.dims[0]; ++n)
            for (int64_t o = 0; o < c.w.dims[0]; ++o)
                for (int64_t i = 0; i < each_in; ++i) {
                    const int64_t channel = o / each_out * each_in + i;
                    for (int64_t k0 = 0; k0 < k[0]; ++k0)
                        for (int64_t k1 = 0; k1 < k[1]; ++k1)
                            for (int64_t k2 = 0; k2 < k[2]; ++k2) {
                                double& weight = vw[(((o * each_in + i) * k[0] + k0) * k[1] + k1) * k[2] + k2];
                                for (int64_t p0 = 0; p0 < out[0]; ++p0) {
                                    const int64_t x0 = p0 * step[0] + k0 * apart[0] - pad[0];
                                    if (x0 < 0 || x0 >= in[0]) continue;
                                    for (int64_t p1 = 0; p1 < out[1]; ++p1) {
                                        const int64_t x1 = p1 * step[1] + k1 * apart[1] - pad[1];
                                        if (x1 < 0 || x1 >= in[1]) continue;
                                        for (int64_t p2 = 0; p2 < out[2]; ++p2) {
                                            const int64_t x2 = p2 * step[2] + k2 * apart[2] - pad[2];
                                            if (x2 < 0 || x2 >= in[2]) continue;
                                            double& image = vx[(((n * c.x.dims[1] + channel) * in[0] + x0) * in[1] + x1) * in[2] + x2];
                                            double& value = vy[(((n * c.w.dims[0] + o) * out[0] + p0) * out[1] + p1) * out[2] + p2];
                                            if (c.kind == Kind::forward) add(value, image * weight);
                                            else if (c.kind == Kind::data) add(image, value * weight);
                                            else add(weight, image * value);
                                        }
                                    }
                                }
                            }
                }
        static int runs = 0;
        const double factor = how == Engine::changing && ++runs % 2 ? 1.001 : 1.0;
        const std::vector<double>& result = c.kind == Kind::forward ? vy : c.kind == Kind::data ? vx : vw;
        char* to = const_cast<char*>(c.kind == Kind::forward ? y : c.kind == Kind::data ? x : w);
        const Tensor& t = c.result();
        each(t, [&](int64_t i, int64_t place) { put(to, t.type, place, result[i] * factor); });
    }
};

static cudnnStatus_t check_place(const std::string& name, const void* address, int64_t size, int64_t alignment, int device) {
    if (!address) return invalid(name + " is a null pointer");
    if (reinterpret_cast<uintptr_t>(address) % alignment) return invalid(name + " is not aligned to " + std::to_string(alignment) + " bytes");
    const Allocation found = find(address);
    if (found.place != Place::device || static_cast<const char*>(address) + size > found.base + found.size)
        return refused(CUDNN_STATUS_EXECUTION_FAILED, name + " reaches outside of the device's memory");
    if (found.device != device) return refused(CUDNN_STATUS_EXECUTION_FAILED, name + " lies on another device than the handle's");
    return CUDNN_STATUS_SUCCESS;
}

static std::vector<int64_t> engines_of(const Body& graph, int32_t mode) {
    const Body& first = *graph.part(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    return is_convolution(first) ? engines_for(convolution_of(first), mode) : engines_for(parts_of(graph));
}

static cudnnStatus_t finalize(Body& b) {
    switch (b.type) {
        case CUDNN_BACKEND_TENSOR_DESCRIPTOR: return check_tensor(tensor_of(b));
        case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: return check_how(b);
        case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: {
            const Attribute* ops = b.get(CUDNN_ATTR_OPERATIONGRAPH_OPS);
            if (!ops || ops->descriptors.empty()) return invalid("a graph has no operations");
            if (std::any_of(ops->descriptors.begin(), ops->descriptors.end(), [&](const Shared& op) {
                    return is_convolution(*op) ? ops->count != 1 : !FORMS.count(op->type);
                }))
                return refused(CUDNN_STATUS_NOT_SUPPORTED, "only graphs of one convolution and those of attention are emulated");
            const auto* handle = b.one<const cudnnContext*>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
            if (!objects.count(handle)) return invalid("a graph has no handle");
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: {
            if (!b.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)) return invalid("a heuristic has no graph");
            return engines_of(*b.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), CUDNN_HEUR_MODE_A).empty()
                       ? unable("no engine takes tensors that lie like this")
                       : CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: {
            if (!b.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)) return invalid("a plan has no engine");
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: {
            const auto ids = b.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
            if (ids.size() != b.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()) return invalid("a variant pack's ids are not as many");
            return CUDNN_STATUS_SUCCESS;
        }
        default: return is_convolution(b) ? check_convolution(b) : FORMS.count(b.type) ? check_part(b) : CUDNN_STATUS_SUCCESS;
    }
}

// Writes into what who asks has given: `count` values of an attribute, or how many there are.
template <class T>
static cudnnStatus_t give(const std::vector<T>& values, int64_t wanted, int64_t* count, void* out) {
    if (count) *count = int64_t(values.size());
    if (out) memcpy(out, values.data(), sizeof(T) * std::min<int64_t>(wanted, int64_t(values.size())));
    return CUDNN_STATUS_SUCCESS;
}
static cudnnStatus_t give_descriptors(const std::vector<std::shared_ptr<Body>>& bodies, int64_t wanted, int64_t* count, void* out) {
    const int64_t n = int64_t(bodies.size());
    auto* places = static_cast<cudnnBackendDescriptor_t*>(out);
    for (int64_t i = 0; out && i < std::min(wanted, n); ++i) {
        Descriptor* d = descriptor(places[i]);
        if (!d || d->body->type != bodies[i]->type) return invalid("a result is asked for without a descriptor for it");
        d->body = bodies[i];
    }
    if (count) *count = out ? std::min(wanted, n) : n;
    return CUDNN_STATUS_SUCCESS;
}

static Shared graph_of(const Body& b) {  // of an engine, its configuration or its plan
    switch (b.type) {
        case CUDNN_BACKEND_ENGINE_DESCRIPTOR: return b.part(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
        case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: return b.part(CUDNN_ATTR_ENGINECFG_ENGINE);
        default: return graph_of(*b.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return CUDART_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
        case CUDNN_STATUS_SUCCESS: return "CUDNN_STATUS_SUCCESS";
        case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
        case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
        case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
        default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}
void cudnnGetLastErrorString(char* message, size_t size) {
    if (size) snprintf(message, size, "%s", last_error.c_str());
    last_error.clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* out) {
    Guard guard(lock);
    if (refuse_while_any_captures("cudnnCreate")) return CUDNN_STATUS_INTERNAL_ERROR;
    *out = new cudnnContext{current_device(), nullptr};
    objects.insert(*out);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    Guard guard(lock);
    if (!objects.erase(handle)) return invalid("a handle is destroyed that is not there");
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    Guard guard(lock);
    if (!objects.count(handle)) return invalid("no such handle");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
    Guard guard(lock);
    if (!objects.count(handle)) return invalid("no such handle");
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* out) {
    Guard guard(lock);
    if (!KNOWN.count(type)) return refused(CUDNN_STATUS_NOT_SUPPORTED, "descriptors of type " + std::to_string(type) + " are not emulated");
    auto* made = new Descriptor{std::make_shared<Body>()};
    made->body->type = type;
    objects.insert(made);
    *out = reinterpret_cast<cudnnBackendDescriptor_t>(made);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t handle) {
    Guard guard(lock);
    if (!objects.erase(handle)) return invalid("a descriptor is destroyed that is not there");
    delete reinterpret_cast<Descriptor*>(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t count, const void* values) {
    Guard guard(lock);
    Descriptor* d = descriptor(handle);
    if (!d) return invalid("no such descriptor");
    Body& b = *d->body;
    if (b.final) return invalid("an attribute of a finalized descriptor is set");
    const auto& known = KNOWN.at(b.type);
    const auto found = known.find(name);
    const std::string what = "attribute " + std::to_string(name) + " of a descriptor of type " + std::to_string(b.type);
    if (found == known.end()) return invalid(what + " is not emulated");
    if (found->second != type) return invalid(what + " has another type than " + std::to_string(type));
    if (count < 0 || (count && !values)) return invalid(what + " has no values");
    Attribute a{type, {}, {}, count};
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; ++i) {
            Descriptor* part = descriptor(static_cast<const cudnnBackendDescriptor_t*>(values)[i]);
            if (!part || !part->body->final) return invalid(what + " is no finalized descriptor");
            a.descriptors.push_back(part->body);
        }
    else
        a.bytes.assign(static_cast<const char*>(values), static_cast<const char*>(values) + count * size_of(type));
    b.attributes[name] = a;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t handle) {
    Guard guard(lock);
    Descriptor* d = descriptor(handle);
    if (!d || d->body->final) return invalid("no such descriptor, or a finalized one");
    const cudnnStatus_t status = finalize(*d->body);
    d->body->final = !status;
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t wanted, int64_t* count, void* out) {
    Guard guard(lock);
    Descriptor* d = descriptor(handle);
    if (!d || !d->body->final) return invalid("no such descriptor, or one that is not finalized");
    const Shared body = d->body;
    const Body& b = *body;
    const std::string what = "attribute " + std::to_string(name) + " of a descriptor of type " + std::to_string(b.type);
    auto typed = [&](cudnnBackendAttributeType_t right) { return type == right; };
    switch (name) {
        case CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT:
            if (typed(CUDNN_TYPE_INT64)) return give<int64_t>({int64_t(ENGINES.size())}, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
            if (!typed(CUDNN_TYPE_BACKEND_DESCRIPTOR) || b.type != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) break;
            const Shared graph = b.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
            std::vector<std::shared_ptr<Body>> results;
            for (int64_t i : engines_of(*graph, b.one<int32_t>(CUDNN_ATTR_ENGINEHEUR_MODE)))
                results.push_back(made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, graph, i));
            return give_descriptors(results, wanted, count, out);
        }
        case CUDNN_ATTR_ENGINECFG_ENGINE:
            if (!typed(CUDNN_TYPE_BACKEND_DESCRIPTOR) || b.type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) break;
            return give_descriptors({made(CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_of(b),
                                          b.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX))},
                                    wanted, count, out);
        case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
            if (typed(CUDNN_TYPE_BACKEND_DESCRIPTOR) && b.type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
                return give_descriptors({}, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE:
            if (typed(CUDNN_TYPE_INT64) && b.type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
                return give<int64_t>({engine_of(b).workspace}, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED:
            if (typed(CUDNN_TYPE_INT32) && b.type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) return give<int32_t>({0}, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
            if (typed(CUDNN_TYPE_INT64) && b.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR)
                return give<int64_t>({b.one<int64_t>(name)}, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
            if (typed(CUDNN_TYPE_NUMERICAL_NOTE) && b.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR)
                return give<int32_t>(engine_of(b).notes, wanted, count, out);
            break;
        case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
            if (typed(CUDNN_TYPE_BEHAVIOR_NOTE) && b.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR) return give<int32_t>({}, wanted, count, out);
            break;
        case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
            if (typed(CUDNN_TYPE_INT64) && b.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
                return give<int64_t>({engine_of(*b.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)).workspace}, wanted, count, out);
            break;
        case CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG: {
            if (!typed(CUDNN_TYPE_BACKEND_DESCRIPTOR) || b.type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) break;
            const Body& config = *b.part(name);
            return give_descriptors({made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, graph_of(config),
                                          config.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX))},
                                    wanted, count, out);
        }
        default: break;
    }
    return invalid(what + " is not emulated, or has another type");
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_handle, cudnnBackendDescriptor_t pack_handle) {
    Guard guard(lock);
    Descriptor *plan = descriptor(plan_handle), *pack = descriptor(pack_handle);
    if (!objects.count(handle) || !plan || !pack || !plan->body->final || !pack->body->final) return invalid("no such handle, plan or pack");
    if (plan->body->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || pack->body->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return invalid("no plan and pack");
    if (handle->device != current_device()) return invalid("another device is current than the handle's");
    const Engine engine = engine_of(*plan->body->part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
    const Body& graph = *graph_of(*plan->body);
    const auto ids = pack->body->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto pointers = pack->body->all<char*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    std::map<int64_t, char*> places;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    auto find_place = [&](const Tensor& t) {
        if (status || t.is_virtual || places.count(t.uid)) return;
        const std::string name = "tensor " + std::to_string(t.uid);
        const auto found = std::find(ids.begin(), ids.end(), t.uid);
        if (found == ids.end()) { status = invalid("a variant pack lacks the " + name); return; }
        places[t.uid] = pointers[found - ids.begin()];
        if (!t.by_value) status = check_place(name, places[t.uid], t.extent() * bytes(t.type), t.alignment, handle->device);
    };
    const bool convolves = is_convolution(*graph.part(CUDNN_ATTR_OPERATIONGRAPH_OPS));
    std::function<void()> run;
    std::string name;
    if (convolves) {
        const Convolution c = convolution_of(*graph.part(CUDNN_ATTR_OPERATIONGRAPH_OPS));
        for (const Tensor* t : {&c.x, &c.w, &c.y}) find_place(*t);
        if (status) return status;
        name = c.name();
        run = Run{c, engine.how, places[c.x.uid], places[c.w.uid], places[c.y.uid]};
    } else {
        const std::vector<Part> parts = parts_of(graph);
        for (const Part& p : parts) for (const auto* side : {&p.in, &p.out}) for (const Tensor& t : *side) find_place(t);
        if (status) return status;
        name = name_of(parts);
        run = GraphRun(parts, engine.how, places);
    }
    void* workspace = pack->body->one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (engine.workspace) {
        status = check_place("the workspace", workspace, engine.workspace, 16, handle->device);
        if (status) return status;
    }
    const int64_t used = engine.workspace;
    submit(handle->stream, "launch", name + ", " + engine.name, [run, workspace, used] {
        if (used) memset(workspace, 0x5A, used);
        run();
    });
    return CUDNN_STATUS_SUCCESS;
}

}

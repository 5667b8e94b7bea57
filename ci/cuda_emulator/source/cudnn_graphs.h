// A part of cudnn.cpp: graphs of products, element-wise functions and sums, as cuDNN's frontend writes attention. Each operation is computed as
// it stands, in double precision, and its result is rounded to the type of its tensor, also of one that lies nowhere.

struct Form {
    int how, mode;  // the descriptor of its options, -1 if it has none; and where there, or in the operation, its mode stands
    std::vector<int> in, out;
};
static const std::map<int, Form> FORMS = {
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_MATMUL_DESC, -1, {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC},
      {CUDNN_ATTR_OPERATION_MATMUL_CDESC}}},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE,
      {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC}, {CUDNN_ATTR_OPERATION_POINTWISE_YDESC}}},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_ATTR_REDUCTION_OPERATOR, {CUDNN_ATTR_OPERATION_REDUCTION_XDESC},
      {CUDNN_ATTR_OPERATION_REDUCTION_YDESC}}},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, {-1, -1, {CUDNN_ATTR_OPERATION_RESHAPE_XDESC}, {CUDNN_ATTR_OPERATION_RESHAPE_YDESC}}},
    {CUDNN_BACKEND_OPERATION_SOFTMAX_DESCRIPTOR,
     {-1, -1, {CUDNN_ATTR_OPERATION_SOFTMAX_XDESC}, {CUDNN_ATTR_OPERATION_SOFTMAX_YDESC, CUDNN_ATTR_OPERATION_SOFTMAX_STATS_DESC}}},
    {CUDNN_BACKEND_OPERATION_DIAGONAL_BAND_MASK_DESCRIPTOR,
     {-1, CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_COMPARISON_MODE,
      {CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_XDESC, CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_BDESC},
      {CUDNN_ATTR_OPERATION_DIAGONAL_BAND_MASK_YDESC}}},
};
static const std::map<int, std::set<int>> MODES = {
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_SUB, CUDNN_POINTWISE_MUL, CUDNN_POINTWISE_EXP, CUDNN_POINTWISE_IDENTITY}},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, {CUDNN_REDUCE_TENSOR_ADD}},
    {CUDNN_BACKEND_OPERATION_DIAGONAL_BAND_MASK_DESCRIPTOR, {CUDNN_POINTWISE_CMP_GE}},
};

struct Part {
    int type, mode;
    std::vector<Tensor> in, out;
};

static Part part_of(const Body& b) {
    const Form& form = FORMS.at(b.type);
    Part part{b.type, -1, {}, {}};
    const Body& options = form.how < 0 ? b : *b.part(form.how);
    if (form.mode >= 0) part.mode = options.one<int32_t>(form.mode, -1);
    for (int name : form.in) if (b.part(name)) part.in.push_back(tensor_of(*b.part(name)));
    for (int name : form.out) if (b.part(name)) part.out.push_back(tensor_of(*b.part(name)));
    return part;
}
static std::vector<Part> parts_of(const Body& graph) {
    std::vector<Part> parts;
    for (const Shared& op : graph.get(CUDNN_ATTR_OPERATIONGRAPH_OPS)->descriptors) parts.push_back(part_of(*op));
    return parts;
}
static std::string name_of(const std::vector<Part>& parts) {
    const bool forward = std::any_of(parts.begin(), parts.end(), [](const Part& p) { return p.type == CUDNN_BACKEND_OPERATION_SOFTMAX_DESCRIPTOR; });
    return forward ? "cudnn attention" : "cudnn attention gradients";
}

static cudnnStatus_t check_part(const Body& b) {
    const Form& form = FORMS.at(b.type);
    if (form.how >= 0 && !b.part(form.how)) return invalid("an operation lacks its options");
    const Part part = part_of(b);
    const auto modes = MODES.find(b.type);
    if (modes != MODES.end() && !modes->second.count(part.mode))
        return refused(CUDNN_STATUS_NOT_SUPPORTED, "operations of type " + std::to_string(b.type) + " and mode " + std::to_string(part.mode) + " are not emulated");
    const bool one = part.mode == CUDNN_POINTWISE_EXP || part.mode == CUDNN_POINTWISE_IDENTITY;
    const size_t wanted = b.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR && one ? 1 : form.in.size();
    if (part.in.size() != wanted || part.out.empty()) return invalid("an operation lacks a tensor");
    for (const auto* side : {&part.in, &part.out})
        for (const Tensor& t : *side)
            if (t.dims.size() != 4) return invalid("a tensor of attention has " + std::to_string(t.dims.size()) + " dimensions");
    const Dims& to = part.out[0].dims;
    for (const Tensor& t : part.in)
        for (size_t i = 0; i < 4 && b.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR; ++i)
            if (t.dims[i] != 1 && t.dims[i] != to[i]) return invalid("the dimensions of an element-wise operation do not fit");
    if (b.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
        const Dims &l = part.in[0].dims, &r = part.in[1].dims;
        if (l[3] != r[2] || l[2] != to[2] || r[3] != to[3] || to[0] % l[0] || to[0] % r[0] || to[1] % l[1] || to[1] % r[1])
            return invalid("the dimensions of a product do not fit");
    }
    if (b.type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR && part.in[0].extent() != part.out[0].extent())
        return invalid("a reshape reaches outside of its tensor");
    return CUDNN_STATUS_SUCCESS;
}

// Where the gradient of the queries is a sum apart, which is copied behind, it is added up in any order.
static std::vector<int64_t> engines_for(const std::vector<Part>& parts) {
    const bool apart = std::any_of(parts.begin(), parts.end(), [](const Part& p) { return p.mode == CUDNN_POINTWISE_IDENTITY; });
    const std::set<std::string> names = apart ? std::set<std::string>{"nondeterministic"}
                                              : std::set<std::string>{"nondeterministic", "reduced sums", "greedy", "tensor cores"};
    std::vector<int64_t> found;
    for (size_t i = 0; i < ENGINES.size(); ++i)
        if (names.count(ENGINES[i].name)) found.push_back(int64_t(i));
    return found;
}

using Values = std::vector<double>;

static double rounded(double x, cudnnDataType_t type) {
    switch (type) {
        case CUDNN_DATA_HALF: return __half2float(__float2half(float(x)));
        case CUDNN_DATA_BFLOAT16: return __bfloat162float(__float2bfloat16(float(x)));
        default: return float(x);
    }
}
// Calls f(indices, number) for each element of four axes.
template <class F>
static void over(const Dims& dims, F f) {
    Dims at(4);
    int64_t i = 0;
    for (at[0] = 0; at[0] < dims[0]; ++at[0])
        for (at[1] = 0; at[1] < dims[1]; ++at[1])
            for (at[2] = 0; at[2] < dims[2]; ++at[2])
                for (at[3] = 0; at[3] < dims[3]; ++at[3]) f(at, i++);
}
// The element of t for the indices of a tensor with the dimensions `of`: the same along an axis, or one for several.
static int64_t within(const Tensor& t, const Dims& at, const Dims& of) {
    int64_t place = 0;
    for (size_t i = 0; i < 4; ++i) place = place * t.dims[i] + at[i] * t.dims[i] / of[i];
    return place;
}

struct GraphRun {
    std::vector<Part> parts;
    Engine::How how;
    std::map<int64_t, char*> places;
    std::map<int64_t, double> numbers;  // of tensors by value, read when the graph is queued

    GraphRun(const std::vector<Part>& parts, Engine::How how, const std::map<int64_t, char*>& places) : parts(parts), how(how), places(places) {
        for (const Part& p : parts)
            for (const Tensor& t : p.in)
                if (t.by_value) numbers[t.uid] = element(places.at(t.uid), t.type, 0);
    }

    static Values product(const Part& p, const Values& a, const Values& b) {
        const Tensor &l = p.in[0], &r = p.in[1];
        Values y(p.out[0].size());
        const int64_t inner = l.dims[3], columns = r.dims[3];
        over(p.out[0].dims, [&](const Dims& at, int64_t i) {
            const Dims& of = p.out[0].dims;
            const double* row = &a[within(l, {at[0], at[1], at[2], 0}, {of[0], of[1], of[2], 1})];
            const double* column = &b[within(r, {at[0], at[1], 0, at[3]}, {of[0], of[1], 1, of[3]})];
            double sum = 0;
            for (int64_t k = 0; k < inner; ++k) sum += row[k] * column[k * columns];
            y[i] = sum;
        });
        return y;
    }
    static Values by_element(const Part& p, const std::vector<const Values*>& in) {
        Values y(p.out[0].size());
        over(p.out[0].dims, [&](const Dims& at, int64_t i) {
            const double a = (*in[0])[within(p.in[0], at, p.out[0].dims)];
            const double b = in.size() > 1 ? (*in[1])[within(p.in[1], at, p.out[0].dims)] : 0;
            if (p.type == CUDNN_BACKEND_OPERATION_DIAGONAL_BAND_MASK_DESCRIPTOR) y[i] = at[2] >= at[3] ? a : b;
            else if (p.mode == CUDNN_POINTWISE_ADD) y[i] = a + b;
            else if (p.mode == CUDNN_POINTWISE_SUB) y[i] = a - b;
            else if (p.mode == CUDNN_POINTWISE_MUL) y[i] = a * b;
            else y[i] = p.mode == CUDNN_POINTWISE_EXP ? std::exp(a) : a;
        });
        return y;
    }
    static std::vector<Values> softmax(const Part& p, const Values& x) {  // a row without a number above -inf gives NaN
        const int64_t width = p.in[0].dims[3], rows = p.in[0].size() / width;
        Values y(x.size()), sums(rows);
        for (int64_t row = 0; row < rows; ++row) {
            const double* from = &x[row * width];
            const double top = *std::max_element(from, from + width);
            double sum = 0;
            for (int64_t i = 0; i < width; ++i) sum += y[row * width + i] = std::exp(from[i] - top);
            for (int64_t i = 0; i < width; ++i) y[row * width + i] /= sum;
            sums[row] = top + std::log(sum);
        }
        return {y, sums};
    }
    static Values moved(const Part& p, const Values& x) {
        Values memory(p.in[0].extent()), y(x.size());
        each(p.in[0], [&](int64_t i, int64_t place) { memory[place] = x[i]; });
        each(p.out[0], [&](int64_t i, int64_t place) { y[i] = memory[place]; });
        return y;
    }
    static std::vector<Values> computed(const Part& p, const std::vector<const Values*>& in) {
        switch (p.type) {
            case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: return {product(p, *in[0], *in[1])};
            case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: return {moved(p, *in[0])};
            case CUDNN_BACKEND_OPERATION_SOFTMAX_DESCRIPTOR: return softmax(p, *in[0]);
            case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: {
                Values y(p.out[0].size(), 0.0);
                over(p.in[0].dims, [&](const Dims& at, int64_t i) { y[within(p.out[0], at, p.in[0].dims)] += (*in[0])[i]; });
                return {y};
            }
            default: return {by_element(p, in)};
        }
    }
    void operator()() const {
        static int runs = 0;
        const double factor = how == Engine::changing && ++runs % 2 ? 1.001 : 1.0;
        std::map<int64_t, Values> known;
        auto read = [&](const Tensor& t) {
            if (known.count(t.uid)) return;
            Values x(t.size());
            if (t.by_value) x[0] = numbers.at(t.uid);
            else each(t, [&](int64_t i, int64_t place) { x[i] = element(places.at(t.uid), t.type, place); });
            known[t.uid] = x;
        };
        std::set<int64_t> awaited;
        for (const Part& p : parts) for (const Tensor& t : p.out) awaited.insert(t.uid);
        std::vector<Part> left = parts;
        while (!left.empty()) {  // the frontend has them in any order
            const auto ready = std::find_if(left.begin(), left.end(), [&](const Part& p) {
                return std::none_of(p.in.begin(), p.in.end(), [&](const Tensor& t) { return awaited.count(t.uid); });
            });
            if (ready == left.end()) throw std::logic_error("a graph of cuDNN has a circle");
            const Part p = *ready;
            left.erase(ready);
            std::vector<const Values*> in;
            for (const Tensor& t : p.in) read(t);
            for (const Tensor& t : p.in) in.push_back(&known.at(t.uid));
            std::vector<Values> made = computed(p, in);
            for (size_t k = 0; k < p.out.size(); ++k) {
                const Tensor& t = p.out[k];
                for (double& x : made[k]) x = rounded(how == Engine::half_sums ? rounded(x * 1.001, CUDNN_DATA_HALF) : x * factor, t.type);
                if (!t.is_virtual) each(t, [&](int64_t i, int64_t place) { put(places.at(t.uid), t.type, place, made[k][i]); });
                known[t.uid] = made[k];
                awaited.erase(t.uid);
            }
        }
    }
};

// cuFFT: a mixed-radix transform in double precision, unnormalised as cuFFT's, over plans of any rank and layout.
#include "emulator.h"

#include <cmath>
#include <complex>
#include <map>

namespace emulator {

using Value = std::complex<double>;

enum Type { C2C = 0x29, R2C = 0x2a, C2R = 0x2c, Z2Z = 0x69, D2Z = 0x6a, Z2D = 0x6c };

struct Layout {
    std::vector<long> embedded;  // sizes of the axes in memory
    long stride = 1, distance = 0;
};
struct Plan {
    std::vector<long> n;
    Layout input, output;
    long batch = 1;
    int type = C2C;
    void* stream = nullptr;
};

static std::map<int, Plan> plans;
static int next_plan = 1;

// x_k = sum over j of from_j exp(sign 2 pi i j k / n): split by the smallest prime factor, each part transformed the same way.
static void transform(const Value* from, long step, Value* out, long n, const std::vector<Value>& roots, long root_step) {
    if (n == 1) {
        *out = *from;
        return;
    }
    long p = 2;
    while (n % p && p * p <= n) ++p;
    if (n % p) p = n;
    const long m = n / p;
    for (long r = 0; r < p; ++r) transform(from + r * step, step * p, out + r * m, m, roots, root_step * p);
    std::vector<Value> part(p);
    const long total = static_cast<long>(roots.size());
    for (long k = 0; k < m; ++k) {
        for (long r = 0; r < p; ++r) part[r] = out[r * m + k];
        for (long q = 0; q < p; ++q) {
            Value sum = part[0];
            for (long r = 1; r < p; ++r) sum += part[r] * roots[(r * (k + q * m) % n) * root_step % total];
            out[q * m + k] = sum;
        }
    }
}

static std::vector<Value> roots_of_unity(long n, int sign) {
    std::vector<Value> out(n);
    for (long k = 0; k < n; ++k) {
        const double angle = sign * 2 * 3.14159265358979323846 * double(k) / double(n);
        out[k] = {std::cos(angle), std::sin(angle)};
    }
    return out;
}

static void along_axis(std::vector<Value>& x, const std::vector<long>& n, size_t axis, int sign) {
    long inner = 1;
    for (size_t a = axis + 1; a < n.size(); ++a) inner *= n[a];
    const long length = n[axis], outer = static_cast<long>(x.size()) / (inner * length);
    const auto roots = roots_of_unity(length, sign);
    std::vector<Value> line(length), result(length);
    for (long o = 0; o < outer; ++o)
        for (long i = 0; i < inner; ++i) {
            Value* start = x.data() + o * length * inner + i;
            for (long k = 0; k < length; ++k) line[k] = start[k * inner];
            transform(line.data(), 1, result.data(), length, roots, 1);
            for (long k = 0; k < length; ++k) start[k * inner] = result[k];
        }
}

static long offset(const Layout& layout, const std::vector<long>& index) {
    long at = 0;
    for (size_t a = 0; a < index.size(); ++a) at = at * (a ? layout.embedded[a] : 1) + index[a];
    return at * layout.stride;
}

// Calls visit(index, position) for every index below n.
template <class F>
void for_each(const std::vector<long>& n, F visit) {
    long total = 1;
    for (long size : n) total *= size;
    std::vector<long> index(n.size());
    for (long flat = 0; flat < total; ++flat) {
        long rest = flat;
        for (size_t a = n.size(); a-- > 0;) {
            index[a] = rest % n[a];
            rest /= n[a];
        }
        visit(index, flat);
    }
}

template <class T>
void run_plan(const Plan& plan, const void* in, void* out, int sign) {
    const bool from_real = plan.type == R2C || plan.type == D2Z, to_real = plan.type == C2R || plan.type == Z2D;
    std::vector<long> half = plan.n;
    half.back() = half.back() / 2 + 1;
    long size = 1;
    for (long n : plan.n) size *= n;
    for (long b = 0; b < plan.batch; ++b) {
        std::vector<Value> x(size);
        for_each(plan.n, [&](std::vector<long> index, long flat) {
            if (from_real) {
                x[flat] = static_cast<const T*>(in)[b * plan.input.distance + offset(plan.input, index)];
                return;
            }
            const bool mirrored = to_real && index.back() >= half.back();  // given by symmetry
            if (mirrored)
                for (size_t a = 0; a < index.size(); ++a) index[a] = (plan.n[a] - index[a]) % plan.n[a];
            const auto value = static_cast<const std::complex<T>*>(in)[b * plan.input.distance + offset(plan.input, index)];
            x[flat] = mirrored ? std::conj(Value(value)) : Value(value);
        });
        for (size_t axis = 0; axis < plan.n.size(); ++axis) along_axis(x, plan.n, axis, sign);
        for_each(plan.n, [&](const std::vector<long>& index, long flat) {
            if (from_real && index.back() >= half.back()) return;
            const long at = b * plan.output.distance + offset(plan.output, index);
            if (to_real)
                static_cast<T*>(out)[at] = static_cast<T>(x[flat].real());
            else
                static_cast<std::complex<T>*>(out)[at] = std::complex<T>(x[flat]);
        });
    }
}

static int execute_plan(int handle, const char* name, const void* in, void* out, int sign) {
    Guard guard(lock);
    const auto found = plans.find(handle);
    if (found == plans.end()) return 1;  // CUFFT_INVALID_PLAN
    const Plan plan = found->second;
    submit(plan.stream, "launch", name, [=] {
        plan.type >= Z2Z ? run_plan<double>(plan, in, out, sign) : run_plan<float>(plan, in, out, sign);
    });
    return 0;
}

static Layout layout_of(const std::vector<long>& n, const int* embedded, int stride, int distance, bool halved) {
    Layout layout{n, 1, 0};
    if (halved) layout.embedded.back() = n.back() / 2 + 1;
    if (embedded) {
        layout.embedded.assign(embedded, embedded + n.size());
        layout.stride = stride;
        layout.distance = distance;
        return layout;
    }
    layout.distance = 1;
    for (long size : layout.embedded) layout.distance *= size;
    return layout;
}

static int make_plan(int handle, std::vector<long> n, const int* inembed, int istride, int idist, const int* onembed, int ostride,
                     int odist, int type, int batch, size_t* work) {
    Guard guard(lock);
    const auto found = plans.find(handle);
    if (found == plans.end()) return 1;
    Plan& plan = found->second;
    plan.n = std::move(n);
    plan.type = type;
    plan.batch = batch;
    plan.input = layout_of(plan.n, inembed, istride, idist, type == C2R || type == Z2D);
    plan.output = layout_of(plan.n, onembed, ostride, odist, type == R2C || type == D2Z);
    *work = 0;
    return 0;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

int cufftGetVersion(int* version) { return *version = 11401, 0; }
int cufftCreate(int* out) {
    Guard guard(lock);
    plans[*out = next_plan++];
    return 0;
}
int cufftDestroy(int handle) {
    Guard guard(lock);
    return plans.erase(handle) ? 0 : 1;
}
int cufftSetAutoAllocation(int, int) { return 0; }
int cufftSetWorkArea(int, void*) { return 0; }
int cufftSetStream(int handle, void* stream) {
    Guard guard(lock);
    const auto found = plans.find(handle);
    return found == plans.end() ? 1 : (found->second.stream = stream, 0);
}
int cufftMakePlan1d(int handle, int n, int type, int batch, size_t* work) {
    return make_plan(handle, {n}, nullptr, 1, 0, nullptr, 1, 0, type, batch, work);
}
int cufftMakePlanMany(int handle, int rank, int* n, int* inembed, int istride, int idist, int* onembed, int ostride, int odist,
                      int type, int batch, size_t* work) {
    return make_plan(handle, {n, n + rank}, inembed, istride, idist, onembed, ostride, odist, type, batch, work);
}
int cufftExecC2C(int plan, void* in, void* out, int sign) { return execute_plan(plan, "cufftExecC2C", in, out, sign); }
int cufftExecZ2Z(int plan, void* in, void* out, int sign) { return execute_plan(plan, "cufftExecZ2Z", in, out, sign); }
int cufftExecR2C(int plan, void* in, void* out) { return execute_plan(plan, "cufftExecR2C", in, out, -1); }
int cufftExecD2Z(int plan, void* in, void* out) { return execute_plan(plan, "cufftExecD2Z", in, out, -1); }
int cufftExecC2R(int plan, void* in, void* out) { return execute_plan(plan, "cufftExecC2R", in, out, 1); }
int cufftExecZ2D(int plan, void* in, void* out) { return execute_plan(plan, "cufftExecZ2D", in, out, 1); }

}

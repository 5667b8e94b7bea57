// Memory: allocations of a device (ordinary memory, filled with 0xA5 so that nothing read before it was written looks right),
// page-locked memory of the host, and copies. A device holds CUDA_EMULATOR_MEMORY bytes.
#include "emulator.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <map>

namespace emulator {

static std::map<const char*, Allocation> allocations;  // by address
static std::map<int, size_t> used;                      // bytes, by device

Allocation find(const void* pointer) {
    Guard guard(lock);
    auto next = allocations.upper_bound(static_cast<const char*>(pointer));
    if (next != allocations.begin()) {
        const Allocation& found = (--next)->second;
        if (static_cast<const char*>(pointer) < found.base + found.size) return found;
    }
    return {};
}

void check_argument(const char* kernel, const void* bytes, size_t size) {
    void* value;
    if (device_count() < 2 || size < sizeof value) return;
    // A pointer is an argument of its own, or the first thing in an array of CuPy's; what is between the others and behind them is whatever
    // lay there, half of an old pointer, too.
    memcpy(&value, bytes, sizeof value);
    const Allocation found = find(value);
    if (found.place == Place::device && found.device != current_device())
        record("foreign pointer", std::string(kernel) + " on device " + std::to_string(current_device()) +
                                      " reads memory of device " + std::to_string(found.device));
}

static int allocate(void** out, size_t size, Place place) {
    Guard guard(lock);
    const int device = place == Place::pinned ? -1 : current_device();
    if (device >= 0 && used[device] + size > memory_of_a_device()) return cudaErrorMemoryAllocation;
    const size_t rounded = (size + 511) / 512 * 512;
    char* base = static_cast<char*>(aligned_alloc(512, rounded ? rounded : 512));
    if (!base) return cudaErrorMemoryAllocation;
    memset(base, 0xA5, size);
    used[device] += size;
    allocations[base] = {base, size, place, device};
    record(device >= 0 ? "allocate" : "allocate pinned", std::to_string(size));
    *out = base;
    return cudaSuccess;
}

static int release(void* pointer) {
    if (!pointer) return cudaSuccess;
    Guard guard(lock);
    finish_device();
    auto found = allocations.find(static_cast<char*>(pointer));
    if (found == allocations.end()) return cudaErrorInvalidValue;
    used[found->second.device] -= found->second.size;
    allocations.erase(found);
    free(pointer);
    record("free");
    return cudaSuccess;
}

static std::string direction(const void* to, const void* from) {
    const Allocation target = find(to), source = find(from);
    const bool there = target.device >= 0, here = source.device >= 0;
    if (there && here) return target.device == source.device ? "DtoD" : "PtoP";
    return here ? (target.place == Place::pinned ? "DtoH pinned" : "DtoH") : there ? "HtoD" : "HtoH";
}

static int copy_now(void* to, const void* from, size_t size) {
    if (refuse_while_capturing(nullptr, "cudaMemcpy")) return cudaErrorStreamCaptureUnsupported;
    record("synchronize", "cudaMemcpy " + direction(to, from));
    finish_stream(nullptr);
    memcpy(to, from, size);
    return cudaSuccess;
}

static int copy_in_stream(void* to, const void* from, size_t size, void* stream) {
    // Memory of the host that is not page-locked is read, or written, before the call returns.
    const bool captured = capturing(stream), pageable = find(from).place == Place::pageable;
    if (pageable && !captured) {
        const char* bytes = static_cast<const char*>(from);
        submit(stream, "copy", direction(to, from), [to, kept = std::vector<char>(bytes, bytes + size)] { memcpy(to, kept.data(), kept.size()); });
    } else {
        submit(stream, "copy", direction(to, from), [=] { memcpy(to, from, size); });
    }
    if (!captured && find(to).place == Place::pageable) finish_stream(stream);
    return cudaSuccess;
}

}  // namespace emulator

using namespace emulator;
#define STATUS(expression) static_cast<cudaError_t>(expression)

extern "C" {

cudaError_t cudaMalloc(void** out, size_t size) { return STATUS(allocate(out, size, Place::device)); }
cudaError_t cudaMallocAsync(void** out, size_t size, cudaStream_t) { return cudaMalloc(out, size); }
cudaError_t cudaMallocManaged(void** out, size_t size, unsigned) { return STATUS(allocate(out, size, Place::managed)); }
cudaError_t cudaHostAlloc(void** out, size_t size, unsigned) { return STATUS(allocate(out, size, Place::pinned)); }
cudaError_t cudaFree(void* pointer) { return STATUS(release(pointer)); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return STATUS(release(pointer)); }
cudaError_t cudaFreeHost(void* pointer) { return STATUS(release(pointer)); }

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    Guard guard(lock);
    *total = memory_of_a_device();
    *available = *total - used[current_device()];
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) { return STATUS(copy_now(to, from, size)); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t stream) {
    return STATUS(copy_in_stream(to, from, size, stream));
}
cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t size) { return STATUS(copy_now(to, from, size)); }
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t stream) {
    return STATUS(copy_in_stream(to, from, size, stream));
}
cudaError_t cudaMemset(void* to, int value, size_t size) {
    return cudaMemsetAsync(to, value, size, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream) {
    submit(stream, "memset", "", [=] { memset(to, value, size); });
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
    const Allocation found = find(pointer);
    memset(out, 0, sizeof *out);
    out->device = found.device < 0 ? 0 : found.device;
    out->devicePointer = found.device < 0 ? nullptr : const_cast<void*>(pointer);
    out->hostPointer = found.device < 0 ? const_cast<void*>(pointer) : nullptr;
    out->type = found.place == Place::pageable ? cudaMemoryTypeUnregistered
                : found.place == Place::pinned ? cudaMemoryTypeHost
                : found.place == Place::device ? cudaMemoryTypeDevice
                                               : cudaMemoryTypeManaged;
    return cudaSuccess;
}

}

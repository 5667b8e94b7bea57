// The devices: how many (CUDA_EMULATOR_DEVICES), what they say of themselves, and which one a thread uses.
#include "emulator.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#undef cudaGetDeviceProperties

namespace emulator {

static thread_local int current = 0;
static std::set<std::pair<int, int>> peers;

static size_t number(const char* variable, size_t standard) {
    const char* text = getenv(variable);
    return text && *text ? strtoull(text, nullptr, 10) : standard;
}

int device_count() {
    static const int count = static_cast<int>(number("CUDA_EMULATOR_DEVICES", 1));
    return count;
}

int current_device() { return current; }

size_t memory_of_a_device() {
    static const size_t size = number("CUDA_EMULATOR_MEMORY", size_t(16) << 30);
    return size;
}

static const char* name_of(int error) {
    switch (error) {
        case 0: return "cudaSuccess";
        case 1: return "cudaErrorInvalidValue";
        case 2: return "cudaErrorMemoryAllocation";
        case 100: return "cudaErrorNoDevice";
        case 101: return "cudaErrorInvalidDevice";
        case 200: return "cudaErrorInvalidKernelImage";
        case 400: return "cudaErrorInvalidResourceHandle";
        case 600: return "cudaErrorNotReady";
        case 500: return "cudaErrorSymbolNotFound";
        case 704: return "cudaErrorPeerAccessAlreadyEnabled";
        case 719: return "cudaErrorLaunchFailure";
        case 801: return "cudaErrorNotSupported";
        case 900: return "cudaErrorStreamCaptureUnsupported";
        case 901: return "cudaErrorStreamCaptureInvalidated";
        case 903: return "cudaErrorStreamCaptureUnmatched";
        case 904: return "cudaErrorStreamCaptureUnjoined";
        case 905: return "cudaErrorStreamCaptureIsolation";
        default: return "cudaErrorUnknown";
    }
}

static const char* message_of(int error) {
    switch (error) {
        case 0: return "no error";
        case 1: return "invalid argument";
        case 2: return "out of memory";
        case 100: return "no CUDA-capable device is detected";
        case 101: return "invalid device ordinal";
        case 200: return "device kernel image is invalid";
        case 400: return "invalid resource handle";
        case 600: return "device not ready";
        case 500: return "named symbol not found";
        case 704: return "peer access is already enabled";
        case 719: return "unspecified launch failure";
        case 801: return "operation not supported by the CUDA emulator";
        case 900: return "operation not permitted when stream is capturing";
        case 901: return "operation failed due to a previous error during capture";
        default: return "unknown error";
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) { return name_of(error); }
const char* cudaGetErrorString(cudaError_t error) { return message_of(error); }
cudaError_t cudaGetLastError() { return cudaSuccess; }
int cuGetErrorName(int error, const char** out) { return *out = name_of(error), 0; }
int cuGetErrorString(int error, const char** out) { return *out = message_of(error), 0; }

cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
    *count = device_count();
    return *count ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    if (device != current) record("device", std::to_string(device));
    current = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    switch (attribute) {  // of an H100
        case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
        case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
        case cudaDevAttrMultiProcessorCount: *value = 132; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 233472; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
        case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ: *value = 65535; break;
        case cudaDevAttrMaxBlockDimX:
        case cudaDevAttrMaxBlockDimY: *value = 1024; break;
        case cudaDevAttrMaxBlockDimZ: *value = 64; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMemoryPoolsSupported: *value = 0; break;
        default: *value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties_v2(cudaDeviceProp* out, int device) {
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    memset(out, 0, sizeof *out);
    strcpy(out->name, "CUDA emulator");
    out->totalGlobalMem = memory_of_a_device();
    out->major = 9;
    out->warpSize = 32;
    out->multiProcessorCount = 132;
    out->maxThreadsPerBlock = 1024;
    out->maxThreadsPerMultiProcessor = 2048;
    out->sharedMemPerBlock = 49152;
    out->sharedMemPerBlockOptin = 232448;
    out->regsPerBlock = 65536;
    out->pciDeviceID = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* out, int length, int device) {
    if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
    snprintf(out, length, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    if (refuse_while_any_captures("cudaDeviceSynchronize")) return cudaErrorStreamCaptureUnsupported;
    record("synchronize", "cudaDeviceSynchronize");
    finish_device();
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, cudaSuccess; }

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
    Guard guard(lock);
    record("peer access", std::to_string(current) + " to " + std::to_string(peer));
    return peers.insert({current, peer}).second ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
}

// Contexts: a device has one.
int cuInit(unsigned) { return device_count() ? 0 : 100; }
int cuDriverGetVersion(int* version) { return *version = CUDART_VERSION, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxGetCurrent(void** context) { return *context = reinterpret_cast<void*>(size_t(1024) + current), 0; }
int cuCtxSetCurrent(void* context) {
    return context ? cudaSetDevice(static_cast<int>(reinterpret_cast<size_t>(context) - 1024)) : 0;
}
int cuCtxGetDevice(int* device) { return *device = current, 0; }

}

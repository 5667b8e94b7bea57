// What the files of the emulator share. Each file has one subject; the CUDA functions themselves are `extern "C"` in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace emulator {

// One lock for all state: CuPy calls without the interpreter's lock, from any thread.
extern std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;

// ---- log.cpp: what was asked of the device, in the order of the calls ----

void record(const char* kind, const std::string& detail = "");
void record_place(const std::string& now);
int unsupported(const char* function);  // recorded and said on standard error; the answer is cudaErrorNotSupported

// ---- devices.cpp ----

int device_count();
int current_device();  // of this thread
size_t memory_of_a_device();

// ---- memory.cpp ----

enum class Place { pageable, pinned, device, managed };
struct Allocation {
    char* base = nullptr;
    size_t size = 0;
    Place place = Place::pageable;
    int device = -1;
};
Allocation find(const void* pointer);                          // of which it is a part; pageable where of none
void check_argument(const char* kernel, const void* bytes, size_t size);  // records pointers into another device's memory

// ---- streams.cpp ----

using Work = std::function<void()>;
// Runs the work now, or keeps it where the stream is being captured. `kind` is how it is recorded.
void submit(void* stream, const char* kind, const std::string& detail, Work work);
// Runs what was submitted before: what the host is about to read, or memory that it is about to free.
void finish_stream(void* stream);
void finish_device();
bool capturing(void* stream);
bool refuse_while_capturing(void* stream, const char* function);  // true, and the capture is invalid, where it is captured
bool refuse_while_any_captures(const char* function);

// ---- execution.cpp ----

struct Dim {
    unsigned x, y, z;
};
struct Kernel;  // device/kernel.h: what a compiled kernel tells of itself
// Runs every thread of every block. False where the threads of a block wait for each other for ever.
bool execute(const Kernel& kernel, const std::string& name, Dim grid, Dim block, size_t shared_bytes, void** arguments);

// ---- blas.cpp ----

// C = alpha op(A) op(B) + beta C of matrices by columns, now; `type` as cudaDataType counts them. False where the type is not known.
bool any_product(int type, bool half_scalars, int opa, int opb, int m, int n, int k, const void* alpha, const void* a, int lda, const void* b,
                 int ldb, const void* beta, void* c, int ldc);

}  // namespace emulator

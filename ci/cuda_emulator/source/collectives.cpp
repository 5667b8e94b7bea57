// NCCL: processes with a device each add up their arrays through memory that they share. The sums are made in the order of the ranks.
#include "emulator.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace {

enum Result { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6, NOT_SUPPORTED = 801 };
enum Type { INT8, UINT8, INT32, UINT32, INT64, UINT64, FLOAT16, FLOAT32, FLOAT64, BFLOAT16 };
enum Operation { SUM, PROD, MAX, MIN, AVG };
enum class Call : int { none, all_reduce, broadcast, reduce_scatter, all_gather };

struct UniqueId {
    char internal[128];
};

// What a rank is asked for: all must be asked for the same.
struct Request {
    Call call;
    size_t count;
    int type, operation, root;
    bool operator==(const Request& o) const {
        return call == o.call && count == o.count && type == o.type && operation == o.operation && root == o.root;
    }
};

constexpr size_t SLOT = 1 << 20;  // bytes that a rank shows the others at once
constexpr int MOST = 64;          // ranks

// The memory that the ranks share; of zeros when it is new.
struct Shared {
    std::atomic<uint32_t> arrived, round, joined, aborted;
    int devices[MOST];
    Request requests[MOST];
    char slots[][SLOT];
};

struct Communicator {
    Shared* shared;
    size_t size;
    int ranks, rank, device;
    std::atomic<bool> aborted{false};
};

size_t size_of(int type) {
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return sizes[type];
}

bool stopped(const Communicator& c) { return c.aborted || c.shared->aborted; }

void nap() {
    timespec pause{0, 50000};
    nanosleep(&pause, nullptr);
}

// Returns when all ranks have come here; false where one has aborted. On the device other threads may ask it things meanwhile.
bool meet(Communicator& c, bool on_device) {
    Shared& s = *c.shared;
    uint32_t round = s.round;
    if (++s.arrived == uint32_t(c.ranks)) {
        s.arrived = 0;
        ++s.round;
        return !stopped(c);
    }
    while (s.round == round) {
        if (stopped(c)) return false;
        if (on_device) emulator::lock.unlock();
        nap();
        if (on_device) emulator::lock.lock();
    }
    return !stopped(c);
}

float from_bfloat16(uint16_t bits) {
    uint32_t wide = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

uint16_t to_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (value != value) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T, class Wide = T>
Wide joined(Wide a, Wide b, int operation) {
    switch (operation) {
        case PROD: return a * b;
        case MAX: return b > a ? b : a;
        case MIN: return b < a ? b : a;
        default: return a + b;
    }
}

template <class T, class Wide>
void fold(const Communicator& c, size_t at, size_t n, int operation, void* out, Wide (*wide)(T), T (*narrow)(Wide)) {
    for (size_t i = 0; i < n; ++i) {
        Wide total = wide(reinterpret_cast<const T*>(c.shared->slots[0] + at)[i]);
        for (int r = 1; r < c.ranks; ++r)
            total = joined<T, Wide>(total, wide(reinterpret_cast<const T*>(c.shared->slots[r] + at)[i]), operation);
        if (operation == AVG) total = Wide(total / Wide(c.ranks));
        static_cast<T*>(out)[i] = narrow(total);
    }
}

template <class T>
void fold_plain(const Communicator& c, size_t at, size_t n, int operation, void* out) {
    fold<T, T>(c, at, n, operation, out, +[](T x) { return x; }, +[](T x) { return x; });
}

// The result of n numbers that lie `at` so many bytes within each rank's slot.
void fold_any(const Communicator& c, size_t at, size_t n, int type, int operation, void* out) {
    switch (type) {
        case INT8: return fold_plain<int8_t>(c, at, n, operation, out);
        case UINT8: return fold_plain<uint8_t>(c, at, n, operation, out);
        case INT32: return fold_plain<int32_t>(c, at, n, operation, out);
        case UINT32: return fold_plain<uint32_t>(c, at, n, operation, out);
        case INT64: return fold_plain<int64_t>(c, at, n, operation, out);
        case UINT64: return fold_plain<uint64_t>(c, at, n, operation, out);
        case FLOAT32: return fold_plain<float>(c, at, n, operation, out);
        case FLOAT64: return fold_plain<double>(c, at, n, operation, out);
        case FLOAT16:
            return fold<_Float16, float>(c, at, n, operation, out, +[](_Float16 x) { return float(x); },
                                         +[](float x) { return _Float16(x); });
        default: return fold<uint16_t, float>(c, at, n, operation, out, from_bfloat16, to_bfloat16);
    }
}

// One rank's part of a call, on the host; `count` is NCCL's.
void collect(Communicator& c, const Request& wanted, const char* send, char* receive) {
    Shared& s = *c.shared;
    s.requests[c.rank] = wanted;
    if (!meet(c, true)) return;
    for (int r = 0; r < c.ranks; ++r)
        if (!(s.requests[r] == wanted)) {
            fprintf(stderr, "CUDA emulator: NCCL's ranks 0 and %d make different calls\n", r);
            s.aborted = 1;
            return;
        }
    size_t each = size_of(wanted.type);
    bool scatters = wanted.call == Call::reduce_scatter;
    size_t total = wanted.count * (scatters ? c.ranks : 1);  // numbers that each rank sends
    size_t own = wanted.count * c.rank;                       // where the part of this rank begins
    for (size_t from = 0; from < total; from += SLOT / each) {
        size_t n = std::min(total - from, SLOT / each);
        if (wanted.call != Call::broadcast || c.rank == wanted.root) memcpy(s.slots[c.rank], send + from * each, n * each);
        if (!meet(c, true)) return;
        switch (wanted.call) {
            case Call::all_reduce: fold_any(c, 0, n, wanted.type, wanted.operation, receive + from * each); break;
            case Call::broadcast: memcpy(receive + from * each, s.slots[wanted.root], n * each); break;
            case Call::all_gather:
                for (int r = 0; r < c.ranks; ++r)
                    memcpy(receive + (r * wanted.count + from) * each, s.slots[r], n * each);
                break;
            default: {
                size_t begin = std::max(from, own), end = std::min(from + n, own + wanted.count);
                if (begin < end)
                    fold_any(c, (begin - from) * each, end - begin, wanted.type, wanted.operation, receive + (begin - own) * each);
            }
        }
        if (!meet(c, true)) return;
    }
}

int queue(const char* name, Communicator* c, Request wanted, const void* send, void* receive, void* stream) {
    if (!c) return INVALID_ARGUMENT;
    if (wanted.type < INT8 || wanted.type > BFLOAT16 || wanted.operation < SUM || wanted.operation > AVG) return INVALID_ARGUMENT;
    if (wanted.root < 0 || wanted.root >= c->ranks) return INVALID_ARGUMENT;
    if (stopped(*c)) return REMOTE_ERROR;
    for (const void* pointer : {send, static_cast<const void*>(receive)}) {
        emulator::Allocation found = emulator::find(pointer);
        if (wanted.count && (found.place != emulator::Place::device || found.device != c->device)) {
            emulator::record("foreign pointer", name);
            return INVALID_ARGUMENT;
        }
    }
    emulator::submit(stream, "collective", name, [=] {
        collect(*c, wanted, static_cast<const char*>(send), static_cast<char*>(receive));
    });
    return stopped(*c) ? REMOTE_ERROR : SUCCESS;
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) { return *version = 22705, SUCCESS; }

const char* ncclGetErrorString(int result) {
    switch (result) {
        case SUCCESS: return "no error";
        case SYSTEM_ERROR: return "unhandled system error";
        case INVALID_ARGUMENT: return "invalid argument";
        case INVALID_USAGE: return "invalid usage";
        case REMOTE_ERROR: return "remote process exited or there was a network error";
        case NOT_SUPPORTED: return "not supported by the CUDA emulator";
        default: return "unknown result code";
    }
}

int ncclGetUniqueId(UniqueId* id) {
    static std::atomic<int> made{0};
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/cuda_emulator_nccl_%d_%d_%ld", getpid(), made++, now.tv_nsec);
    return SUCCESS;
}

int ncclCommInitRank(void** out, int ranks, UniqueId id, int rank) {
    if (ranks < 1 || ranks > MOST || rank < 0 || rank >= ranks) return INVALID_ARGUMENT;
    size_t size = sizeof(Shared) + ranks * SLOT;
    int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, off_t(size)) != 0) return SYSTEM_ERROR;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return SYSTEM_ERROR;
    auto* c = new Communicator{static_cast<Shared*>(memory), size, ranks, rank, emulator::current_device()};
    c->shared->devices[rank] = c->device;
    bool all = meet(*c, false);
    if (rank == 0) shm_unlink(id.internal);
    for (int r = 0; all && r < ranks; ++r)
        if (r != rank && c->shared->devices[r] == c->device) {  // NCCL: "Duplicate GPU detected"
            munmap(memory, size);
            delete c;
            return INVALID_USAGE;
        }
    *out = c;
    return all ? SUCCESS : REMOTE_ERROR;
}

int ncclCommInitRankConfig(void** out, int ranks, UniqueId id, int rank, void*) { return ncclCommInitRank(out, ranks, id, rank); }

int ncclCommDestroy(Communicator* c) {
    if (c) munmap(c->shared, c->size);
    delete c;
    return SUCCESS;
}

// Calls of this rank that wait for the others return; the memory stays, since another thread may be in such a call.
int ncclCommAbort(Communicator* c) {
    if (c) c->aborted = true;
    return SUCCESS;
}

int ncclCommGetAsyncError(Communicator* c, int* result) { return *result = stopped(*c) ? REMOTE_ERROR : SUCCESS, SUCCESS; }
int ncclCommCount(Communicator* c, int* count) { return *count = c->ranks, SUCCESS; }
int ncclCommUserRank(Communicator* c, int* rank) { return *rank = c->rank, SUCCESS; }
int ncclCommCuDevice(Communicator* c, int* device) { return *device = c->device, SUCCESS; }
int ncclGroupStart() { return SUCCESS; }
int ncclGroupEnd() { return SUCCESS; }

int ncclAllReduce(const void* send, void* receive, size_t count, int type, int operation, Communicator* c, void* stream) {
    return queue("ncclAllReduce", c, {Call::all_reduce, count, type, operation, 0}, send, receive, stream);
}

int ncclBroadcast(const void* send, void* receive, size_t count, int type, int root, Communicator* c, void* stream) {
    return queue("ncclBroadcast", c, {Call::broadcast, count, type, SUM, root}, send, receive, stream);
}

int ncclReduceScatter(const void* send, void* receive, size_t count, int type, int operation, Communicator* c, void* stream) {
    return queue("ncclReduceScatter", c, {Call::reduce_scatter, count, type, operation, 0}, send, receive, stream);
}

int ncclAllGather(const void* send, void* receive, size_t count, int type, Communicator* c, void* stream) {
    return queue("ncclAllGather", c, {Call::all_gather, count, type, SUM, 0}, send, receive, stream);
}

}

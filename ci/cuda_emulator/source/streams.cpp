// Streams, events, and capture. Work runs when it is submitted; what is submitted to a stream between begin and end of a capture
// is kept and runs when the graph is launched. What CUDA refuses during a capture is refused, and spoils the capture.
// cuda_emulator_late has the work of some streams run as late as CUDA may: when it is waited for.
#include "emulator.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <set>

namespace emulator {

struct Stream;
using Reached = std::map<Stream*, uint64_t>;  // of each stream of a capture, how many of its works come before
struct Capture {
    std::vector<std::pair<std::string, Work>> nodes;
    bool spoilt = false;
    Stream* origin = nullptr;
    Reached works;  // of each stream, how many it has
};
struct Stream {
    unsigned flags = 0;
    int priority = 0, device = 0;
    std::shared_ptr<Capture> capture;
    Reached behind;         // in a capture: what its next work waits for
    std::deque<Work> late;  // what was submitted and did not run yet
    uint64_t done = 0;      // how many works have run
    bool running = false;   // one is: a call of NCCL, which lets go of the lock while it waits for other processes
};
struct Event {
    std::shared_ptr<Capture> capture;
    Reached behind;          // in a capture: what it waits for
    void* stream = nullptr;  // where it was recorded, and behind how many works
    uint64_t after = 0;
    std::chrono::steady_clock::time_point at;
};

static std::set<Stream*> streams;
static std::set<Event*> events;
static Stream legacy;  // the default stream: nullptr, and the special handles 1 and 2

static Stream* stream_of(void* handle) {
    if (reinterpret_cast<size_t>(handle) <= 2) return &legacy;
    auto* stream = static_cast<Stream*>(handle);
    return streams.count(stream) ? stream : nullptr;
}

bool capturing(void* handle) {
    Guard guard(lock);
    const Stream* stream = stream_of(handle);
    return stream && stream->capture;
}

static bool refuse(const std::vector<Stream*>& asked, const char* function) {
    bool refused = false;
    for (Stream* stream : asked)
        if (stream && stream->capture) stream->capture->spoilt = refused = true;
    if (refused) record("refused in a capture", function);
    return refused;
}

bool refuse_while_capturing(void* handle, const char* function) {
    Guard guard(lock);
    std::vector<Stream*> asked = {stream_of(handle)};
    // The default stream waits for every blocking stream, so it may not be waited for while one of them is captured.
    if (asked[0] == &legacy)
        for (Stream* other : streams)
            if (!(other->flags & cudaStreamNonBlocking)) asked.push_back(other);
    return refuse(asked, function);
}

bool refuse_while_any_captures(const char* function) {
    Guard guard(lock);
    return refuse({streams.begin(), streams.end()}, function);
}

// ---- work that runs late ----

enum Late { non_blocking_streams = 1, blocking_streams = 2 };
static int late = 0;  // which of them, added up

static bool runs_late(const Stream* stream) {
    return late & (stream->flags & cudaStreamNonBlocking ? non_blocking_streams : blocking_streams);
}

static void reach(Stream* stream, uint64_t work) {
    while (stream && !stream->running && stream->done < work && !stream->late.empty()) {
        const Work next = std::move(stream->late.front());
        stream->running = true;
        next();
        stream->running = false;
        stream->late.pop_front();
        ++stream->done;
    }
}
static void finish(Stream* stream) {
    if (stream) reach(stream, stream->done + stream->late.size());
}
static void finish_all() {
    finish(&legacy);
    for (Stream* stream : std::set<Stream*>(streams)) finish(stream);
}
// The default stream and the blocking ones wait for each other.
static void finish_those_before(Stream* stream) {
    if (stream == &legacy) {
        for (Stream* other : std::set<Stream*>(streams))
            if (!(other->flags & cudaStreamNonBlocking)) finish(other);
    } else if (!(stream->flags & cudaStreamNonBlocking)) {
        finish(&legacy);
    }
}
static void enqueue(Stream* stream, Work work) {
    if (!stream) return work();
    finish_those_before(stream);
    if (runs_late(stream)) {
        stream->late.push_back(std::move(work));
        return;
    }
    finish(stream);
    ++stream->done;
    work();
}

void finish_stream(void* handle) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (stream) finish_those_before(stream);
    finish(stream);
}
void finish_device() {
    Guard guard(lock);
    finish_all();
}

// A line before the first of several works on one stream.
static void record_stream(const Stream* stream) {
    if (stream == &legacy) return record_place("the default stream");
    if (!stream) return;
    const char* kind = stream->flags & cudaStreamNonBlocking ? "non-blocking" : "blocking";
    record_place(std::string("a ") + kind + " stream " + std::to_string(reinterpret_cast<size_t>(stream)));
}

void submit(void* handle, const char* kind, const std::string& detail, Work work) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (stream && stream->capture) {
        record("captured", std::string(kind) + " " + detail);
        stream->capture->nodes.emplace_back(detail, std::move(work));
        stream->behind[stream] = ++stream->capture->works[stream];
    } else {
        record_stream(stream);
        record(kind, detail);
        enqueue(stream, std::move(work));
    }
}

static int new_stream(cudaStream_t* out, unsigned flags, int priority) {
    Guard guard(lock);
    auto* stream = new Stream{flags, priority, current_device(), nullptr, {}};
    streams.insert(stream);
    *out = reinterpret_cast<cudaStream_t>(stream);
    return cudaSuccess;
}

static int wait_for(void* handle, const char* function) {
    if (!stream_of(handle)) return cudaErrorInvalidResourceHandle;
    if (refuse_while_capturing(handle, function)) return cudaErrorStreamCaptureUnsupported;
    record("synchronize", function);
    finish_stream(handle);
    return cudaSuccess;
}

}  // namespace emulator

using namespace emulator;
#define STATUS(expression) static_cast<cudaError_t>(expression)

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* out) { return STATUS(new_stream(out, 0, 0)); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) { return STATUS(new_stream(out, flags, 0)); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int priority) {
    return STATUS(new_stream(out, flags, priority));
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    Guard guard(lock);
    auto* stream = reinterpret_cast<Stream*>(handle);
    if (!streams.count(stream)) return cudaErrorInvalidResourceHandle;
    finish(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
    const Stream* stream = stream_of(handle);
    return stream ? (*flags = stream->flags, cudaSuccess) : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
    const Stream* stream = stream_of(handle);
    return stream ? (*priority = stream->priority, cudaSuccess) : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) { return STATUS(wait_for(handle, "cudaStreamSynchronize")); }
cudaError_t cudaStreamQuery(cudaStream_t handle) {
    if (refuse_while_capturing(handle, "cudaStreamQuery")) return cudaErrorStreamCaptureUnsupported;
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (!stream || stream->late.empty()) return cudaSuccess;
    reach(stream, stream->done + 1);  // who asks again and again sees an end
    return cudaErrorNotReady;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    submit(stream, "host function", "", [=] { function(data); });
    return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void* data, unsigned) {
    if (refuse_while_capturing(stream, "cudaStreamAddCallback")) return cudaErrorStreamCaptureUnsupported;
    submit(stream, "host function", "", [=] { function(stream, cudaSuccess, data); });
    return cudaSuccess;
}
int cuStreamGetCtx(void* handle, void** context) {
    const Stream* stream = stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const int device = stream == &legacy ? current_device() : stream->device;
    *context = reinterpret_cast<void*>(size_t(1024) + device);
    return 0;
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
    Guard guard(lock);
    auto* event = new Event;
    events.insert(event);
    *out = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t handle) {
    Guard guard(lock);
    auto* event = reinterpret_cast<Event*>(handle);
    if (!events.erase(event)) return cudaErrorInvalidResourceHandle;
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
    Guard guard(lock);
    auto* event = reinterpret_cast<Event*>(handle);
    Stream* recorded = stream_of(stream);
    if (!events.count(event) || !recorded) return cudaErrorInvalidResourceHandle;
    if (!recorded->capture) finish_those_before(recorded);
    event->capture = recorded->capture;
    event->behind = recorded->behind;
    event->stream = stream;
    event->after = recorded->done + recorded->late.size();
    event->at = std::chrono::steady_clock::now();
    record("event");
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t waited, unsigned) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    auto* event = reinterpret_cast<Event*>(waited);
    if (!events.count(event) || !stream) return cudaErrorInvalidResourceHandle;
    if (event->capture && !stream->capture) {  // the stream joins the capture
        stream->capture = event->capture;
        stream->behind.clear();
    }
    if (stream->capture && event->stream && event->capture != stream->capture) {  // what is outside is no part of a graph
        stream->capture->spoilt = true;
        record("refused in a capture", "cudaStreamWaitEvent");
        return cudaErrorStreamCaptureIsolation;
    }
    record("wait for an event");
    if (stream->capture) {
        for (const auto& [other, works] : event->behind) stream->behind[other] = std::max(stream->behind[other], works);
        return cudaSuccess;
    }
    const auto wait = [from = event->stream, after = event->after] { reach(stream_of(from), after); };
    if (runs_late(stream))
        stream->late.push_back(wait);
    else
        wait();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
    Guard guard(lock);
    auto* event = reinterpret_cast<Event*>(handle);
    if (!events.count(event)) return cudaErrorInvalidResourceHandle;
    Stream* stream = stream_of(event->stream);
    if (!stream || stream->done >= event->after) return cudaSuccess;
    reach(stream, stream->done + 1);
    return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    Guard guard(lock);
    auto* event = reinterpret_cast<Event*>(handle);
    if (!events.count(event)) return cudaErrorInvalidResourceHandle;
    if (event->capture && !event->capture->spoilt && event->capture.use_count() > 1)
        return event->capture->spoilt = true, record("refused in a capture", "cudaEventSynchronize"),
               cudaErrorStreamCaptureUnsupported;
    record("synchronize", "cudaEventSynchronize");
    reach(stream_of(event->stream), event->after);
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Guard guard(lock);
    auto *a = reinterpret_cast<Event*>(start), *b = reinterpret_cast<Event*>(end);
    if (!events.count(a) || !events.count(b)) return cudaErrorInvalidResourceHandle;
    *milliseconds = std::chrono::duration<float, std::milli>(b->at - a->at).count();
    return cudaSuccess;
}

// ---- capture and graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream == &legacy || stream->capture) return cudaErrorStreamCaptureUnsupported;
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->behind.clear();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (!stream || !stream->capture) return cudaErrorInvalidValue;
    const auto capture = stream->capture;
    if (stream != capture->origin) return cudaErrorStreamCaptureUnmatched;
    bool joined = true;
    for (const auto& [other, works] : capture->works) joined = joined && stream->behind[other] >= works;
    for (Stream* other : streams)  // also those that joined it
        if (other->capture == capture) other->capture = nullptr;
    *graph = nullptr;
    if (capture->spoilt) return cudaErrorStreamCaptureInvalidated;
    if (!joined) return cudaErrorStreamCaptureUnjoined;
    *graph = reinterpret_cast<cudaGraph_t>(new std::shared_ptr<Capture>(capture));
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    Guard guard(lock);
    const Stream* stream = stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    *status = !stream->capture          ? cudaStreamCaptureStatusNone
              : stream->capture->spoilt ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
#undef cudaGraphInstantiate
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
    *out = reinterpret_cast<cudaGraphExec_t>(new std::shared_ptr<Capture>(*reinterpret_cast<std::shared_ptr<Capture>*>(graph)));
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    const auto capture = *reinterpret_cast<std::shared_ptr<Capture>*>(graph);
    submit(stream, "graph", std::to_string(capture->nodes.size()), [capture] {
        for (const auto& node : capture->nodes) node.second();
    });
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<std::shared_ptr<Capture>*>(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete reinterpret_cast<std::shared_ptr<Capture>*>(graph);
    return cudaSuccess;
}

// Which streams' work runs as late as it may from now on: of none (0), the non-blocking ones (1), the default stream and the blocking ones (2), all (3).
void cuda_emulator_late(int which) {
    Guard guard(lock);
    finish_all();
    late = which;
}

}

// The log: one line for each launch, copy, synchronisation, allocation. Tests read it through the functions at the end.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <set>

namespace emulator {

std::recursive_mutex lock;
static std::vector<std::string> lines;
static std::string place;  // where the last work was queued
static bool recording = false;

void record(const char* kind, const std::string& detail) {
    Guard guard(lock);
    if (recording) lines.push_back(detail.empty() ? kind : std::string(kind) + " " + detail);
}

void record_place(const std::string& now) {
    Guard guard(lock);
    if (recording && now != place) record("on", place = now);
}

int unsupported(const char* function) {
    Guard guard(lock);
    static std::set<std::string> said;
    record("unsupported", function);
    if (said.insert(function).second) fprintf(stderr, "CUDA emulator: %s is not emulated\n", function);
    return 801;
}

}  // namespace emulator

extern "C" {

void cuda_emulator_record(int on) {
    emulator::Guard guard(emulator::lock);
    emulator::recording = on != 0;
    if (on) emulator::lines.clear(), emulator::place.clear();
}

size_t cuda_emulator_log_size() {
    emulator::Guard guard(emulator::lock);
    size_t size = 0;
    for (const auto& line : emulator::lines) size += line.size() + 1;
    return size;
}

// Fills `out` (of cuda_emulator_log_size bytes) with the lines, each ended by a line break.
void cuda_emulator_log(char* out) {
    emulator::Guard guard(emulator::lock);
    for (const auto& line : emulator::lines) {
        out = line.copy(out, line.size()) + out;
        *out++ = '\n';
    }
}

}

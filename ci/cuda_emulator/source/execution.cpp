// Runs a kernel: block after block, and in a block each thread as a fiber that gives way where it waits (__syncthreads, warps).
// A thread that never waits costs a function call; a fiber is kept only while its thread waits.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

#include "device/kernel.h"

#if !defined(__x86_64__)
#error "the emulator switches between fibers in x86-64 assembly"
#endif

// void emulator_switch(void** save, void* load): saves what a function must keep, and goes on where `load` was saved.
asm(R"(
.text
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
)");
extern "C" void emulator_switch(void** save, void* load);

namespace emulator {

static State state;
State* state_of_the_device() { return &state; }

enum class Phase : char { fresh, running, waits_for_block, waits_for_warp, done };

struct Fiber {
    char* stack = nullptr;
    void* saved = nullptr;
};

static constexpr size_t STACK = 256 << 10;

struct Block {
    const Kernel* kernel;
    void** arguments;
    unsigned size = 0;
    std::vector<Phase> phases;
    std::vector<unsigned> masks;
    std::vector<int> fiber_of;  // a thread that waits keeps its fiber
    std::vector<Fiber> fibers;
    std::vector<int> idle;
    std::vector<char> exchange;
    void* scheduler = nullptr;
    int running = 0;
};
static Block block;

static void give_way(Phase phase) {
    block.phases[block.running] = phase;
    emulator_switch(&block.fibers[block.fiber_of[block.running]].saved, block.scheduler);
}

static void wait_for_block() { give_way(Phase::waits_for_block); }

static void wait_for_warp(unsigned mask) {
    block.masks[block.running] = mask;
    give_way(Phase::waits_for_warp);
}

static unsigned alive_in_warp() {
    const unsigned first = block.running / 32 * 32;
    unsigned mask = 0;
    for (unsigned lane = 0; lane < 32 && first + lane < block.size; ++lane)
        mask |= unsigned(block.phases[first + lane] != Phase::done) << lane;
    return mask;
}

// A fiber runs one thread after another; it never returns.
static void fiber_main() {
    for (;;) {
        block.kernel->call(block.kernel->function, block.arguments);
        give_way(Phase::done);
    }
}

static int take_fiber() {
    if (!block.idle.empty()) {
        const int fiber = block.idle.back();
        block.idle.pop_back();
        return fiber;
    }
    Fiber fiber;
    void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        perror("CUDA emulator: no memory for a fiber");
        abort();
    }
    mprotect(stack, 4096, PROT_NONE);  // a kernel that overruns its stack faults here
    fiber.stack = static_cast<char*>(stack);
    auto* top = reinterpret_cast<void**>(fiber.stack + STACK - 64);  // 16-byte aligned, as a function finds it after a call
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--top = nullptr;  // the six registers
    fiber.saved = top;
    block.fibers.push_back(fiber);
    return static_cast<int>(block.fibers.size()) - 1;
}

static void run_thread(unsigned i) {
    if (block.phases[i] == Phase::fresh) block.fiber_of[i] = take_fiber();
    block.phases[i] = Phase::running;
    block.running = static_cast<int>(i);
    state.number = i;
    state.thread = {i % state.block_size.x, i / state.block_size.x % state.block_size.y,
                    i / (state.block_size.x * state.block_size.y)};
    emulator_switch(&block.scheduler, block.fibers[block.fiber_of[i]].saved);
    if (block.phases[i] == Phase::done) block.idle.push_back(block.fiber_of[i]);
}

static bool release_warps() {
    bool released = false;
    for (unsigned first = 0; first < block.size; first += 32) {
        const unsigned end = std::min(first + 32, block.size);
        for (unsigned i = first; i < end; ++i) {
            if (block.phases[i] != Phase::waits_for_warp) continue;
            bool all = true;
            for (unsigned j = first; j < end; ++j)
                if (block.masks[i] >> (j - first) & 1 && block.phases[j] != Phase::done)
                    all = all && block.phases[j] == Phase::waits_for_warp && block.masks[j] == block.masks[i];
            if (!all) continue;
            const unsigned mask = block.masks[i];
            for (unsigned j = first; j < end; ++j)
                if (mask >> (j - first) & 1 && block.phases[j] == Phase::waits_for_warp) block.phases[j] = Phase::running;
            released = true;
        }
    }
    return released;
}

static bool run_block() {
    std::fill(block.phases.begin(), block.phases.end(), Phase::fresh);
    for (;;) {
        unsigned waiting = 0, at_the_block = 0;
        for (unsigned i = 0; i < block.size; ++i) {
            if (block.phases[i] == Phase::fresh || block.phases[i] == Phase::running) run_thread(i);
            waiting += block.phases[i] != Phase::done;
            at_the_block += block.phases[i] == Phase::waits_for_block;
        }
        if (!waiting) return true;
        if (release_warps()) continue;
        if (at_the_block != waiting) return false;
        for (auto& phase : block.phases)
            if (phase == Phase::waits_for_block) phase = Phase::running;
    }
}

bool execute(const Kernel& kernel, const std::string& name, Dim grid, Dim threads, size_t shared_bytes, void** arguments) {
    Guard guard(lock);
    block.kernel = &kernel;
    block.arguments = arguments;
    block.size = threads.x * threads.y * threads.z;
    block.phases.assign(block.size, Phase::fresh);
    block.masks.assign(block.size, 0);
    block.fiber_of.assign(block.size, 0);
    block.exchange.assign((block.size + 31) / 32 * 32 * 16, 0);
    std::vector<char> shared(shared_bytes + 16);
    state.block_size = {threads.x, threads.y, threads.z};
    state.grid_size = {grid.x, grid.y, grid.z};
    state.shared = shared.data() + (16 - reinterpret_cast<uintptr_t>(shared.data()) % 16);
    state.exchange = reinterpret_cast<char(*)[16]>(block.exchange.data());
    state.wait_for_block = wait_for_block;
    state.wait_for_warp = wait_for_warp;
    state.alive_in_warp = alive_in_warp;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                state.block = {x, y, z};
                if (run_block()) continue;
                record("deadlock", name);
                fprintf(stderr, "CUDA emulator: the threads of a block of %s wait for each other for ever\n", name.c_str());
                block.fibers.clear();  // their threads never end: their stacks are given up
                block.idle.clear();
                return false;
            }
    return true;
}

}  // namespace emulator

// The driver: modules (shared libraries that nvrtc.cpp had g++ make), functions in them, and their launch.
#include "emulator.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include "device/kernel.h"

namespace emulator {

State* state_of_the_device();

struct Function {
    std::string name;
    Kernel kernel;
};
struct Module {
    void* library = nullptr;
    std::map<std::string, Function> functions;
};

enum Status { success = 0, invalid_value = 1, invalid_image = 200, not_found = 500, launch_failure = 719 };

static int load(Module** out, const char* image) {
    uint64_t size = 0;
    if (memcmp(image, "EMULATOR", 8) != 0) return invalid_image;
    memcpy(&size, image + 8, sizeof size);
    const char* folder = getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/cuda-emulator-XXXXXX";
    const int file = mkstemp(path.data());
    if (file < 0) {
        fprintf(stderr, "CUDA emulator: %s cannot be written: %s\n", path.c_str(), strerror(errno));
        return invalid_image;
    }
    FILE* stream = fdopen(file, "wb");
    const bool written = fwrite(image + 16, 1, size, stream) == size;
    if (fclose(stream) != 0 || !written) {
        fprintf(stderr, "CUDA emulator: %s cannot be written\n", path.c_str());
        unlink(path.c_str());
        return invalid_image;
    }
    auto* module = new Module;
    module->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    unlink(path.c_str());
    auto** state = module->library ? static_cast<State**>(dlsym(module->library, "emulator_state")) : nullptr;
    if (!state) {
        fprintf(stderr, "CUDA emulator: %s\n", dlerror());
        delete module;
        return invalid_image;
    }
    *state = state_of_the_device();
    *out = module;
    return success;
}

static int launch(Function* function, Dim grid, Dim block, unsigned shared, void* stream, void** arguments) {
    const bool fits = grid.x && grid.x <= 2147483647u && grid.y && grid.y <= 65535 && grid.z && grid.z <= 65535 && block.x &&
                      block.y && block.z && block.x * block.y * block.z <= 1024 && block.z <= 64 && shared <= 232448;
    if (!fits) {
        record("refused launch", function->name);
        return invalid_value;
    }
    // The arguments are copied now, as CUDA copies them: a captured launch runs later.
    const Kernel kernel = function->kernel;
    auto copies = std::make_shared<std::vector<std::vector<char>>>();
    for (size_t i = 0; i < kernel.count; ++i) {
        const char* from = static_cast<const char*>(arguments[i]);
        copies->emplace_back(from, from + kernel.sizes[i]);
        check_argument(function->name.c_str(), from, kernel.sizes[i]);
    }
    auto ended = std::make_shared<bool>(true);
    submit(stream, "launch", function->name, [=, name = function->name] {
        std::vector<void*> pointers;
        for (auto& copy : *copies) pointers.push_back(copy.data());
        *ended = execute(kernel, name, grid, block, shared, pointers.data());
    });
    return *ended ? success : launch_failure;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

int cuModuleLoadData(Module** out, const void* image) {
    Guard guard(lock);
    record("load module");
    return load(out, static_cast<const char*>(image));
}

int cuModuleLoad(Module** out, const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) return 301;
    std::string image;
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) image.append(part, n);
    fclose(file);
    return image.size() < 16 ? static_cast<int>(invalid_image) : cuModuleLoadData(out, image.data());
}

int cuModuleUnload(Module*) { return success; }  // the library stays: a captured launch may still need it

int cuModuleGetFunction(Function** out, Module* module, const char* name) {
    Guard guard(lock);
    auto found = module->functions.find(name);
    if (found == module->functions.end()) {
        using Describe = Kernel (*)();
        auto describe = reinterpret_cast<Describe>(dlsym(module->library, (std::string("emulator_kernel_") + name).c_str()));
        if (!describe) return not_found;
        found = module->functions.emplace(name, Function{name, describe()}).first;
    }
    *out = &found->second;
    return success;
}

int cuModuleGetGlobal_v2(void** out, size_t* size, Module* module, const char* name) {
    Guard guard(lock);
    void* address = dlsym(module->library, name);
    Dl_info info;
    ElfW(Sym)* symbol = nullptr;
    if (!address || !dladdr1(address, &info, reinterpret_cast<void**>(&symbol), RTLD_DL_SYMENT)) return not_found;
    if (out) *out = address;
    if (size) *size = symbol ? symbol->st_size : 0;
    return success;
}

int cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void**) {
    Guard guard(lock);
    return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, arguments);
}

int cuFuncGetAttribute(int* value, int attribute, Function*) {
    *value = attribute == 0 ? 1024 : 0;  // CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
    return success;
}
int cuFuncSetAttribute(Function*, int, int) { return success; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int threads, size_t) {
    *blocks = std::max(1, 2048 / std::max(threads, 1));
    return success;
}
int cuOccupancyMaxPotentialBlockSize(int* grid, int* block, Function*, size_t (*)(int), size_t, int) {
    *grid = 132 * 8;
    *block = 256;
    return success;
}

}

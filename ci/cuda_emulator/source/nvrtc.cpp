// NVRTC: compiles a kernel's source with g++ into a shared library, which is the "cubin". What is not C++ for the host is
// rewritten (dynamic shared memory), and each kernel gets a function that describes it to the driver.
// CUDA_EMULATOR_SOURCES=FOLDER keeps every source and its options there, for a check by the real NVRTC.
#include "emulator.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <utility>

#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace emulator {

struct Program {
    std::string source, log, library;
    std::vector<std::string> expressions;  // names of templates' instances, as the caller writes them
    std::map<std::string, std::string> lowered;
};

enum Result { ok = 0, out_of_memory = 1, invalid_input = 3, compilation = 6, no_such_name = 10 };

// What the builder put beside this library: the headers for kernels, compiled beforehand, and the compiler's command.
static std::string beside(const char* name) {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void*>(&beside), &info)) return name;
    const std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + name;
}

static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

static std::string quoted(const std::string& text) {
    std::string out = "'";
    for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

static std::string as_host_code(Program& program) {
    static const std::regex dynamic(R"(extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s+)?([\w:<>, ]+?)\s+(\w+)\s*\[\s*\]\s*;)");
    static const std::regex kernel(
        R"(extern\s+"C"\s+(?:__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s+)?void|void\s+__global__)\s+(?:__launch_bounds__\s*\([^)]*\)\s+)?(\w+)\s*\()");
    const std::string source =
        std::regex_replace(program.source, dynamic, "$1* $2 = reinterpret_cast<$1*>(emulator_state->shared);");
    std::ostringstream out;
    out << "extern \"C\" { emulator::State* emulator_state; }\n#line 1\n" << source << "\n";
    auto describe = [&out](const std::string& name, const std::string& function) {
        out << "extern \"C\" emulator::Kernel emulator_kernel_" << name << "() { return emulator::describe(" << function << "); }\n";
    };
    std::map<std::string, bool> seen;
    for (std::sregex_iterator i(source.begin(), source.end(), kernel), end; i != end; ++i)
        if (!std::exchange(seen[(*i)[1]], true)) describe((*i)[1], (*i)[1]);
    for (size_t i = 0; i < program.expressions.size(); ++i) {
        const std::string name = "expression_" + std::to_string(i);
        program.lowered[program.expressions[i]] = name;
        describe(name, program.expressions[i]);
    }
    return out.str();
}

static void keep(const Program& program, const std::vector<std::string>& options) {
    const char* folder = getenv("CUDA_EMULATOR_SOURCES");
    if (!folder || !*folder) return;
    std::ostringstream name;
    name << folder << "/" << std::hex << std::hash<std::string>{}(program.source);
    std::ofstream(name.str() + ".cu") << program.source;
    std::ofstream text(name.str() + ".options");
    for (const auto& option : options) text << option << "\n";
    for (const auto& expression : program.expressions) text << "expression " << expression << "\n";
}

static int compile(Program& program, const std::vector<std::string>& options) {
    keep(program, options);
    const char* root = getenv("TMPDIR");
    std::string folder = std::string(root && *root ? root : "/tmp") + "/cuda-emulator-XXXXXX";
    if (!mkdtemp(folder.data())) return program.log = strerror(errno), static_cast<int>(compilation);
    const std::string source = folder + "/kernel.cpp", library = folder + "/kernel.so", log = folder + "/log";
    std::ofstream(source) << as_host_code(program);
    // CuPy's own headers were compiled beforehand; sources that do not begin with them may not see their names.
    const bool with_cupy = program.source.find("#include <cupy/carray.cuh>") != std::string::npos;
    std::string command = "unset LD_PRELOAD LD_LIBRARY_PATH; " + read(beside("compiler"));
    command += " -include " + quoted(beside(with_cupy ? "device/with_cupy.h" : "device/kernel.h"));
    for (const auto& option : options)
        if (option.rfind("-I", 0) == 0 || option.rfind("-D", 0) == 0) command += " " + quoted(option);
    command += " " + quoted(source) + " -o " + quoted(library) + " > " + quoted(log) + " 2>&1";
    const int status = system(command.c_str());
    program.log = read(log);
    if (status == 0) {
        const std::string bytes = read(library);
        const uint64_t size = bytes.size();
        program.library = "EMULATOR";
        program.library.append(reinterpret_cast<const char*>(&size), sizeof size);
        program.library += bytes;
    } else if (getenv("CUDA_EMULATOR_KEEP")) {
        fprintf(stderr, "CUDA emulator: %s\n%s", command.c_str(), program.log.c_str());
        return compilation;
    }
    for (const auto& path : {source, library, log}) unlink(path.c_str());
    rmdir(folder.c_str());
    return status == 0 ? ok : compilation;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

const char* nvrtcGetErrorString(int result) {
    switch (result) {
        case ok: return "NVRTC_SUCCESS";
        case invalid_input: return "NVRTC_ERROR_INVALID_INPUT";
        case compilation: return "NVRTC_ERROR_COMPILATION";
        case no_such_name: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
        default: return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}
int nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 9, 0; }
int nvrtcCreateProgram(Program** out, const char* source, const char*, int headers, const char* const*, const char* const*) {
    if (headers) return invalid_input;
    *out = new Program;
    (*out)->source = source;
    return ok;
}
int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, 0; }
int nvrtcAddNameExpression(Program* program, const char* expression) { return program->expressions.push_back(expression), 0; }
int nvrtcGetLoweredName(Program* program, const char* expression, const char** out) {
    auto found = program->lowered.find(expression);
    if (found == program->lowered.end()) return no_such_name;
    *out = found->second.c_str();
    return ok;
}
int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    return compile(*program, {options, options + count});
}
int nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->library.size(), 0; }
int nvrtcGetCUBIN(Program* program, char* out) { return program->library.copy(out, program->library.size()), 0; }
// CuPy asks for it only to learn what compiled an empty source.
static const char ptx[] = "// compiled by g++ for the CUDA emulator\n";
int nvrtcGetPTXSize(Program*, size_t* size) { return *size = sizeof ptx, 0; }
int nvrtcGetPTX(Program*, char* out) { return memcpy(out, ptx, sizeof ptx), 0; }
int nvrtcGetProgramLogSize(Program* program, size_t* size) { return *size = program->log.size() + 1, 0; }
int nvrtcGetProgramLog(Program* program, char* out) { return strcpy(out, program->log.c_str()), 0; }
int nvrtcGetNumSupportedArchs(int* count) { return *count = 2, 0; }
int nvrtcGetSupportedArchs(int* out) { return out[0] = 80, out[1] = 90, 0; }

}

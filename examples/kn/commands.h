// The tool's subcommands: plain arguments in, exit status out. Errors leave as exceptions (main.cpp
// gives them their status).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <kn/kn.h>

namespace kn::tool {

enum Status { done = 0, failed = 1, usage = 2, no_device = 3 };

/// Wrong usage, an unreadable file, no case found: status 2.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Flags of every command that takes a model, as given.
struct ModelFlags {
    std::string device = "cpu";
    std::string precision = "f32";
    bool raw = false;
    int threads = 0;
    std::vector<std::string> dims;  // NAME=N
    std::int64_t slices = 0;        // of a GPU's batch; 0: as the plan decides
};

struct VerifyArgs {
    ModelFlags model;
    std::vector<std::string> paths;
    std::string json;
    double rtol = -1, atol = -1;  // below 0: by dtype and case
};
int verify(const VerifyArgs& args);

struct RunArgs {
    ModelFlags model;
    std::string path;
    std::vector<std::string> inputs;  // NAME=FILE.npy
    std::string output;
    int data_set = 0;
    std::uint64_t seed = 0;
};
int run(const RunArgs& args);

struct CheckArgs {
    ModelFlags model;
    std::string path;
};
int check(const CheckArgs& args);

struct DumpArgs {
    ModelFlags model;
    std::string path, stage = "optimized", format = "text";
    std::string properties;  // of --stage plan: "h200", or a file; empty: of the GPU that is there
};
int dump(const DumpArgs& args);
/// The plan as text, JSON or (svg too) DOT. Throws UsageError in a build without CUDA.
std::string plan_text(const DumpArgs& args);

struct BenchArgs {
    ModelFlags model;
    std::string path, json, tune = "fast";
    int runs = 30;
    bool timings = false;
};
int bench(const BenchArgs& args);

struct CompareArgs {
    ModelFlags model;
    std::string path, json, tune = "fast";
    std::vector<std::string> inputs;  // NAME=FILE.npy
    int data_set = 0;
    std::uint64_t seed = 0;
    double rtol = -1, atol = -1;  // below 0: by dtype
    bool all = false;
};
int compare(const CompareArgs& args);

struct ExplainArgs {
    ModelFlags model;
    std::string path, json, tune = "fast";
    std::string properties;  // "h200", or a file of dump_device; empty: the GPU that is here
    int repeats = 20;
    bool decisions = false;
    bool timings = false;
};
int explain(const ExplainArgs& args);

int devices();

}  // namespace kn::tool

// kn: check, run, compare and time ONNX networks. Every subcommand has --help.
#include <cstdio>
#include <memory>
#include <new>

#include <CLI/CLI.hpp>

#include "commands.h"

namespace {

using namespace kn::tool;

void add_model_flags(CLI::App& app, ModelFlags& flags) {
    app.add_option("--device", flags.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
    app.add_option("--precision", flags.precision, "f32, f64 (CPU), tf32, f16 or bf16")
        ->capture_default_str();
    app.add_flag("--raw", flags.raw, "leave the optimizer out");
    app.add_option("--threads", flags.threads, "threads of the CPU; 0: all")
        ->capture_default_str()
        ->check(CLI::Range(0, 1024));
    app.add_option("--dim", flags.dims, "NAME=N: the value of a symbolic dim (repeatable)");
}

void add_slices_flag(CLI::App& app, ModelFlags& flags) {
    app.add_option("--slices", flags.slices,
                   "of the batch, one after the other on the GPU; 0: as the plan decides")
        ->capture_default_str()
        ->check(CLI::Range(0, 1 << 20));
}

void add_tune_flag(CLI::App& app, std::string& tune) {
    app.add_option("--tune", tune,
                   "time candidates on the GPU: none, fast (the libraries') or full (ours too)")
        ->capture_default_str()
        ->check(CLI::IsMember({"none", "fast", "full"}));
}

void add_case_inputs(CLI::App& app, std::vector<std::string>& inputs, int& data_set,
                     std::uint64_t& seed) {
    app.add_option("--input", inputs, "NAME=FILE.npy (repeatable); others are recorded or random");
    app.add_option("--data-set", data_set, "which recorded inputs of a case")
        ->capture_default_str();
    app.add_option("--seed", seed, "of random inputs")->capture_default_str();
}

/// A subcommand with the flags of a model; `action` runs once the arguments are read.
template <class Args>
CLI::App& add_command(CLI::App& app, const char* name, const char* description,
                      const std::shared_ptr<Args>& args, int (*action)(const Args&), int& status) {
    CLI::App& command = *app.add_subcommand(name, description);
    add_model_flags(command, args->model);
    command.callback([args, action, &status] { status = action(*args); });
    return command;
}

void add_model(CLI::App& command, std::string& path) {
    command.add_option("MODEL", path, "an .onnx file or a case folder")->required();
}

void add_verify(CLI::App& app, int& status) {
    const auto args = std::make_shared<VerifyArgs>();
    CLI::App& command =
        add_command(app, "verify", "compare recorded outputs with kn's", args, verify, status);
    command.add_option("PATH", args->paths, "case folders, or folders of them")->required();
    command.add_option("--json", args->json, "write the results to this file");
    command.add_option("--rtol", args->rtol, "relative tolerance for every case")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--atol", args->atol, "tolerance over the peak for every case")
        ->check(CLI::NonNegativeNumber);
}

void add_run(CLI::App& app, int& status) {
    const auto args = std::make_shared<RunArgs>();
    CLI::App& command =
        add_command(app, "run", "run a network and write its outputs", args, run, status);
    add_model(command, args->path);
    add_case_inputs(command, args->inputs, args->data_set, args->seed);
    command.add_option("--output", args->output, "folder for output_I.npy");
}

void add_check(CLI::App& app, int& status) {
    const auto args = std::make_shared<CheckArgs>();
    add_model(add_command(app, "check", "list all problems of a model", args, check, status),
              args->path);
}

void add_dump(CLI::App& app, int& status) {
    const auto args = std::make_shared<DumpArgs>();
    CLI::App& command = add_command(app, "dump", "print a network's graph", args, dump, status);
    add_model(command, args->path);
    command.add_option("--stage", args->stage)
        ->capture_default_str()
        ->check(CLI::IsMember({"raw", "optimized", "plan"}));
    command.add_option("--format", args->format)
        ->capture_default_str()
        ->check(CLI::IsMember({"text", "dot", "svg", "json"}));
    command.add_option("--properties", args->properties,
                       "h200, or a file of a GPU's properties, for --stage plan without one");
    add_slices_flag(command, args->model);
}

void add_bench(CLI::App& app, int& status) {
    const auto args = std::make_shared<BenchArgs>();
    CLI::App& command = add_command(app, "bench", "time a network", args, bench, status);
    add_model(command, args->path);
    command.add_option("--runs", args->runs)->capture_default_str()->check(CLI::Range(1, 1000000));
    command.add_option("--json", args->json, "write the figures to this file");
    command.add_flag("--timings", args->timings, "on a GPU: where the setup went");
    add_tune_flag(command, args->tune);
    add_slices_flag(command, args->model);
}

void add_compare(CLI::App& app, int& status) {
    const auto args = std::make_shared<CompareArgs>();
    CLI::App& command = add_command(
        app, "compare", "compare a GPU's steps with the CPU, and name the first that is wrong",
        args, compare, status);
    add_model(command, args->path);
    add_case_inputs(command, args->inputs, args->data_set, args->seed);
    command.add_option("--rtol", args->rtol, "relative tolerance of a step")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--atol", args->atol, "tolerance of a step over the peak")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--json", args->json, "write the errors to this file");
    command.add_flag("--all", args->all, "print every step");
    add_tune_flag(command, args->tune);
    add_slices_flag(command, args->model);
}

void add_explain(CLI::App& app, int& status) {
    const auto args = std::make_shared<ExplainArgs>();
    CLI::App& command = add_command(
        app, "explain", "show a GPU's plan with reasons, costs, and times where there is a GPU",
        args, explain, status);
    add_model(command, args->path);
    command.add_option("--properties", args->properties,
                       "plan for a GPU that is not here: h200, or a file that dump_device wrote");
    command.add_flag("--decisions", args->decisions,
                     "every fusion taken or refused, with the reason");
    command.add_flag("--timings", args->timings, "what reading, optimising and planning took");
    command.add_option("--repeats", args->repeats, "of each step's time")
        ->capture_default_str()
        ->check(CLI::Range(1, 10000));
    command.add_option("--json", args->json, "write the steps to this file");
    add_tune_flag(command, args->tune);
    add_slices_flag(command, args->model);
}

int run_tool(int argc, char** argv) {
    CLI::App app("kn: check, run, compare and time ONNX networks");
    app.require_subcommand(1);
    app.set_version_flag("--version", kn::version());
    int status = done;
    for (const auto add :
         {add_verify, add_run, add_check, add_dump, add_bench, add_compare, add_explain})
        add(app, status);
    app.add_subcommand("devices", "list the devices kn can use, and library versions")
        ->callback([&] { status = devices(); });
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? done : usage;
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    const auto complain = [](const char* what, int status) {
        std::fprintf(stderr, "kn: %s\n", what);
        return status;
    };
    try {
        return run_tool(argc, argv);
    } catch (const UsageError& error) {
        return complain(error.what(), usage);
    } catch (const kn::DeviceError& error) {
        return complain(error.what(), no_device);
    } catch (const std::bad_alloc&) {
        return complain("out of memory", failed);
    } catch (const std::exception& error) {
        return complain(error.what(), failed);
    }
}

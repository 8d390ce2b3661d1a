// kn: check, run, compare and time ONNX networks. Every subcommand has --help.
#include <cstdio>
#include <new>

#include <CLI/CLI.hpp>

#include "commands.h"

namespace {

using namespace kn::tool;

void add_model_flags(CLI::App& app, ModelFlags& flags) {
    app.add_option("--device", flags.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
    app.add_option("--precision", flags.precision, "f32, f64 (CPU), tf32, f16 or bf16")->capture_default_str();
    app.add_flag("--raw", flags.raw, "leave the optimizer out");
    app.add_option("--threads", flags.threads, "threads of the CPU; 0: all")->capture_default_str()->check(CLI::Range(0, 1024));
    app.add_option("--dim", flags.dims, "NAME=N: the value of a symbolic dim (repeatable)");
}

void add_tune_flag(CLI::App& app, std::string& tune) {
    app.add_option("--tune", tune, "time the GPU libraries' candidates: none, fast or full")
        ->capture_default_str()
        ->check(CLI::IsMember({"none", "fast", "full"}));
}

int run_tool(int argc, char** argv) {
    CLI::App app("kn: check, run, compare and time ONNX networks");
    app.require_subcommand(1);
    app.set_version_flag("--version", kn::version());
    int status = done;

    VerifyArgs verify_args;
    CLI::App* verify_app = app.add_subcommand("verify", "compare recorded outputs with kn's");
    add_model_flags(*verify_app, verify_args.model);
    verify_app->add_option("PATH", verify_args.paths, "case folders, or folders of them")->required();
    verify_app->add_option("--json", verify_args.json, "write the results to this file");
    verify_app->add_option("--rtol", verify_args.rtol, "relative tolerance for every case")->check(CLI::NonNegativeNumber);
    verify_app->add_option("--atol", verify_args.atol, "tolerance over the peak for every case")->check(CLI::NonNegativeNumber);
    verify_app->callback([&] { status = verify(verify_args); });

    RunArgs run_args;
    CLI::App* run_app = app.add_subcommand("run", "run a network and write its outputs");
    add_model_flags(*run_app, run_args.model);
    run_app->add_option("MODEL", run_args.path, "an .onnx file or a case folder")->required();
    run_app->add_option("--input", run_args.inputs, "NAME=FILE.npy (repeatable); others are recorded or random");
    run_app->add_option("--output", run_args.output, "folder for output_I.npy");
    run_app->add_option("--data-set", run_args.data_set, "which recorded inputs of a case")->capture_default_str();
    run_app->add_option("--seed", run_args.seed, "of random inputs")->capture_default_str();
    run_app->callback([&] { status = run(run_args); });

    CheckArgs check_args;
    CLI::App* check_app = app.add_subcommand("check", "list all problems of a model");
    add_model_flags(*check_app, check_args.model);
    check_app->add_option("MODEL", check_args.path, "an .onnx file or a case folder")->required();
    check_app->callback([&] { status = check(check_args); });

    DumpArgs dump_args;
    CLI::App* dump_app = app.add_subcommand("dump", "print a network's graph");
    add_model_flags(*dump_app, dump_args.model);
    dump_app->add_option("MODEL", dump_args.path, "an .onnx file or a case folder")->required();
    dump_app->add_option("--stage", dump_args.stage)->capture_default_str()->check(CLI::IsMember({"raw", "optimized", "plan"}));
    dump_app->add_option("--format", dump_args.format)->capture_default_str()->check(CLI::IsMember({"text", "dot", "svg", "json"}));
    dump_app->add_option("--properties", dump_args.properties, "h200, or a file of a GPU's properties, for --stage plan without one");
    dump_app->callback([&] { status = dump(dump_args); });

    BenchArgs bench_args;
    CLI::App* bench_app = app.add_subcommand("bench", "time a network");
    add_model_flags(*bench_app, bench_args.model);
    bench_app->add_option("MODEL", bench_args.path, "an .onnx file or a case folder")->required();
    bench_app->add_option("--runs", bench_args.runs)->capture_default_str()->check(CLI::Range(1, 1000000));
    bench_app->add_option("--json", bench_args.json, "write the figures to this file");
    bench_app->add_flag("--timings", bench_args.timings, "on a GPU: where the setup went");
    add_tune_flag(*bench_app, bench_args.tune);
    bench_app->callback([&] { status = bench(bench_args); });

    CompareArgs compare_args;
    CLI::App* compare_app = app.add_subcommand("compare", "compare a GPU's steps with the CPU, and name the first that is wrong");
    add_model_flags(*compare_app, compare_args.model);
    compare_app->add_option("MODEL", compare_args.path, "an .onnx file or a case folder")->required();
    compare_app->add_option("--input", compare_args.inputs, "NAME=FILE.npy (repeatable); others are recorded or random");
    compare_app->add_option("--data-set", compare_args.data_set, "which recorded inputs of a case")->capture_default_str();
    compare_app->add_option("--seed", compare_args.seed, "of random inputs")->capture_default_str();
    compare_app->add_option("--rtol", compare_args.rtol, "relative tolerance of a step")->check(CLI::NonNegativeNumber);
    compare_app->add_option("--atol", compare_args.atol, "tolerance of a step over the peak")->check(CLI::NonNegativeNumber);
    compare_app->add_option("--json", compare_args.json, "write the errors to this file");
    compare_app->add_flag("--all", compare_args.all, "print every step");
    add_tune_flag(*compare_app, compare_args.tune);
    compare_app->callback([&] { status = compare(compare_args); });

    ExplainArgs explain_args;
    CLI::App* explain_app = app.add_subcommand("explain", "show a GPU's plan with reasons, costs, and times where there is a GPU");
    add_model_flags(*explain_app, explain_args.model);
    explain_app->add_option("MODEL", explain_args.path, "an .onnx file or a case folder")->required();
    explain_app->add_option("--properties", explain_args.properties,
                            "plan for a GPU that is not here: h200, or a file that dump_device wrote");
    explain_app->add_flag("--decisions", explain_args.decisions, "every fusion taken or refused, with the reason");
    explain_app->add_flag("--timings", explain_args.timings, "what reading, optimising and planning took");
    explain_app->add_option("--repeats", explain_args.repeats, "of each step's time")->capture_default_str()->check(CLI::Range(1, 10000));
    explain_app->add_option("--json", explain_args.json, "write the steps to this file");
    add_tune_flag(*explain_app, explain_args.tune);
    explain_app->callback([&] { status = explain(explain_args); });

    CLI::App* devices_app = app.add_subcommand("devices", "list the devices kn can use, and library versions");
    devices_app->callback([&] { status = devices(); });

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

// kn verify: cases in the layout of ONNX's backend tests.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <kn/testing/compare.h>

#include "model.h"

namespace kn::tool {

namespace {

namespace fs = std::filesystem;
using kn::testing::Tolerance;

enum class Verdict { Pass, Fail, Unsupported };

struct Report {
    std::string name;
    Verdict verdict = Verdict::Pass;
    double max_abs = 0, max_rel_to_peak = 0, seconds = 0;
    std::size_t data_sets = 0;
    std::string reason;
};

const char* text(Verdict verdict) {
    return verdict == Verdict::Pass ? "PASS" : verdict == Verdict::Fail ? "FAIL" : "UNSUPPORTED";
}

std::vector<fs::path> find_cases(const std::vector<std::string>& paths) {
    std::vector<fs::path> out;
    for (const std::string& path : paths) {
        std::error_code error;
        if (fs::exists(fs::path(path) / "model.onnx", error)) {
            out.push_back(path);
            continue;
        }
        std::vector<fs::path> found;
        for (const auto& entry : fs::directory_iterator(path, error))
            if (fs::exists(entry.path() / "model.onnx", error)) found.push_back(entry.path());
        if (found.empty()) throw UsageError(printable(path) + ": no case found");
        std::sort(found.begin(), found.end());
        out.insert(out.end(), found.begin(), found.end());
    }
    return out;
}

std::optional<Tolerance> case_tolerance(const fs::path& folder) {
    std::ifstream file(folder.parent_path() / "index.json");
    if (!file) return std::nullopt;
    const auto index = nlohmann::json::parse(file, nullptr, false);
    if (!index.is_object()) return std::nullopt;
    const auto entry = index.find(folder.filename().string());
    if (entry == index.end() || !entry->is_object() || !entry->contains("tolerance"))
        return std::nullopt;
    const auto& t = (*entry)["tolerance"];
    return Tolerance{t.value("rtol", 0.0), t.value("atol_of_peak", 0.0)};
}

class CaseRunner {
  public:
    CaseRunner(const VerifyArgs& args, const NetworkOptions& options)
        : args_(args), options_(options) {}

    Report operator()(const fs::path& folder) const {
        Report report;
        report.name =
            printable((folder.has_filename() ? folder : folder.parent_path()).filename().string());
        const auto start = std::chrono::steady_clock::now();
        try {
            run(folder, report);
        } catch (const OnnxError& error) {
            fail(
                report,
                error.kind() == OnnxError::Kind::Unsupported ? Verdict::Unsupported : Verdict::Fail,
                error.what());
        } catch (const UnsupportedError& error) {
            fail(report, Verdict::Unsupported, error.what());
        } catch (const std::bad_alloc&) {
            fail(report, Verdict::Fail, "out of memory");
        } catch (const DeviceError&) {
            throw;
        } catch (const std::exception& error) {
            fail(report, Verdict::Fail, error.what());
        }
        report.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return report;
    }

  private:
    static void fail(Report& report, Verdict verdict, const std::string& reason) {
        report.verdict = verdict;
        report.reason = reason;
        std::replace(report.reason.begin(), report.reason.end(), '\n', ';');
    }

    void run(const fs::path& folder, Report& report) const {
        Network network = Network::load(folder / "model.onnx", options_);
        const auto of_case = case_tolerance(folder);
        const std::vector<fs::path> sets = data_sets(folder);
        if (sets.empty()) return fail(report, Verdict::Fail, "the case has no test_data_set_0");
        for (const fs::path& set : sets) {
            const std::vector<Tensor> got =
                network.run(match_inputs(network.info(), read_recorded(set, "input")));
            const std::vector<Recorded> expected = read_recorded(set, "output");
            if (got.size() != expected.size())
                return fail(report, Verdict::Fail,
                            fmt::format("{} outputs, {} recorded", got.size(), expected.size()));
            report.data_sets++;
            for (std::size_t i = 0; i < got.size(); i++) {
                const auto difference = kn::testing::compare(got[i], expected[i].tensor,
                                                             tolerance(expected[i].tensor, of_case),
                                                             options_.precision == Precision::F64);
                report.max_abs = std::max(report.max_abs, difference.max_abs);
                report.max_rel_to_peak =
                    std::max(report.max_rel_to_peak, difference.max_rel_to_peak);
                if (!difference.equal)
                    return fail(report, Verdict::Fail,
                                fmt::format("{} output {}: {}", set.filename().string(), i,
                                            difference.message));
            }
        }
    }

    // The case's own holds at the case's own precision; at another the looser of the two.
    Tolerance tolerance(const Tensor& expected, const std::optional<Tolerance>& of_case) const {
        const bool own =
            options_.precision == Precision::F32 || options_.precision == Precision::F64;
        Tolerance out = of_case.value_or(kn::testing::default_tolerance(expected.dtype()));
        if (!own)
            out = kn::testing::looser(out, kn::testing::default_tolerance(options_.precision));
        if (args_.rtol >= 0) out.rtol = args_.rtol;
        if (args_.atol >= 0) out.atol_of_peak = args_.atol;
        return out;
    }

    const VerifyArgs& args_;
    const NetworkOptions& options_;
};

void write_json(const std::string& path, const std::vector<Report>& reports) {
    auto list = nlohmann::json::array();
    for (const Report& r : reports)
        list.push_back({{"name", r.name},
                        {"status", text(r.verdict)},
                        {"max_abs", r.max_abs},
                        {"max_rel_to_peak", r.max_rel_to_peak},
                        {"reason", r.reason},
                        {"data_sets", r.data_sets},
                        {"seconds", r.seconds}});
    std::ofstream file(path);
    file << list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    if (!file.flush()) throw UsageError(printable(path) + ": cannot be written");
}

}  // namespace

int verify(const VerifyArgs& args) {
    const NetworkOptions options = network_options(args.model);
    backend_for(options.device);
    const std::vector<fs::path> cases = find_cases(args.paths);
    const CaseRunner run_case(args, options);
    const bool progress = ::isatty(STDERR_FILENO) != 0;
    std::vector<Report> reports;
    std::size_t counts[3] = {};
    for (const fs::path& folder : cases) {
        if (progress)
            fmt::print(stderr, "\r\033[K[{}/{}] {}", reports.size() + 1, cases.size(),
                       printable(folder.filename().string(), 60));
        reports.push_back(run_case(folder));
        const Report& r = reports.back();
        counts[static_cast<int>(r.verdict)]++;
        if (progress) fmt::print(stderr, "\r\033[K");
        if (r.verdict == Verdict::Pass)
            fmt::print("PASS {} max_abs {:.3g} max_rel_to_peak {:.3g}\n", r.name, r.max_abs,
                       r.max_rel_to_peak);
        else
            fmt::print("{} {} {}\n", text(r.verdict), r.name, r.reason);
        std::fflush(stdout);
    }
    if (!args.json.empty()) write_json(args.json, reports);
    fmt::print("{} passed, {} failed, {} skipped\n", counts[0], counts[1], counts[2]);
    return counts[1] == 0 ? done : failed;
}

}  // namespace kn::tool

#include "executor/kernels.h"

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include <kn/cuda_sys/nvrtc.h>

#include "cache/digest.h"
#include "codegen/emit.h"
#include "executor/in_parallel.h"

namespace kn::cuda {

namespace {

using Image = std::shared_ptr<const std::vector<std::byte>>;

const std::string& target_of(const PlanKernel& kernel, const std::string& arch) {
    return kernel.arch.empty() ? arch : kernel.arch;
}

std::string key_of(const PlanKernel& kernel, const std::string& arch) {
    std::string flags;
    for (const std::string& flag : kernel.flags) flags += flag + '\n';
    return digest({kernel.entry, kernel.source, flags, target_of(kernel, arch),
                   std::to_string(nvrtc_version())});
}

std::string name_in_program(const PlanKernel& kernel, const std::string& key) {
    return kernel.entry + "_" + key.substr(0, 12);
}

struct Unit {
    const PlanKernel* kernel;
    std::string key;
};

std::string_view body_of(const PlanKernel& kernel, std::string_view prelude) {
    std::string_view source = kernel.source;
    if (source.starts_with(prelude)) source.remove_prefix(prelude.size());
    return source;
}

// Only what begins with the prelude, and includes nothing after it, can stand in a namespace.
bool can_share(const PlanKernel& kernel, std::string_view prelude) {
    return std::string_view(kernel.source).starts_with(prelude) &&
           body_of(kernel, prelude).find("#include") == std::string_view::npos;
}

std::string program_text(const std::vector<Unit>& units, std::string_view prelude) {
    if (units.size() == 1) {
        const Unit& only = units[0];
        return "#define " + only.kernel->entry + " " + name_in_program(*only.kernel, only.key) +
               "\n" + only.kernel->source;
    }
    std::string text(prelude);
    for (const Unit& unit : units) {
        const std::string name = name_in_program(*unit.kernel, unit.key);
        text += "\n#define " + unit.kernel->entry + " " + name + "\nnamespace in_" + name + " {\n";
        text += body_of(*unit.kernel, prelude);
        text += "\n}\n#undef " + unit.kernel->entry + "\n";
    }
    return text;
}

CompiledProgram compile_program(const std::vector<Unit>& units, const CompileSetup& setup) {
    CompileOptions options{.arch = target_of(*units[0].kernel, setup.arch),
                           .flags = units[0].kernel->flags};
    const int version = nvrtc_version();
    // Nothing of the runtime's functions and types occurs in kernels: 4 ms of each program.
    if (version >= 120400) options.flags.push_back("--minimal");
    // What is compiled is kept here; the driver would keep it a second time.
    if (version >= 120900) options.flags.push_back("--no-cache");
    options.name = units.size() == 1 ? units[0].kernel->entry + ".cu" : "kernels.cu";
    return cuda::compile(program_text(units, setup.prelude), options);
}

// Milliseconds that a kernel takes to compile, about, without what a program takes by itself.
int effort(const Unit& unit, std::string_view prelude) {
    if (unit.kernel->compile_ms > 0) return unit.kernel->compile_ms;
    return static_cast<int>(10 + body_of(*unit.kernel, prelude).size() / 100);
}

using Units = std::vector<Unit>;

// NVRTC reads one program at a time, whatever the number of threads: 6 ms for the prelude and what
// every program has, some 10 for a large kernel, of 100 to 400 that it takes in all. So where there
// are many kernels they share programs (139 on 16 processors: 4.2 to 4.6 s instead of 5.1 to 5.2;
// but 9 to 26 take 1 to 17 % longer so). No thread should be left with a long one when the others
// are done: the longest come first, and there are several programs a thread.
class Programs {
  public:
    Programs(const CompileSetup& setup, std::size_t threads)
        : setup_(setup), threads_(static_cast<int>(threads)) {}

    void add_alone(Unit unit) { alone_.push_back(std::move(unit)); }
    void add(Unit unit) { waiting_[{unit.kernel->arch, unit.kernel->flags}].push_back(unit); }

    std::vector<Units> split() const {
        std::vector<std::pair<int, Units>> programs;
        int sum = 0;
        std::size_t count = 0;
        for (const auto& [setting, units] : waiting_)
            for (const Unit& unit : units) {
                sum += effort(unit, setup_.prelude);
                count++;
            }
        const bool share = count > setup_.few_kernels * static_cast<std::size_t>(threads_);
        const int most = std::clamp(sum / (programs_a_thread * threads_), least_ms, most_ms);
        for (const Unit& unit : alone_) programs.push_back({effort(unit, setup_.prelude), {unit}});
        for (const auto& [setting, units] : waiting_) {
            std::vector<std::pair<int, Unit>> sorted;
            for (const Unit& unit : units) sorted.emplace_back(effort(unit, setup_.prelude), unit);
            std::ranges::stable_sort(sorted, std::greater<>(), &std::pair<int, Unit>::first);
            bool open = false;
            for (const auto& [own, unit] : sorted) {
                open = open && share && programs.back().first + own <= most &&
                       programs.back().second.size() < setup_.kernels_a_program;
                if (!open) programs.emplace_back();
                open = true;
                programs.back().first += own;
                programs.back().second.push_back(unit);
            }
        }
        std::ranges::stable_sort(programs, std::greater<>(), &std::pair<int, Units>::first);
        std::vector<Units> result;
        for (auto& [ms, units] : programs) result.push_back(std::move(units));
        return result;
    }

  private:
    static constexpr int least_ms = 60, most_ms = 600, programs_a_thread = 3;
    using Setting = std::pair<std::string, std::vector<std::string>>;  // target and flags

    const CompileSetup& setup_;
    int threads_;
    Units alone_;
    std::map<Setting, Units> waiting_;
};

class Compiler {
  public:
    explicit Compiler(const CompileSetup& setup) : setup_(setup) {}

    std::optional<CompiledKernel> from_cache(const Unit& unit) {
        if (!setup_.cache) return std::nullopt;
        const auto program = setup_.cache->get("kernel", unit.key);
        if (!program) return std::nullopt;
        Image& image = cached_[*program];
        if (!image) {
            const auto bytes = setup_.cache->get("cubin", *program);
            if (!bytes) return std::nullopt;
            const auto* data = reinterpret_cast<const std::byte*>(bytes->data());
            image = std::make_shared<const std::vector<std::byte>>(data, data + bytes->size());
        }
        return CompiledKernel{name_in_program(*unit.kernel, unit.key), image, true};
    }

    // In the order of the units. Thread-safe.
    std::vector<CompiledKernel> compile(const Units& units) const {
        std::vector<CompiledKernel> result;
        Image image;
        try {
            image = std::make_shared<const std::vector<std::byte>>(
                compile_program(units, setup_).image);
        } catch (const CompileError&) {
            if (units.size() == 1) throw;
            // One by one, so that the message shows the kernel at fault alone.
            for (const Unit& unit : units) result.push_back(compile({unit})[0]);
            return result;
        }
        std::string keys;
        for (const Unit& unit : units) {
            result.push_back({name_in_program(*unit.kernel, unit.key), image, false});
            keys += unit.key;
        }
        if (!setup_.cache) return result;
        const std::string program = digest({keys});
        setup_.cache->put("cubin", program,
                          {reinterpret_cast<const char*>(image->data()), image->size()});
        for (const Unit& unit : units) setup_.cache->put("kernel", unit.key, program);
        return result;
    }

  private:
    const CompileSetup& setup_;
    std::map<std::string, Image> cached_;
};

struct Registry {
    std::mutex mutex;
    std::map<std::pair<int, std::string>, std::weak_ptr<const Kernel>> known;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

}  // namespace

std::vector<CompiledKernel> compile_kernels(const std::vector<PlanKernel>& kernels,
                                            const CompileSetup& setup) {
    Compiler compiler(setup);
    std::map<std::string, CompiledKernel> done;
    Programs waiting(setup, processors());
    std::vector<std::string> keys;
    std::set<std::string> seen;
    for (const PlanKernel& kernel : kernels) {
        const std::string& key = keys.emplace_back(key_of(kernel, setup.arch));
        if (!seen.insert(key).second) continue;
        const Unit unit{&kernel, key};
        if (auto cached = compiler.from_cache(unit))
            done[key] = std::move(*cached);
        else if (can_share(kernel, setup.prelude))
            waiting.add(unit);
        else
            waiting.add_alone(unit);
    }
    const std::vector<Units> programs = waiting.split();
    std::vector<std::vector<CompiledKernel>> compiled(programs.size());
    in_parallel(programs.size(),
                [&](std::size_t i) { compiled[i] = compiler.compile(programs[i]); });
    for (std::size_t i = 0; i < programs.size(); i++)
        for (std::size_t k = 0; k < programs[i].size(); k++)
            done[programs[i][k].key] = std::move(compiled[i][k]);
    std::vector<CompiledKernel> result;
    for (const std::string& key : keys) result.push_back(done.at(key));
    return result;
}

std::vector<std::shared_ptr<const Kernel>> load_kernels(Device device,
                                                        std::vector<PlanKernel> kernels,
                                                        DiskCache* cache, ExecutorSetup& counts,
                                                        PhaseLog& log) {
    const std::string arch = device.properties().arch();
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.known, [](const auto& entry) { return entry.second.expired(); });

    std::vector<std::shared_ptr<const Kernel>> result(kernels.size());
    std::map<std::string, std::shared_ptr<const Kernel>> fresh;
    std::vector<PlanKernel> missing;
    std::vector<std::pair<std::string, std::size_t>> wanted;  // key, index in `kernels`
    for (std::size_t i = 0; i < kernels.size(); i++) {
        std::string key = key_of(kernels[i], arch);
        const auto found = all.known.find({device.index(), key});
        if (found != all.known.end()) result[i] = found->second.lock();
        if (result[i]) continue;
        missing.push_back(std::move(kernels[i]));
        wanted.emplace_back(std::move(key), i);
    }
    if (missing.empty()) return result;

    std::map<const void*, Library> libraries;
    const auto load_compiled = [&](const std::vector<CompiledKernel>& compiled) {
        for (std::size_t i = 0; i < compiled.size(); i++) {
            const auto& [key, index] = wanted[i];
            auto& kernel = fresh[key];
            if (!kernel) {
                const Image& image = compiled[i].image;
                auto library = libraries.find(image.get());
                if (library == libraries.end())
                    library = libraries.emplace(image.get(), Library(*image)).first;
                kernel = std::make_shared<const Kernel>(library->second.kernel(compiled[i].name));
                (compiled[i].from_cache ? counts.kernels_from_cache : counts.kernels_compiled)++;
            }
            result[index] = kernel;
        }
    };
    const auto load = [&](DiskCache* from) {
        const auto compiled = log.measure("kernels: compiled, or from cache", [&] {
            return compile_kernels(missing,
                                   {.arch = arch, .prelude = kernel_prelude(), .cache = from});
        });
        log.measure("kernels: loaded", [&] { load_compiled(compiled); });
    };
    try {
        load(cache);
    } catch (const CompileError&) {
        throw;
    } catch (const ContextLost&) {
        throw;
    } catch (const Error&) {
        if (!cache) throw;
        // Perhaps a stored program that this driver does not take.
        fresh.clear();
        libraries.clear();
        load(nullptr);
    }
    for (const auto& [key, kernel] : fresh)
        all.known.insert_or_assign({device.index(), key}, kernel);
    return result;
}

}  // namespace kn::cuda

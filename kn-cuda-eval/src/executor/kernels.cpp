#include "executor/kernels.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include <kn/cuda_sys/nvrtc.h>

#include "cache/digest.h"
#include "codegen/emit.h"

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
                   std::to_string(versions().nvrtc)});
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
    options.name = units.size() == 1 ? units[0].kernel->entry + ".cu" : "kernels.cu";
    return compile(program_text(units, setup.prelude), options);
}

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

    void compile_into(std::map<std::string, CompiledKernel>& done, const std::vector<Unit>& units) {
        Image image;
        try {
            image = std::make_shared<const std::vector<std::byte>>(
                compile_program(units, setup_).image);
        } catch (const CompileError&) {
            if (units.size() == 1) throw;
            // One by one, so that the message shows the kernel at fault alone.
            for (const Unit& unit : units) compile_into(done, {unit});
            return;
        }
        std::string keys;
        for (const Unit& unit : units) {
            done[unit.key] = {name_in_program(*unit.kernel, unit.key), image, false};
            keys += unit.key;
        }
        if (!setup_.cache) return;
        const std::string program = digest({keys});
        setup_.cache->put("cubin", program,
                          {reinterpret_cast<const char*>(image->data()), image->size()});
        for (const Unit& unit : units) setup_.cache->put("kernel", unit.key, program);
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
    using Setting = std::pair<std::string, std::vector<std::string>>;  // target and flags
    std::map<Setting, std::vector<Unit>> waiting;
    std::vector<std::string> keys;
    std::set<std::string> seen;
    for (const PlanKernel& kernel : kernels) {
        const std::string& key = keys.emplace_back(key_of(kernel, setup.arch));
        if (!seen.insert(key).second) continue;
        const Unit unit{&kernel, key};
        if (auto cached = compiler.from_cache(unit))
            done[key] = std::move(*cached);
        else if (can_share(kernel, setup.prelude))
            waiting[{kernel.arch, kernel.flags}].push_back(unit);
        else
            compiler.compile_into(done, {unit});
    }
    const std::size_t most = std::max<std::size_t>(setup.kernels_a_program, 1);
    for (const auto& [setting, units] : waiting)
        for (std::size_t i = 0; i < units.size(); i += most)
            compiler.compile_into(
                done,
                {units.begin() + static_cast<std::ptrdiff_t>(i),
                 units.begin() + static_cast<std::ptrdiff_t>(std::min(i + most, units.size()))});
    std::vector<CompiledKernel> result;
    for (const std::string& key : keys) result.push_back(done.at(key));
    return result;
}

std::vector<std::shared_ptr<const Kernel>> load_kernels(Device device,
                                                        const std::vector<PlanKernel>& kernels,
                                                        DiskCache* cache, ExecutorSetup& counts) {
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
        missing.push_back(kernels[i]);
        wanted.emplace_back(std::move(key), i);
    }
    if (missing.empty()) return result;

    std::map<const void*, Library> libraries;
    const auto load = [&](DiskCache* from) {
        const auto compiled =
            compile_kernels(missing, {.arch = arch, .prelude = kernel_prelude(), .cache = from});
        for (std::size_t i = 0; i < compiled.size(); i++) {
            const auto& [key, index] = wanted[i];
            auto& kernel = fresh[key];
            if (!kernel) {
                const Image& image = compiled[i].image;
                const auto library = libraries.try_emplace(image.get(), Library(*image)).first;
                kernel = std::make_shared<const Kernel>(library->second.kernel(compiled[i].name));
                (compiled[i].from_cache ? counts.kernels_from_cache : counts.kernels_compiled)++;
            }
            result[index] = kernel;
        }
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

#include "host_shim.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "executor/laid_out.h"
#include "fibers.h"
#include "guarded.h"
#include "hopper.h"
#include "planner/placement.h"

namespace kn::cuda {

namespace {

struct Shim {  // as in shim.h
    unsigned thread[3], block[3], block_dim[3], grid_dim[3];
    unsigned char* dynamic_shared;
    void (*barrier)(int);
    unsigned long long* slots;
    const KnHopperCalls* hopper;
};

std::string folder() {
    const char* temporary = std::getenv("TMPDIR");
    const std::string path =
        fmt::format("{}/kn_host_shim_{}", temporary ? temporary : "/tmp", getuid());
    mkdir(path.c_str(), 0700);
    return path;
}

std::string shim_folder() { return std::string(KN_TEST_DATA) + "/../cuda_eval/host_shim"; }

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// What follows the prelude: prelude text is the same for all.
std::string own_text(const std::string& source) {
    const std::string marker = "#endif  // KN_PRELUDE";
    const auto at = source.find(marker);
    return at == std::string::npos ? source : source.substr(at + marker.size());
}

bool has_barriers(const std::string& text) {
    for (const char* word :
         {"kn_sync", "kn_shuffle", "kn_reduce_", "kn_ballot", "KN_SHARED", "KN_DYNAMIC_SHARED"})
        if (text.find(word) != std::string::npos) return true;
    return false;
}

using Entry = void (*)(const unsigned long long*);

/// All kernels of a plan in one shared object, kept loaded.
class HostKernels {
  public:
    explicit HostKernels(const Plan& plan) {
        if (plan.kernels.empty()) return;
        // The prelude's guard of intrinsics is the shim's.
        std::string source = "#include \"shim.h\"\n" + kernel_prelude();
        for (const PlanKernel& kernel : plan.kernels) {
            const std::string text = own_text(kernel.source);
            const char* how = has_barriers(text) ? "call" : "loop";
            const std::string run = fmt::format(
                "extern \"C\" void run_{0}(const unsigned long long* a) {{ kn_shim_{1}({0}, a); "
                "}}\n",
                kernel.entry, how);
            // As in a program for the device.
            source += fmt::format("namespace in_{} {{\n{}{}}}\n", kernel.entry, text, run);
        }
        static const std::string shim = read_file(shim_folder() + "/shim.h") +
                                        read_file(shim_folder() + "/hopper_shim.h") +
                                        read_file(shim_folder() + "/hopper_calls.h");
        const std::string base =
            fmt::format("{}/{:016x}", folder(), std::hash<std::string>()(source + shim));
        const std::string object = base + ".so";
        if (access(object.c_str(), R_OK) != 0) build(source, base, object);
        library_ = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library_) throw kn::Error(fmt::format("cannot load {}: {}", object, dlerror()));
        shim_ = static_cast<Shim*>(dlsym(library_, "kn_shim"));
    }
    HostKernels(const HostKernels&) = delete;
    HostKernels& operator=(const HostKernels&) = delete;
    ~HostKernels() {
        if (library_) dlclose(library_);
    }

    void launch(const PlanKernel& kernel, const KernelWork& work,
                const std::vector<unsigned long long>& arguments) {
        const auto entry =
            reinterpret_cast<Entry>(dlsym(library_, ("run_" + kernel.entry).c_str()));
        const Dim3 sizes[] = {work.grid, work.block};
        unsigned* const to[] = {shim_->grid_dim, shim_->block_dim};
        for (int i = 0; i < 2; ++i) {
            to[i][0] = sizes[i].x;
            to[i][1] = sizes[i].y;
            to[i][2] = sizes[i].z;
        }
        if (!has_barriers(own_text(kernel.source))) return entry(arguments.data());
        const auto threads = static_cast<int>(work.block.x * work.block.y * work.block.z);
        const auto together = static_cast<int>(work.cluster.x);
        Hopper hopper(together, threads, work.shared_bytes);
        std::vector<unsigned long long> slots(static_cast<std::size_t>(threads * together));
        shim_->hopper = &Hopper::calls;
        shim_->barrier = Fibers::barrier;
        const std::uint64_t blocks = std::uint64_t{work.grid.x} * work.grid.y * work.grid.z;
        for (std::uint64_t first = 0; first < blocks; first += work.cluster.x) {
            hopper.start();
            Fibers::run(
                together, threads,
                [&](int i) {
                    const auto t = static_cast<unsigned>(i % threads);
                    shim_->thread[0] = t % work.block.x;
                    shim_->thread[1] = t / work.block.x % work.block.y;
                    shim_->thread[2] = t / work.block.x / work.block.y;
                    const int in_cluster = i / threads;
                    const auto block = first + static_cast<std::uint64_t>(in_cluster);
                    shim_->block[0] = static_cast<unsigned>(block % work.grid.x);
                    shim_->block[1] = static_cast<unsigned>(block / work.grid.x % work.grid.y);
                    shim_->block[2] = static_cast<unsigned>(block / work.grid.x / work.grid.y);
                    shim_->slots = slots.data() + in_cluster * threads;
                    shim_->dynamic_shared =
                        reinterpret_cast<unsigned char*>(hopper.shared(in_cluster));
                },
                [&](int) { entry(arguments.data()); }, [&] { return hopper.go_on(); });
            hopper.end();
        }
    }

  private:
    static void build(const std::string& source, const std::string& base,
                      const std::string& object) {
        const std::string own = fmt::format("{}.{}", base, getpid());
        std::ofstream(own + ".cpp") << source;
        const std::string command = fmt::format(
            "g++ -std=c++17 -O1 -w -shared -fPIC -fvisibility-inlines-hidden -ffp-contract=off "
            "-I'{0}' '{1}.cpp' "
            "-o '{1}.so' 2> '{1}.log'",
            shim_folder(), own);
        if (std::system(command.c_str()) != 0)
            throw kn::Error(
                fmt::format("{}.cpp does not build:\n{:.4000}", own, read_file(own + ".log")));
        std::rename((own + ".so").c_str(), object.c_str());
        std::rename((own + ".cpp").c_str(), (base + ".cpp").c_str());
        std::remove((own + ".log").c_str());
    }

    void* library_ = nullptr;
    Shim* shim_ = nullptr;
};

template <class F>
void for_each_element(const Ints& shape, const Ints& strides, const F& f) {
    std::vector<std::int64_t> index(shape.size());
    const std::int64_t count = checked_size(shape);
    std::int64_t offset = 0;
    for (std::int64_t n = 0; n < count; ++n) {
        f(n, offset);
        for (std::size_t i = shape.size(); i-- > 0;) {
            offset += strides[i];
            if (++index[i] < shape[i]) break;
            offset -= strides[i] * shape[i];
            index[i] = 0;
        }
    }
}

Tensor part_of(const Tensor& tensor, Tf32Part part) {
    Tensor result(DType::F32, tensor.shape());
    const auto to = result.mutable_data<float>();
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = tf32_part(tensor.data<float>()[i], part);
    return result;
}

void upload_constant(const PlanConstant& constant, std::byte* to) {
    if (constant.folded || constant.winograd) {
        const LaidOut laid_out(constant);
        return laid_out.write(0, laid_out.rows(), to);
    }
    const Ints strides = strides_for(constant.shape(), constant.order);
    const auto size = static_cast<std::int64_t>(size_of(constant.dtype));
    std::int64_t start = 0;
    for (const auto& part : constant.parts) {
        const auto axis = static_cast<std::size_t>(constant.axis);
        Tensor tensor = part->tensor.cast(constant.dtype);
        if (constant.tf32 != Tf32Part::None) tensor = part_of(tensor, constant.tf32);
        scatter_strided(tensor, to + (start == 0 ? 0 : start * strides[axis] * size), strides);
        if (constant.parts.size() > 1) start += tensor.shape()[axis];
    }
}

}  // namespace

Tensor gather_strided(const std::byte* first, DType dtype, const Ints& shape, const Ints& strides) {
    Tensor tensor(dtype, shape);
    std::byte* to = tensor.mutable_bytes().data();
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    for_each_element(shape, strides, [&](std::int64_t n, std::int64_t offset) {
        std::memcpy(to + n * size, first + offset * size, static_cast<std::size_t>(size));
    });
    return tensor;
}

void scatter_strided(const Tensor& tensor, std::byte* first, const Ints& strides) {
    const std::byte* from = tensor.bytes().data();
    const auto size = static_cast<std::int64_t>(size_of(tensor.dtype()));
    for_each_element(tensor.shape(), strides, [&](std::int64_t n, std::int64_t offset) {
        std::memcpy(first + offset * size, from + n * size, static_cast<std::size_t>(size));
    });
}

std::vector<Tensor> run_plan_on_host(const Plan& plan, const std::vector<Tensor>& inputs) {
    return run_plan_on_host(plan, inputs, nullptr);
}

std::vector<Tensor> run_plan_on_host(
    const Plan& plan, const std::vector<Tensor>& inputs,
    const std::function<void(std::size_t, const ReadTensor&)>& after) {
    HostKernels kernels(plan);
    const GuardedMemory arena(plan.arena_bytes, false);
    std::vector<GuardedMemory> own;
    std::vector<std::byte*> addresses;
    for (const Buffer& buffer : plan.buffers) {
        if (buffer.kind == Buffer::Kind::Arena) {
            addresses.push_back(arena.data() + buffer.offset);
            continue;
        }
        // What the caller brings is aligned to 16 bytes only.
        own.emplace_back(buffer.bytes, buffer.kind != Buffer::Kind::Constant);
        std::byte* const address = addresses.emplace_back(own.back().data());
        if (buffer.kind == Buffer::Kind::Input) {
            const Tensor& input = inputs.at(buffer.index);
            std::memcpy(address, input.bytes().data(), input.byte_size());
        }
        if (buffer.kind == Buffer::Kind::Constant) {
            upload_constant(plan.constants.at(buffer.index), address);
        }
    }
    const auto address_of = [&](const TensorRef& tensor) {
        return addresses[tensor.buffer] +
               tensor.offset * static_cast<std::int64_t>(size_of(tensor.dtype));
    };
    const ReadTensor read = [&](const TensorRef& tensor) {
        return gather_strided(address_of(tensor), tensor.dtype, tensor.shape, tensor.strides);
    };
    for (std::size_t i = 0; i < plan.steps.size(); ++i) {
        const Step& step = plan.steps[i];
        std::vector<std::byte*> operands;
        for (const Operand& operand : step.operands) operands.push_back(address_of(operand.tensor));
        if (const auto* work = std::get_if<KernelWork>(&step.work)) {
            std::vector<unsigned long long> arguments;
            for (std::byte* address : operands)
                arguments.push_back(reinterpret_cast<std::uintptr_t>(address));
            for (const std::int64_t scalar : work->scalars)
                arguments.push_back(static_cast<unsigned long long>(scalar));
            std::vector<HostMap> maps;
            for (const OperandMap& map : work->maps)
                maps.push_back({map.layout, operands.at(map.operand)});
            for (const HostMap& map : maps)
                arguments.push_back(reinterpret_cast<std::uintptr_t>(&map));
            const PlanKernel& kernel = plan.kernels.at(work->kernel);
            if (!stays_inside([&] { kernels.launch(kernel, *work, arguments); }))
                throw kn::Error(fmt::format("step {} touches memory outside of its buffers:\n{}", i,
                                            own_text(kernel.source)));
        } else if (const auto* matmul = std::get_if<MatMulWork>(&step.work)) {
            run_on_host(*matmul, operands);
        } else if (const auto* cudnn = std::get_if<CudnnWork>(&step.work)) {
            run_on_host(*cudnn, operands);
        } else {
            const TensorRef& tensor = step.operands.at(0).tensor;
            std::memset(
                operands.at(0), 0,
                static_cast<std::size_t>(checked_size(tensor.shape)) * size_of(tensor.dtype));
        }
        if (after) after(i, read);
    }
    std::vector<Tensor> outputs;
    for (const TensorRef& output : plan.outputs) outputs.push_back(read(output));
    return outputs;
}

}  // namespace kn::cuda

#include "kn/cuda_sys/library.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "check.h"
#include "library_api.h"
#include "release.h"

namespace kn::cuda {

namespace detail {

// CUBIN is ELF, a fat binary has a number of its own, PTX is text that ends with a NUL.
bool looks_like_code(std::span<const std::byte> image) {
    if (image.size() < 16) return false;
    std::uint32_t first;
    std::memcpy(&first, image.data(), sizeof first);
    bool elf = first == 0x464c457f, fat_binary = first == 0xba55ed50;
    if (elf || fat_binary) return true;
    std::string_view text(reinterpret_cast<const char*>(image.data()), image.size() - 1);
    return image.back() == std::byte{0} && text.find(".version") != std::string_view::npos;
}

struct LibraryState {
    LibraryHandle handle = nullptr;
    Device loaded_on;

    explicit LibraryState(std::span<const std::byte> image) : loaded_on(Device::current()) {
        // The driver loads lazily and would not notice before the first launch.
        KN_CUDA_REQUIRE(looks_like_code(image), "Library", "{} bytes are neither CUBIN nor PTX",
                        image.size());
        detail::GatedGuard guard(loaded_on);
        KN_CUDA_CHECK(library_load(&handle, image.data()));
    }
    ~LibraryState() {
        if (handle) release_on(loaded_on, [this] { library_unload(handle); });
    }
    LibraryState(const LibraryState&) = delete;
    LibraryState& operator=(const LibraryState&) = delete;
};

}  // namespace detail

namespace {

std::vector<std::string> names_of(detail::LibraryHandle library) {
    std::vector<std::string> names;
    unsigned count = 0;
    KN_CUDA_CHECK(detail::library_kernel_count(&count, library));
    std::vector<cudaKernel_t> kernels(count);
    KN_CUDA_CHECK(detail::library_enumerate(kernels.data(), count, library));
    for (cudaKernel_t kernel : kernels) {
        const char* name = nullptr;
        KN_CUDA_CHECK(detail::kernel_name(&name, kernel));
        names.emplace_back(name);
    }
    return names;
}

dim3 to_dim3(Dim3 d) { return {d.x, d.y, d.z}; }

cudaKernel_t as_kernel(const void* handle) {
    return static_cast<cudaKernel_t>(const_cast<void*>(handle));
}

// Sizes of the kernel's parameters; false where cudart or the driver is too old to tell.
bool read_parameter_sizes(cudaKernel_t kernel, std::vector<std::size_t>* sizes) {
    for (std::size_t i = 0;; ++i) {
        std::size_t offset = 0, size = 0;
        cudaError_t status = detail::kernel_parameter(kernel, i, &offset, &size);
        if (status == cudaErrorInvalidValue) break;
        if (status != cudaSuccess) {
            cudaGetLastError();
            return false;
        }
        sizes->push_back(size);
    }
    cudaGetLastError();
    return true;
}

void check_arguments(const std::string& name, const std::vector<std::size_t>& expected,
                     std::span<const std::size_t> given) {
    KN_CUDA_REQUIRE(expected.size() == given.size(), "Kernel::launch",
                    "{} takes {} arguments, {} given", name, expected.size(), given.size());
    for (std::size_t i = 0; i < given.size(); ++i)
        KN_CUDA_REQUIRE(expected[i] == given[i], "Kernel::launch",
                        "argument {} of {} has {} bytes, {} given", i, name, expected[i], given[i]);
}

}  // namespace

Library::Library(std::span<const std::byte> image)
    : state_(std::make_shared<const detail::LibraryState>(image)) {}

Kernel Library::kernel(const std::string& name) const { return Kernel(state_, name); }

std::vector<std::string> Library::kernel_names() const { return names_of(state_->handle); }

DeviceSpan<std::byte> Library::global(Device device, const std::string& name) const {
    detail::GatedGuard guard(device);
    void* data = nullptr;
    std::size_t bytes = 0;
    cudaError_t status = detail::library_global(&data, &bytes, state_->handle, name.c_str());
    if (status == cudaErrorSymbolNotFound) {
        cudaGetLastError();
        KN_CUDA_REQUIRE(false, "Library::global", "there is no variable \"{}\"", name);
    }
    detail::check(status, "cudaLibraryGetGlobal", __FILE__, __LINE__);
    return {device, static_cast<std::byte*>(data), bytes};
}

Kernel::Kernel(std::shared_ptr<const detail::LibraryState> library, std::string name)
    : library_(std::move(library)), name_(std::move(name)) {
    detail::GatedGuard guard(library_->loaded_on);
    cudaKernel_t kernel = nullptr;
    cudaError_t status = detail::library_kernel(&kernel, library_->handle, name_.c_str());
    if (status == cudaErrorSymbolNotFound) {
        cudaGetLastError();
        std::string known;
        for (const std::string& other : names_of(library_->handle)) known += " " + other;
        KN_CUDA_REQUIRE(false, "Library::kernel", "there is no kernel \"{}\"; kernels:{}", name_,
                        known);
    }
    detail::check(status, "cudaLibraryGetKernel", __FILE__, __LINE__);
    handle_ = kernel;
    parameters_known_ = read_parameter_sizes(kernel, &parameter_sizes_);
}

void Kernel::launch_raw(StreamRef stream, const LaunchConfig& config,
                        std::span<void* const> arguments,
                        std::span<const std::size_t> sizes) const {
    if (parameters_known_ && (!sizes.empty() || arguments.empty()))
        check_arguments(name_, parameter_sizes_, sizes);
    std::array<cudaLaunchAttribute, 3> attributes{};
    unsigned count = 0;
    if (config.cluster.x * config.cluster.y * config.cluster.z > 1) {
        attributes[count].id = cudaLaunchAttributeClusterDimension;
        attributes[count].val.clusterDim = {config.cluster.x, config.cluster.y, config.cluster.z};
        ++count;
    }
    if (config.cooperative) {
        attributes[count].id = cudaLaunchAttributeCooperative;
        attributes[count++].val.cooperative = 1;
    }
    if (config.overlap_previous) {
        attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[count++].val.programmaticStreamSerializationAllowed = 1;
    }
    cudaLaunchConfig_t launch{};
    launch.gridDim = to_dim3(config.grid);
    launch.blockDim = to_dim3(config.block);
    launch.dynamicSmemBytes = config.shared_bytes;
    launch.stream = stream.handle();
    launch.attrs = attributes.data();
    launch.numAttrs = count;
    detail::GatedGuard guard(stream.device());
    cudaError_t status =
        detail::kernel_launch(launch, as_kernel(handle_), const_cast<void**>(arguments.data()));
    if (status == cudaSuccess) return;
    detail::check(status, fmt::format("cudaLaunchKernelExC({})", name_).c_str(), __FILE__,
                  __LINE__);
}

KernelAttributes Kernel::attributes(Device device) const {
    detail::GatedGuard guard(device);
    cudaFuncAttributes raw{};
    KN_CUDA_CHECK(detail::kernel_attributes(&raw, as_kernel(handle_), device.index()));
    return {.registers = raw.numRegs,
            .max_threads_per_block = raw.maxThreadsPerBlock,
            .static_shared_bytes = raw.sharedSizeBytes,
            .max_dynamic_shared_bytes = static_cast<std::size_t>(raw.maxDynamicSharedSizeBytes),
            .local_bytes = raw.localSizeBytes,
            .constant_bytes = raw.constSizeBytes};
}

void Kernel::allow_shared_bytes(Device device, std::size_t bytes) const {
    detail::GatedGuard guard(device);
    KN_CUDA_REQUIRE(bytes <= device.properties().shared_per_block_optin,
                    "Kernel::allow_shared_bytes", "{} bytes asked for {}, device {} has {}", bytes,
                    name_, device.index(), device.properties().shared_per_block_optin);
    KN_CUDA_CHECK(detail::kernel_set_attribute(as_kernel(handle_),
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               static_cast<int>(bytes), device.index()));
}

void Kernel::prefer_shared_carveout(Device device, int percent) const {
    detail::GatedGuard guard(device);
    KN_CUDA_CHECK(detail::kernel_set_attribute(as_kernel(handle_),
                                               cudaFuncAttributePreferredSharedMemoryCarveout,
                                               percent, device.index()));
}

int Kernel::blocks_per_sm(Device device, int block_threads, std::size_t shared_bytes) const {
    detail::GatedGuard guard(device);
    int blocks = 0;
    KN_CUDA_CHECK(
        detail::kernel_blocks_per_sm(&blocks, as_kernel(handle_), block_threads, shared_bytes));
    return blocks;
}

}  // namespace kn::cuda

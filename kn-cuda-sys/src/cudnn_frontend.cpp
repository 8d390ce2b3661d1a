// The only file that includes cudnn_frontend, which takes as long to compile as all the rest.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
// First: cuDNN's functions by way of kn's own, for what cudnn_frontend calls too.
#include "cudnn_calls.h"

#include <cudnn_frontend.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "capture_gate.h"
#include "check.h"
#include "cudnn_normalise.h"
#include "cudnn_stored.h"
#include "kn/cuda_sys/cudnn.h"

namespace fe = cudnn_frontend;

namespace kn::cuda {

namespace {

using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

[[noreturn]] void unsupported(const char* call, const std::string& why, int line) {
    throw CudnnUnsupported({ErrorSource::Cudnn, call, why, 0, __FILE__, line});
}

void check_frontend(fe::error_t error, const char* call, int line) {
    if (error.is_good()) return;
    throw CudnnUnsupported({ErrorSource::Cudnn, call, error.get_message(),
                            static_cast<int>(error.get_code()), __FILE__, line});
}
#define KN_FE_CHECK(call) check_frontend((call), #call, __LINE__)

fe::DataType_t to_fe(DataType type) {
    switch (type) {
        case DataType::F16: return fe::DataType_t::HALF;
        case DataType::BF16: return fe::DataType_t::BFLOAT16;
        case DataType::F32: return fe::DataType_t::FLOAT;
        case DataType::F64: return fe::DataType_t::DOUBLE;
        case DataType::I8: return fe::DataType_t::INT8;
        case DataType::U8: return fe::DataType_t::UINT8;
        case DataType::I32: return fe::DataType_t::INT32;
        case DataType::I64: return fe::DataType_t::INT64;
        case DataType::Bool: return fe::DataType_t::BOOLEAN;
    }
    return fe::DataType_t::NOT_SET;
}

// A frontend graph whose plans are built and placed by hand, so that several can be built at once
// and stored ones loaded.
class OpenGraph : public fe::graph::Graph {
  public:
    fe::EngineConfigList configs() { return plans.get_barred_engine_configs(); }
    const std::vector<fe::NumericalNote_t>& numeric_notes(std::size_t i) const {
        return plans.numeric_notes[i];
    }
    const std::vector<fe::BehaviorNote_t>& behavior_notes(std::size_t i) const {
        return plans.behavior_notes[i];
    }
    std::string config_name(std::size_t i) const {
        std::string name;
        KN_FE_CHECK(plans.get_name_at_index(static_cast<int64_t>(i), name));
        return name;
    }
    void place(std::shared_ptr<fe::ExecutionPlan> plan) {
        plans.execution_plans = {std::move(plan)};
        KN_FE_CHECK(prepare_variant_pack_template());
    }
    const fe::ExecutionPlan& plan() const { return *plans.execution_plans.at(0); }
    const std::string& tag() const { return operation_graph->getTag(); }
};

Tensor add_tensor(OpenGraph& graph, const char* name, const TensorDesc& desc, int64_t uid) {
    return graph.tensor(fe::graph::Tensor_attributes()
                            .set_name(name)
                            .set_dim(desc.dims)
                            .set_stride(desc.strides)
                            .set_data_type(to_fe(desc.type))
                            .set_uid(uid));
}

void finish(const Tensor& y, const TensorDesc& desc, int64_t uid) {
    y->set_output(true)
        .set_dim(desc.dims)
        .set_stride(desc.strides)
        .set_data_type(to_fe(desc.type))
        .set_uid(uid);
}

fe::graph::Pointwise_attributes pointwise(fe::PointwiseMode_t mode) {
    return fe::graph::Pointwise_attributes().set_mode(mode).set_compute_data_type(
        fe::DataType_t::FLOAT);
}

Tensor add_activation(OpenGraph& graph, const Tensor& x, const Epilogue& e) {
    using Mode = fe::PointwiseMode_t;
    switch (e.activation) {
        case Activation::None: return x;
        case Activation::Relu: return graph.pointwise(x, pointwise(Mode::RELU_FWD));
        case Activation::LeakyRelu:
            return graph.pointwise(x, pointwise(Mode::RELU_FWD).set_relu_lower_clip_slope(e.slope));
        case Activation::Clip:
            return graph.pointwise(
                x,
                pointwise(Mode::RELU_FWD).set_relu_lower_clip(e.low).set_relu_upper_clip(e.high));
        case Activation::Sigmoid: return graph.pointwise(x, pointwise(Mode::SIGMOID_FWD));
        case Activation::Tanh: return graph.pointwise(x, pointwise(Mode::TANH_FWD));
        case Activation::Elu:
            return graph.pointwise(x, pointwise(Mode::ELU_FWD).set_elu_alpha(e.slope));
        case Activation::Swish:
            return graph.pointwise(x, pointwise(Mode::SWISH_FWD).set_swish_beta(1.0f));
        case Activation::Gelu: return graph.pointwise(x, pointwise(Mode::GELU_FWD));
        case Activation::GeluTanh: return graph.pointwise(x, pointwise(Mode::GELU_APPROX_TANH_FWD));
    }
    return x;
}

// Residual, bias, activation and the output y, with uids from `uid` on.
void add_epilogue(OpenGraph& graph, Tensor main, const Epilogue& e, const TensorDesc& y,
                  int64_t uid) {
    Tensor residual = e.residual ? add_tensor(graph, "residual", *e.residual, uid++) : nullptr;
    Tensor bias = e.bias ? add_tensor(graph, "bias", *e.bias, uid++) : nullptr;
    if (e.bias_first) std::swap(residual, bias);
    for (const Tensor& term : {residual, bias})
        if (term) main = graph.pointwise(main, term, pointwise(fe::PointwiseMode_t::ADD));
    finish(add_activation(graph, main, e), y, uid);
}

void describe(OpenGraph& graph, const ConvDesc& desc) {
    ConvDesc d = detail::normalise(desc);
    Tensor x = add_tensor(graph, "x", d.x, 1), w = add_tensor(graph, "w", d.w, 2);
    auto attributes = fe::graph::Conv_fprop_attributes()
                          .set_pre_padding(d.pad_before)
                          .set_post_padding(d.pad_after)
                          .set_stride(d.stride)
                          .set_dilation(d.dilation)
                          .set_compute_data_type(to_fe(d.compute));
    add_epilogue(graph, graph.conv_fprop(x, w, attributes), d.epilogue, d.y, 3);
}

void describe(OpenGraph& graph, const ConvTransposeDesc& desc) {
    ConvTransposeDesc d = detail::normalise(desc);
    Tensor x = add_tensor(graph, "x", d.x, 1), w = add_tensor(graph, "w", d.w, 2);
    auto attributes = fe::graph::Conv_dgrad_attributes()
                          .set_pre_padding(d.pad_before)
                          .set_post_padding(d.pad_after)
                          .set_stride(d.stride)
                          .set_dilation(d.dilation)
                          .set_compute_data_type(to_fe(d.compute));
    Tensor main = graph.conv_dgrad(x, w, attributes);
    // Input extents do not follow from output extents, so they have to be said.
    main->set_dim(d.y.dims).set_stride(d.y.strides);
    add_epilogue(graph, main, d.epilogue, d.y, 3);
}

void describe(OpenGraph& graph, const PoolDesc& desc) {
    PoolDesc d = detail::normalise(desc);
    using Mode = fe::ResampleMode_t;
    bool max = d.mode == Pooling::Max;
    Mode mode = max ? Mode::MAXPOOL
                    : (d.mode == Pooling::Average ? Mode::AVGPOOL_EXCLUDE_PADDING
                                                  : Mode::AVGPOOL_INCLUDE_PADDING);
    auto attributes =
        fe::graph::Resample_attributes()
            .set_resampling_mode(mode)
            .set_padding_mode(max ? fe::PaddingMode_t::NEG_INF_PAD : fe::PaddingMode_t::ZERO_PAD)
            .set_window(d.window)
            .set_stride(d.stride)
            .set_pre_padding(d.pad_before)
            .set_post_padding(d.pad_after)
            .set_generate_index(false)
            .set_compute_data_type(to_fe(d.compute));
    finish(graph.resample(add_tensor(graph, "x", d.x, 1), attributes)[0], d.y, 2);
}

void describe(OpenGraph& graph, const CudnnMatmulDesc& d) {
    Tensor a = add_tensor(graph, "a", d.a, 1), b = add_tensor(graph, "b", d.b, 2);
    Tensor main =
        graph.matmul(a, b, fe::graph::Matmul_attributes().set_compute_data_type(to_fe(d.compute)));
    add_epilogue(graph, main, d.epilogue, d.y, 3);
}

void describe(OpenGraph& graph, const SdpaDesc& d) {
    for (const TensorDesc* t : {&d.q, &d.k, &d.v, &d.o}) {
        KN_CUDA_REQUIRE(t->dims.size() == 4, "cuDNN", "attention on {} dimensions, not 4",
                        t->dims.size());
        if (t->type != DataType::F16 && t->type != DataType::BF16)
            unsupported("sdpa",
                        fmt::format("attention in {}: cuDNN plans it and then faults; use f16 or "
                                    "bf16",
                                    to_string(t->type)),
                        __LINE__);
    }
    float scale = d.scale.value_or(1.0f / std::sqrt(static_cast<float>(d.q.dims[3])));
    auto attributes = fe::graph::SDPA_attributes()
                          .set_generate_stats(false)
                          .set_attn_scale(scale)
                          .set_compute_data_type(fe::DataType_t::FLOAT);
    if (d.causal == CausalMask::TopLeft) attributes.set_causal_mask(true);
    if (d.causal == CausalMask::BottomRight) attributes.set_causal_mask_bottom_right(true);
    Tensor q = add_tensor(graph, "q", d.q, 1), k = add_tensor(graph, "k", d.k, 2),
           v = add_tensor(graph, "v", d.v, 3);
    int64_t uid = 4;
    if (d.bias) attributes.set_bias(add_tensor(graph, "bias", *d.bias, uid++));
    if (d.sequence_lengths) {
        TensorDesc lengths = dense(DataType::I32, {d.q.dims[0], 1, 1, 1});
        attributes.set_padding_mask(true);
        attributes.set_seq_len_q(add_tensor(graph, "seq_q", lengths, uid++));
        attributes.set_seq_len_kv(add_tensor(graph, "seq_kv", lengths, uid++));
    }
    finish(graph.sdpa(q, k, v, attributes)[0], d.o, uid);
}

DataType io_type(const CudnnProblem& problem) { return operands(problem).front().tensor.type; }

// cuDNN before 9.8 plans through a handle, and so only for a device that is there.
struct Context {
    std::shared_ptr<fe::DeviceProperties> properties;
    std::shared_ptr<CudnnHandle> handle;

    explicit Context(const DeviceProperties& device) {
        if (cudnnGetVersion() < 90800) {
            handle = std::make_shared<CudnnHandle>(Device(device.index));
            return;
        }
        std::string json = to_json(device);
        properties = std::make_shared<fe::DeviceProperties>();
        KN_FE_CHECK(properties->deserialize(std::vector<uint8_t>(json.begin(), json.end())));
    }
    cudnnHandle_t raw() const {
        return handle ? static_cast<cudnnHandle_t>(handle->handle()) : nullptr;
    }
};

std::unique_ptr<OpenGraph> make_graph(const CudnnProblem& problem, const Context& context,
                                      const DeviceProperties& device) {
    detail::check_tensors(problem);
    auto graph = std::make_unique<OpenGraph>();
    graph->set_io_data_type(to_fe(io_type(problem)))
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (context.properties) graph->set_device_properties(context.properties);
    graph->set_sm_version(device.compute());
    // Executors keep plans alive as long as the graphs that captured them; launches are then a
    // little faster.
    graph->set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
    std::visit([&](const auto& desc) { describe(*graph, desc); }, problem);
    KN_FE_CHECK(graph->validate());
    KN_FE_CHECK(graph->build_operation_graph(context.raw()));
    return graph;
}

void query_heuristics(OpenGraph& graph) {
    KN_FE_CHECK(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}));
}

template <class Note>
bool has(const std::vector<Note>& notes, Note note) {
    return std::find(notes.begin(), notes.end(), note) != notes.end();
}

CudnnCandidate candidate_info(OpenGraph& graph, fe::EngineConfigList& configs, std::size_t i) {
    CudnnCandidate info;
    info.name = graph.config_name(i);
    const auto& numeric = graph.numeric_notes(i);
    info.tensor_cores = has(numeric, fe::NumericalNote_t::TENSOR_CORE);
    info.winograd = has(numeric, fe::NumericalNote_t::WINOGRAD);
    info.deterministic = !has(numeric, fe::NumericalNote_t::NONDETERMINISTIC);
    info.runtime_compiled = has(graph.behavior_notes(i), fe::BehaviorNote_t::RUNTIME_COMPILATION);
    // Older versions know the workspace only once a plan is built.
    int64_t bytes = 0;
    if (cudnnGetVersion() >= 90200) KN_FE_CHECK(fe::detail::get_workspace_size(configs[i], bytes));
    info.workspace_bytes = static_cast<std::size_t>(bytes);
    return info;
}

bool rounds_inputs(const std::vector<fe::NumericalNote_t>& notes) {
    return has(notes, fe::NumericalNote_t::TENSOR_CORE) ||
           has(notes, fe::NumericalNote_t::DOWN_CONVERT_INPUTS) ||
           has(notes, fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION);
}

// The frontend throws its own exceptions in some builders, and cuDNN knows of no way where a part
// of it is missing.
template <class F>
auto translate(const char* call, F&& body) {
    try {
        try {
            return body();
        } catch (const fe::cudnnException& e) {
            unsupported(call, e.what(), __LINE__);
        }
    } catch (const CudnnUnsupported&) {
        detail::check_cudnn_parts();
        throw;
    }
}

}  // namespace

struct CudnnPlan::Impl {
    Context context;
    std::unique_ptr<OpenGraph> graph;
    CudnnCandidate candidate;
    std::string problem;
    int64_t operand_count;

    Impl(Context c, std::unique_ptr<OpenGraph> g, CudnnCandidate info,
         std::shared_ptr<fe::ExecutionPlan> plan, const CudnnProblem& desc)
        : context(std::move(c)),
          graph(std::move(g)),
          candidate(std::move(info)),
          problem(to_text(desc)),
          operand_count(static_cast<int64_t>(operands(desc).size())) {
        graph->place(std::move(plan));
        candidate.workspace_bytes =
            static_cast<std::size_t>(graph->get_workspace_size_plan_at_index(0));
    }
    ~Impl() {
        detail::SharedGate gate;  // unloads kernels that were compiled at run time
        graph.reset();
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
};

struct CudnnPlanAccess {
    static CudnnPlan make(Context context, std::unique_ptr<OpenGraph> graph, CudnnCandidate info,
                          std::shared_ptr<fe::ExecutionPlan> plan, const CudnnProblem& problem) {
        CudnnPlan result;
        result.impl_ = std::make_shared<const CudnnPlan::Impl>(
            std::move(context), std::move(graph), std::move(info), std::move(plan), problem);
        return result;
    }
};

const CudnnCandidate& CudnnPlan::candidate() const noexcept { return impl_->candidate; }

void CudnnPlan::run(const CudnnHandle& handle, StreamRef stream, std::span<void* const> addresses,
                    DeviceSpan<std::byte> workspace) const {
    KN_CUDA_REQUIRE(stream.device() == handle.device(), "CudnnPlan::run",
                    "the handle is of device {}, the stream of device {}", handle.device().index(),
                    stream.device().index());
    KN_CUDA_REQUIRE(static_cast<int64_t>(addresses.size()) == impl_->operand_count,
                    "CudnnPlan::run", "{} addresses for {} operands", addresses.size(),
                    impl_->operand_count);
    for (void* address : addresses)
        KN_CUDA_REQUIRE(address && reinterpret_cast<std::uintptr_t>(address) % 16 == 0,
                        "CudnnPlan::run", "address {} is null or not 16-byte aligned", address);
    KN_CUDA_REQUIRE(workspace.size() >= workspace_bytes(), "CudnnPlan::run",
                    "{} bytes of workspace, {} needed", workspace.size(), workspace_bytes());
    detail::GatedGuard guard(handle.device());
    auto raw = static_cast<cudnnHandle_t>(handle.handle());
    cudnnStatus_t status = cudnnSetStream(raw, stream.handle());
    fe::error_t error;
    if (status == CUDNN_STATUS_SUCCESS) {
        // The template holds the operands in the order of their uids, which is ours.
        error = impl_->graph->execute_plan_at_index(raw, const_cast<void**>(addresses.data()),
                                                    static_cast<int>(addresses.size()),
                                                    workspace.data(), 0);
        if (error.is_good()) return;
    }
    detail::check(cudaGetLastError(), "cudnnBackendExecute", __FILE__, __LINE__);
    detail::fail(ErrorSource::Cudnn, "cudnnBackendExecute", status,
                 status ? cudnnGetErrorString(status) : error.get_message().c_str(),
                 status == CUDNN_STATUS_ALLOC_FAILED, __FILE__, __LINE__, candidate().name);
}

std::string CudnnPlan::serialize() const {
    std::string json = translate("getJsonRepresentation",
                                 [&] { return impl_->graph->plan().getJsonRepresentation(); });
    return detail::write_stored({candidate(), impl_->problem, json});
}

std::vector<CudnnCandidate> list_candidates(const CudnnProblem& problem,
                                            const DeviceProperties& device,
                                            const CudnnLimits& limits) {
    return translate("list_candidates", [&] {
        Context context(device);
        auto graph = make_graph(problem, context, device);
        query_heuristics(*graph);
        fe::EngineConfigList configs = graph->configs();
        std::vector<CudnnCandidate> list;
        for (std::size_t i = 0; i < configs.size(); ++i) {
            CudnnCandidate info = candidate_info(*graph, configs, i);
            bool fits = info.workspace_bytes <= limits.max_workspace &&
                        (limits.runtime_compiled || !info.runtime_compiled) &&
                        (limits.tensor_cores || !rounds_inputs(graph->numeric_notes(i)));
            if (fits) list.push_back(std::move(info));
        }
        if (list.empty())
            unsupported("list_candidates",
                        fmt::format("none of cuDNN's {} ways for {} is within the limits",
                                    configs.size(), graph->tag()),
                        __LINE__);
        return list;
    });
}

CudnnPlan build_plan(const CudnnProblem& problem, const DeviceProperties& device,
                     const std::string& name) {
    return translate("build_plan", [&] {
        detail::SharedGate gate;
        Context context(device);
        auto graph = make_graph(problem, context, device);
        query_heuristics(*graph);
        fe::EngineConfigList configs = graph->configs();
        std::size_t i = 0;
        while (i < configs.size() && graph->config_name(i) != name) ++i;
        if (i == configs.size())
            unsupported("build_plan", fmt::format("cuDNN offers no way called {}", name), __LINE__);
        CudnnCandidate info = candidate_info(*graph, configs, i);
        std::shared_ptr<fe::ExecutionPlan> plan;
        KN_FE_CHECK(fe::detail::create_cudnn_execution_plan(plan, configs[i], graph->tag(), nullptr,
                                                            fe::CudaGraphRetention_t::NONE));
        return CudnnPlanAccess::make(std::move(context), std::move(graph), std::move(info),
                                     std::move(plan), problem);
    });
}

std::vector<CudnnPlan> plan_candidates(const CudnnProblem& problem, const DeviceProperties& device,
                                       const CudnnLimits& limits) {
    std::vector<CudnnCandidate> list = list_candidates(problem, device, limits);
    KN_CUDA_REQUIRE(limits.max_plans > 0, "plan_candidates", "{} plans asked for",
                    limits.max_plans);
    auto wanted = static_cast<std::size_t>(limits.max_plans);
    std::vector<std::optional<CudnnPlan>> built(list.size());
    std::string first_reason;
    std::mutex mutex;
    std::atomic<std::size_t> next{0}, successes{0};
    auto work = [&] {
        while (successes < wanted) {
            std::size_t i = next++;
            if (i >= list.size()) return;
            try {
                built[i] = build_plan(problem, device, list[i].name);
                ++successes;
            } catch (const std::exception& e) {
                std::lock_guard lock(mutex);
                if (first_reason.empty()) first_reason = e.what();
            }
        }
    };
    // Helpers would wait for this thread's own capture.
    std::size_t threads = detail::inside_capture() ? 1
                          : limits.threads > 0     ? static_cast<std::size_t>(limits.threads)
                                                   : std::thread::hardware_concurrency();
    std::vector<std::jthread> helpers;
    for (std::size_t t = 1; t < std::min({threads, wanted, list.size()}); ++t)
        helpers.emplace_back(work);
    work();
    helpers.clear();

    std::vector<CudnnPlan> plans;
    for (auto& plan : built)
        if (plan && plans.size() < wanted && plan->workspace_bytes() <= limits.max_workspace)
            plans.push_back(std::move(*plan));
    if (plans.empty()) unsupported("plan_candidates", "no plan builds: " + first_reason, __LINE__);
    return plans;
}

CudnnPlan load_plan(const CudnnProblem& problem, const DeviceProperties& device,
                    const std::string& serialized) {
    detail::StoredPlan stored = detail::read_stored(serialized, to_text(problem));
    return translate("load_plan", [&] {
        detail::SharedGate gate;
        Context context(device);
        auto graph = make_graph(problem, context, device);
        std::shared_ptr<fe::ExecutionPlan> plan;
        if (context.properties)
            KN_FE_CHECK(fe::detail::create_cudnn_execution_plan(
                plan, stored.json, std::shared_ptr<const fe::DeviceProperties>(context.properties),
                fe::CudaGraphRetention_t::NONE));
        else
            KN_FE_CHECK(fe::detail::create_cudnn_execution_plan(plan, stored.json, context.raw(),
                                                                fe::CudaGraphRetention_t::NONE));
        return CudnnPlanAccess::make(std::move(context), std::move(graph),
                                     std::move(stored.candidate), std::move(plan), problem);
    });
}

}  // namespace kn::cuda

// Plan: everything a GPU will do for one static graph, as data: buffers, kernels' source, steps,
// and the reasons.
//
//     kn::Graph bound = graph.bind({{"batch", 8}});
//     kn::cuda::Plan plan = kn::cuda::plan(bound, device, {.precision = kn::Precision::F16});
//     std::puts(plan.to_string().c_str());                       // no GPU needed so far
//
// A plan is immutable once made and may be shared by executors and threads.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include <kn/cuda_eval/export.h>
#include <kn/cuda_eval/phase.h>
#include <kn/cuda_sys/cublaslt.h>
#include <kn/cuda_sys/cudnn.h>
#include <kn/cuda_sys/device_properties.h>
#include <kn/cuda_sys/library.h>
#include <kn/cuda_sys/tensor_map.h>
#include <kn/graph/device.h>
#include <kn/graph/graph.h>

namespace kn::cuda {

/// Which kernels of ours may start before the one in front of them has ended (sm_90 and newer).
enum class Overlap {
    None,
    Own,  ///< those behind kernels of ours
    All,  ///< those behind libraries' kernels too
    /// Whichever of these is fastest: timed when the executor is made, by runs on zeros, and kept
    /// on disk. None without tuning or graphs, and for runs of more than 2 ms, which gain nothing.
    Timed,
};

struct PlanOptions {
    Precision precision = Precision::F32;
    /// A library step may use this much at most.
    std::size_t workspace_bytes = std::size_t{64} << 20;
    /// Names of planner_rules() left out.
    std::set<std::string> disabled_rules = {};
    /// Which of the tiles that suit it each product on a kernel of ours takes: 0 those that the
    /// planner expects to be fastest, 1 the next, ...; the last where there are fewer.
    std::size_t tiles = 0;
    /// The tiles of some products by Step::problem, as Step::tiles says them; what does not suit
    /// the product counts as not said. tuned_plan() finds them by measurement.
    std::map<std::string, std::string> tiles_of = {};
    /// Into how many slices the batch is cut, which go through all steps one after the other, so
    /// that activations stay in the L2 cache: 0 as many as the planner expects to be fastest, 1
    /// never more than one; others throw GraphError where the batch cannot be cut so.
    std::int64_t slices = 0;
    /// The algorithms of some library steps, likewise: by what the choice depends on. For
    /// executors.
    std::map<std::string, std::string> algorithms_of = {};
    /// For executors whose own options do not say; none: Overlap::Timed.
    std::optional<Overlap> overlap = {};
};

/// A planner's fusion or layout decision as data.
struct PlannerRule {
    std::string_view name;
    std::string_view description;
};

/// A piece of device memory. Arena buffers share one allocation; their lifetimes say when they may
/// overlap.
struct Buffer {
    enum class Kind {
        Input,     ///< the caller's tensor number `index`
        Output,    ///< likewise
        Constant,  ///< uploaded once: Plan::constants[index]
        Arena,     ///< at `offset` of the arena
    };
    Kind kind = Kind::Arena;
    std::size_t bytes = 0;
    std::size_t index = 0;
    std::size_t offset = 0;
    std::size_t first_step = 0, last_step = 0;  ///< Arena: steps that use it, both included
    std::string name;
};

/// A strided tensor inside a buffer. Strides and offset count elements; strides may be 0 or
/// negative.
struct TensorRef {
    std::uint32_t buffer = 0;
    std::int64_t offset = 0;
    DType dtype = DType::F32;
    Ints shape;
    Ints strides;
    /// Whoever writes it rounds to TF32, half away from zero, as only tensor cores read it, which
    /// cut: without this their sums are too small by some 3e-4.
    bool rounded_to_tf32 = false;
    bool operator==(const TensorRef&) const = default;
};

enum class Access { Read, Write, ReadWrite, Scratch };

/// What a step touches; everything about memory derives from this list.
struct Operand {
    TensorRef tensor;
    Access access = Access::Read;
    std::string role;  ///< "x", "w", "bias", "y", ...
};

/// F32 in two numbers that TF32 can say: High is the element rounded to TF32's 10 bits of a
/// mantissa, Low what that leaves, rounded too; together they have 22 bits.
enum class Tf32Part { None, High, Low };

/// What a normalisation does to rows in front of a product by a weight, as a part of the weight:
/// (x scale + shift) w = x (scale w) + shift w.
struct KN_CUDA_EVAL_API FoldedRows {
    std::shared_ptr<const ConstantData> scale, shift;  ///< an element for each row of w; or none
    std::int64_t axis = 0;                             ///< of w, along which they lie
    /// Instead of scale w in the weight's type, two float32 for each of the weight's columns (the
    /// other axis): the sum of scale w, rounded as that is, and of shift w.
    bool sums = false;
    /// In which scale w is rounded.
    DType dtype = DType::F16;
    bool operator==(const FoldedRows&) const = default;
};

/// A weight as the device wants it: its parts one behind the other along `axis`, converted to
/// `dtype`, axes stored in the order `order` (outermost first), dense.
struct KN_CUDA_EVAL_API PlanConstant {
    std::vector<std::shared_ptr<const ConstantData>> parts;  ///< at least one
    std::int64_t axis = 0;                                   ///< where there are several
    DType dtype = DType::F32;
    Ints order;
    Tf32Part tf32 = Tf32Part::None;
    std::optional<FoldedRows> folded = {};  ///< of weights of two axes, half types
    /// Of a convolution's weights, stored as filters, lines, columns, channels (`order`), 3x3: what
    /// minimal filtering multiplies by instead (kernels/winograd.cu), computed in float32, [filters,
    /// slabs of 64 channels * 12, 64]: by slabs, lines, halves of a slab, and pairs of positions, two
    /// positions of 32 channels; zeros for channels that are not there.
    bool winograd = false;
    bool operator==(const PlanConstant&) const = default;
    /// With the axes in their own order.
    Ints shape() const;
};

/// CUDA C++ source with one entry point. Equal sources are one kernel.
struct PlanKernel {
    std::string entry;
    std::string source;
    std::vector<std::string> flags;
    /// The compiler's target where it is not the device's own, such as "sm_90a".
    std::string arch = {};
    /// What one processor takes to compile it, about; 0: as much as its text says.
    int compile_ms = 0;
};

/// A tensor map over an operand, as a kernel parameter.
struct OperandMap {
    std::size_t operand = 0;  ///< Step::operands; the map starts at its tensor's first element
    TensorMapLayout layout;
};

/// The i-th kernel parameter is the address of operand i (its tensor's first element); then come
/// the scalars, then the maps.
struct KernelWork {
    std::size_t kernel = 0;  ///< Plan::kernels
    Dim3 grid, block, cluster;
    std::size_t shared_bytes = 0;
    std::vector<std::int64_t> scalars;  ///< passed as long long
    std::vector<OperandMap> maps;
    int flops_per_clock = 256;  ///< of a multiprocessor at best: for the roofline
};

/// D = epilogue(alpha A B + beta C + bias). Operands in the order a, b, [c], [bias], d, then
/// workspace (Scratch).
struct MatMulWork {
    MatmulDesc desc;
    double alpha = 1, beta = 0;
};

/// Operands in the order of kn::cuda::operands(problem), then workspace (Scratch).
struct CudnnWork {
    CudnnProblem problem;
    bool tensor_cores = true;
};

/// Bytes set to zero: operand 0.
struct ClearWork {};

/// One launch, library call or clearing of memory.
struct KN_CUDA_EVAL_API Step {
    std::string name;  ///< "conv", "row", "pointwise", ...: buckets of a profile
    std::variant<KernelWork, MatMulWork, CudnnWork, ClearWork> work;
    std::vector<Operand> operands;
    std::vector<Value> produces;       ///< values of Plan::graph that are complete after this step
    std::vector<std::string> origins;  ///< ONNX nodes
    std::string reason;                ///< why these operations are together
    std::string problem;               ///< of a product in tiles: what its tiles depend on
    std::string tiles;                 ///< and those it has: "128x128 staged 5 stages"
    double expected_us = 0;            ///< by the model that chose them; 0 where there is none
    std::size_t slice = 0;             ///< of the batch: 1, 2, ...; 0 where they share the step
    std::int64_t flops = 0;
    /// Bytes read and written by operands, each tensor once.
    std::int64_t bytes() const;
};

/// A rule that was tried where its pattern fits.
struct Decision {
    std::string rule;
    bool taken = false;
    std::string where;  ///< the anchor's ONNX node or operation
    std::string reason;
};

/// Steps run in their order; each may read what those before it wrote.
struct KN_CUDA_EVAL_API Plan {
    std::shared_ptr<const Graph> graph;  ///< after the precision policy; static
    PlanOptions options;
    DeviceProperties device;
    std::vector<Buffer> buffers;
    std::vector<PlanConstant> constants;
    std::vector<PlanKernel> kernels;
    std::vector<Step> steps;
    std::vector<TensorRef> inputs, outputs;  ///< in the graph's order
    /// Where values of the graph lie, while their buffers live.
    std::vector<std::pair<Value, TensorRef>> stored;
    std::vector<Decision> decisions;
    std::int64_t slices = 1;         ///< of the batch
    std::size_t arena_bytes = 0;     ///< with library workspaces
    std::size_t constant_bytes = 0;  ///< of weights as uploaded
    std::vector<Phase> phases;       ///< of planning; in no text

    /// Steps with shapes, layouts, bytes, FLOPs, roofline time and reasons; buffers; decisions.
    std::string to_string() const;
    /// The same as JSON, and as Graphviz text.
    std::string to_json() const;
    std::string to_dot() const;
};

/// What the device needs at least for a step's bytes and FLOPs, in microseconds.
KN_CUDA_EVAL_API double roofline_us(const Step& step, const DeviceProperties& device);

/// "f16[2, 64, 56, 56]", with {0,2,3,1} for another dense order of axes, else with strides; the
/// buffer in front.
KN_CUDA_EVAL_API std::string to_string(const TensorRef& tensor);

/// The rules of the planner in the order in which they are tried.
KN_CUDA_EVAL_API std::vector<PlannerRule> planner_rules();

/// Plans a static graph for a device that need not be present. Throws UnsupportedError that
/// lists every operation without a GPU step, by name with its ONNX node; GraphError that names
/// symbols that are not bound.
KN_CUDA_EVAL_API Plan plan(const Graph& graph, const DeviceProperties& device,
                           const PlanOptions& options = {});

}  // namespace kn::cuda

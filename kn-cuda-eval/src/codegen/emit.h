// Code generation: the value of any element of any value, as CUDA C++.
//
// `Emitter::value(v, index)` writes statements that compute element `index` of `v` and gives the
// variable that holds it. A stored value or a view of one is a load; everything else is computed
// from its operands at the indices it needs: elementwise operations paste their table expression,
// Permute, Slice, Pad, Concat, Gather, Window and Reshape are index arithmetic, a Reduce is a loop
// in the thread. So one mechanism fuses anything into any kernel.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "codegen/index_math.h"
#include "planner/placement.h"

namespace kn::cuda {

/// C text of a type: "float", "kn_half", "long long", "bool"; and of the type arithmetic is done in
/// (float for half types).
std::string c_type(DType dtype);
std::string compute_type(DType dtype);
/// The prelude's struct that joins elements; a mean is a sum, divided later.
std::string reduce_type(ReduceOp op);
/// Element `i` of a tensor as an exact C literal of the compute type.
std::string literal(const Tensor& tensor, std::int64_t i);
std::string literal(DType dtype, double value);

/// An index as C text, one expression per axis; "3" and "i0 * 4 + k" are fine. Texts that the
/// Emitter's IndexMath made, and variables it was told the range of, are simplified.
using Index = std::vector<std::string>;

/// Source under construction, indented. Text may be put in front of blocks that are still open.
class Code {
  public:
    void line(const std::string& text);
    void open(const std::string& text);  ///< text + " {"
    void close(const std::string& text = "}");
    /// A name not used before in this kernel.
    std::string fresh(const std::string& prefix);
    const std::string& text() const { return text_; }
    void append(const std::string& text) { text_ += text; }

    /// How many blocks are open.
    std::size_t level() const { return blocks_.size(); }
    /// From now on text goes in front of the block opened at this level, until `leave`; may nest.
    void enter(std::size_t level);
    void leave();

  private:
    struct Aside {
        std::string text;
        std::vector<std::size_t> blocks;
        std::size_t end;
        int depth;
    };
    std::string text_;
    int depth_ = 1;
    int counter_ = 0;
    std::vector<std::size_t> blocks_;  // where each open block begins
    std::vector<Aside> aside_;
};

/// `variable` (compute type) as the tensor stores it.
std::string as_stored(const TensorRef& tensor, const std::string& variable);

/// The operands of the kernel under construction: each stored tensor or view that is read or
/// written, once.
class KernelOperands {
  public:
    /// The parameter name ("p0") of this buffer; views of one buffer share a parameter where
    /// element types agree.
    std::string pointer(const TensorRef& tensor, Access access, const std::string& role);
    const std::vector<Operand>& list() const { return list_; }
    /// The parameter name ("m0") of a kn_tensor_map over a tensor that is an operand already.
    std::string map(const std::string& pointer, const TensorMapLayout& layout);
    const std::vector<OperandMap>& maps() const { return maps_; }
    /// "const float* __restrict__ p0, ..."
    std::string parameters() const;

  private:
    std::vector<Operand> list_;
    std::vector<OperandMap> maps_;
};

class Emitter {
  public:
    Emitter(const Placement& placement, Code& code, KernelOperands& operands);

    IndexMath& math() { return math_; }

    /// Says that this kernel computes these values, so they are not read though they are stored.
    void computes(const std::vector<Value>& values);

    /// Lanes: each thread computes `lanes` neighbouring elements; indices may then be linear in the
    /// variable "j", and what depends on it is an array. Loads and stores of neighbours are done at
    /// once.
    void set_lanes(int lanes);
    int lanes() const { return lanes_; }

    /// The variable (in the compute type) that holds element `index` of `value`. The same value at
    /// the same index is computed once per scope.
    std::string value(Value value, const Index& index);
    /// Says that in the scopes to come, `value` at any index is what `get` returns for it: a row
    /// kernel's registers, an anchor's accumulator.
    void provide(Value value, std::function<std::string(const Index&)> get);

    /// Statements that store `variable` (compute type) as element `index` of a stored value.
    void store(Value value, const Index& index, const std::string& variable);
    /// The same for any tensor; and an element of one, in the compute type.
    void store(const TensorRef& tensor, const Index& index, const std::string& variable);
    std::string load(const TensorRef& tensor, const Index& index, const std::string& role);

    /// A scope of its own for memoised values: what is computed inside is forgotten at its end.
    void push_scope();
    void pop_scope();
    std::size_t scope() const { return memo_.size() - 1; }
    /// What `body` writes goes where this outer scope was when the inner ones were opened.
    void in_scope(std::size_t scope, const std::function<void()>& body);
    /// A function of the kernel's that loads of whole vectors go through, given their address: for
    /// loads that need not keep their order among stores.
    void set_reader(const std::string& function) { reader_ = function; }
    /// Loads whose place depends on the lane or on what was marked so (IndexMath::mark) happen only
    /// where this holds; elsewhere they give 0.
    void set_guard(const std::string& condition) { guard_ = condition; }
    const std::string& guard() const { return guard_; }

    /// What has been loaded so far: elements of the tensor, its parameter, where, bytes of an
    /// element.
    struct Load {
        std::int64_t elements;
        std::string pointer;
        std::string offset;
        std::size_t bytes;
    };
    const std::vector<Load>& loads() const { return loads_; }

    /// A loop whose loads are all done in front of it, in this scope, into arrays over its counter;
    /// those that do not name its variable once.
    struct Ahead {
        std::size_t scope = 0;
        std::string variable, counter;
        std::int64_t trips = 0;
        std::string definition;  ///< of the variable, from the counter
    };
    void set_ahead(std::optional<Ahead> ahead) { ahead_ = std::move(ahead); }

    /// Arithmetic of a composite in the thread, whatever `provide` says.
    std::string compute_inline(Value value, const Index& index);

    /// A constant that holds `expression`, a variable that may be assigned to, and the assignment.
    std::string define(const std::string& type, const std::string& expression);
    std::string declare(const std::string& type, const std::string& start);
    void assign(const std::string& variable, const std::string& expression);
    /// `for` over [0, extent) with scopes; gives the counter.
    std::string open_loop(std::int64_t extent);
    void close_loop();

    /// Whether codegen can compute the operation inline; otherwise why not.
    static std::optional<std::string> why_not_inline(const Graph& graph, Value value);

  private:
    const Graph& graph() const { return placement_.graph(); }
    Ints shape(Value value) const { return graph().shape(value).to_ints(); }
    std::string compute(Value value, const Index& index);
    /// Of a half type, rounded to it: what a step function is about to look at.
    std::string rounded(Value value, const Index& index);
    std::string lane_loop(const std::string& statement) const;
    bool varies(const std::string& text) const { return math_.varies(text); }
    /// "low <= index && index < high" without what is sure; empty: always true.
    std::string inside(const std::string& index, std::int64_t low, std::int64_t high);
    /// The text of a load of `type`, which may be done earlier.
    std::string ahead(const std::string& type, const std::string& offset, const std::string& read);
    /// An element of `indices` as an index in [0, extent).
    std::string gathered(Value indices, const Index& index, std::int64_t extent);
    /// Where the condition depends on the lane, loads inside are guarded and the rest is computed
    /// for all lanes.
    void open_branch(const std::string& condition);
    void close_branch();
    void assign_in_branch(const std::string& variable, const std::string& expression);

#define KN_EMIT(name) std::string emit(const op::name& op, Value result, const Index& index);
    KN_EMIT(Reshape)
    KN_EMIT(Permute)
    KN_EMIT(Broadcast)
    KN_EMIT(Slice)
    KN_EMIT(Window)
    KN_EMIT(Concat)
    KN_EMIT(Pad)
    KN_EMIT(Gather)
    KN_EMIT(GatherElements)
    KN_EMIT(GatherNd)
    KN_EMIT(Constant)
    KN_EMIT(ShapeValue)
    KN_EMIT(Iota)
    KN_EMIT(Unary)
    KN_EMIT(Binary)
    KN_EMIT(Select)
    KN_EMIT(Cast)
    KN_EMIT(BitCast)
    KN_EMIT(Reduce)
    KN_EMIT(ArgReduce)
    KN_EMIT(MatMul)
    KN_EMIT(Conv)
    KN_EMIT(Norm)
    KN_EMIT(Softmax)
#undef KN_EMIT
    /// The others: GraphError.
    template <class Op>
    std::string emit(const Op& op, Value result, const Index& index);

    const Placement& placement_;
    Code& code_;
    KernelOperands& operands_;
    IndexMath math_;
    int lanes_ = 1;
    std::string guard_, reader_ = "*";
    struct Branch {
        std::string outer_guard, lane_condition;
    };
    std::vector<Branch> branches_;
    std::vector<Load> loads_;
    std::optional<Ahead> ahead_;
    std::vector<std::size_t> levels_;  // of the code, for each scope
    std::vector<std::uint32_t> computed_;
    std::vector<std::map<std::pair<std::uint32_t, Index>, std::string>> memo_;
    std::map<std::uint32_t, std::function<std::string(const Index&)>> provided_;
};

/// A finished kernel for Plan::steps: adds the source to the plan (equal sources once) and the
/// step.
struct KernelDraft {
    std::string name;  ///< the step's; the entry point is kn_NAME_HASH
    std::string body;  ///< the statements between the braces
    KernelOperands operands;
    Dim3 grid, block;
    Dim3 cluster = {};
    std::size_t shared_bytes = 0;
    std::string helpers = {};  ///< text before the kernel, of its own
    std::vector<std::string> flags = {};
    int blocks_per_sm = 0;  ///< that the registers have to suffice for; 0: as it comes
    std::string arch = {};  ///< PlanKernel::arch
    int compile_ms = 0;     ///< PlanKernel::compile_ms
};
/// The source is whole (kernel_prelude() in front), yet sources of several kernels may follow each
/// other in one program: the prelude guards itself, what is behind it stands in a namespace for
/// each kernel, and entry points are told apart by their hash.
void add_kernel_step(Placement& placement, const Group& group, const KernelDraft& draft);

/// The text that precedes every kernel: types, conversions, the scalar helpers (kn_add, kn_gelu,
/// ...), warp reductions; from kernels/*.cu, embedded. Intrinsics and PTX occur only in
/// kernels/{intrinsics,hopper}.cu, which the host test shim replaces.
const std::string& kernel_prelude();

}  // namespace kn::cuda

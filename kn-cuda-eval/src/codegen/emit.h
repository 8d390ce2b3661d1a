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

#include "planner/placement.h"

namespace kn::cuda {

/// C text of a type: "float", "__half", "long long", "bool"; and of the type arithmetic is done in
/// (float for half types).
std::string c_type(DType dtype);
std::string compute_type(DType dtype);

/// An index as C text, one expression per axis; "3" and "i0 * 4 + k" are fine.
using Index = std::vector<std::string>;

/// Source under construction, indented.
class Code {
  public:
    void line(const std::string& text);
    void open(const std::string& text);  ///< text + " {"
    void close(const std::string& text = "}");
    /// A name not used before in this kernel.
    std::string fresh(const std::string& prefix);
    const std::string& text() const { return text_; }
    void append(const std::string& text) { text_ += text; }

  private:
    std::string text_;
    int depth_ = 1;
    int counter_ = 0;
};

/// The operands of the kernel under construction: each stored tensor or view that is read or
/// written, once.
class KernelOperands {
  public:
    /// The parameter name ("p0") of this buffer; views of one buffer share a parameter where
    /// element types agree.
    std::string pointer(const TensorRef& tensor, Access access, const std::string& role);
    const std::vector<Operand>& list() const { return list_; }
    /// "const float* __restrict__ p0, ..."
    std::string parameters() const;

  private:
    std::vector<Operand> list_;
};

class Emitter {
  public:
    Emitter(const Placement& placement, Code& code, KernelOperands& operands);

    /// The variable (in the compute type) that holds element `index` of `value`. The same value at
    /// the same index is computed once per scope.
    std::string value(Value value, const Index& index);
    /// Says that in the scopes to come, `value` at any index is what `get` returns for it: a row
    /// kernel's registers, an anchor's accumulator.
    void provide(Value value, std::function<std::string(const Index&)> get);

    /// Statements that store `variable` (compute type) as element `index` of a stored value.
    void store(Value value, const Index& index, const std::string& variable);

    /// A scope of its own for memoised values: what is computed inside is forgotten at its end.
    void push_scope();
    void pop_scope();

    /// Whether codegen can compute the operation inline; otherwise why not.
    static std::optional<std::string> why_not_inline(const Graph& graph, Value value);

  private:
    const Placement& placement_;
    Code& code_;
    KernelOperands& operands_;
    std::vector<std::map<std::pair<std::uint32_t, Index>, std::string>> memo_;
    std::map<std::uint32_t, std::function<std::string(const Index&)>> provided_;
};

/// Linear element offset of an index in a strided tensor, as C text; 64-bit arithmetic only where
/// the tensor needs it.
std::string offset_text(const TensorRef& tensor, const Index& index);

/// A finished kernel for Plan::steps: adds the source to the plan (equal sources once) and the
/// step.
struct KernelDraft {
    std::string name;  ///< the step's
    std::string body;  ///< the statements between the braces
    KernelOperands operands;
    Dim3 grid, block;
    std::size_t shared_bytes = 0;
};
void add_kernel_step(Placement& placement, const Group& group, const KernelDraft& draft);

/// The text that precedes every kernel: types, conversions, the scalar helpers (kn_add, kn_gelu,
/// ...), warp reductions; from kernels/*.cu, embedded. Intrinsics and PTX occur only in
/// kernels/intrinsics.cu, which the host test shim replaces.
const std::string& kernel_prelude();

}  // namespace kn::cuda

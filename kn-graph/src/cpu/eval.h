// One function per operation: operands from the context, results in the operation's order.
//
// A new operation gets its `eval` in eval_*.cpp; a missing one is a link error that names it.
#pragma once

#include <kn/graph/cpu.h>

#include "cpu/array.h"
#include "cpu/thread_pool.h"

namespace kn::cpu {

struct Frame;

/// What an operation sees of the run.
class EvalContext {
  public:
    EvalContext(Frame& frame, Value value) : frame_(frame), value_(value) {}

    /// An operand, with any strides.
    const Array& operand(Value value) const;
    /// Result `index` of an operand that has several.
    const Array& operand_result(Value value, std::size_t index) const;
    /// An operand in row-major order (copied where it is not).
    Array contiguous(Value value) const;
    /// An operand that is used here for the last time and shares its memory with nobody: its memory
    /// may take a result of the same dtype and size.
    std::optional<Array> take(Value value) const;

    /// Sizes under the symbols' present values.
    std::int64_t eval(const Dim& dim) const;
    Ints eval(const Shape& shape) const;
    Ints eval(const std::vector<Dim>& dims) const;

    /// This operation's own result types. Of shapes with symbols that this operation binds: only
    /// after it bound them.
    DType result_dtype(std::size_t index = 0) const;
    Ints result_shape(std::size_t index = 0) const;

    /// Row-major, uninitialised.
    Array allocate(DType dtype, Ints shape) const;
    /// Memory for result `index`.
    Array result(std::size_t index = 0) const {
        return allocate(result_dtype(index), result_shape(index));
    }

    /// Gives a run-time symbol its value and checks the graph's constraints that it decides.
    void bind(const std::string& symbol, std::int64_t value) const;
    /// Binds the symbols in `types` that have no value yet to what `results` has there, and checks
    /// dtype and dims of all results (GraphError).
    void bind_results(const std::vector<Type>& types, const Arrays& results) const;

    /// Runs body(begin, end) over [0, count) on the threads where it pays. `cost` is the rough time
    /// of one item in nanoseconds.
    void parallel(std::int64_t count, double cost,
                  const std::function<void(std::int64_t, std::int64_t)>& body) const;
    ThreadPool& threads() const;

    /// Runs the body of an If or Loop: `inputs` in the order of body.inputs(); symbols of its input
    /// shapes that have no value here take theirs from `inputs`, and other symbols keep the values
    /// of this run.
    Arrays run(const std::shared_ptr<const Graph>& body, Arrays inputs) const;

    const RunOptions& options() const;

    /// GraphError "Gather %12 (/model/gather): MESSAGE".
    [[noreturn]] void fail(const std::string& message) const;

  private:
    Frame& frame_;
    Value value_;
};

#define X(name) Arrays eval(const op::name& op, EvalContext& ctx);
KN_OPERATIONS(X)
#undef X

/// Row-major copy of `x` in memory of the context.
Array copy(const Array& x, const EvalContext& ctx);
/// Writes x in row-major order to `out`, which has x's dtype.
void copy_to(const Array& x, std::byte* out, const EvalContext& ctx);

}  // namespace kn::cpu

// The threads that share a row: which row and which of its elements are each one's, loops over
// those, and what the threads find put together.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "codegen/emit.h"
#include "lower/row_form.h"

namespace kn::cuda {

class RowThreads {
  public:
    /// Writes through the emitter of a kernel for `count` rows; the longest reduction runs over
    /// `longest` elements.
    RowThreads(Emitter& emitter, Code& code, const RowForm& form, std::int64_t count,
               std::int64_t longest)
        : emitter_(emitter), code_(code), form_(form), count_(count), longest_(longest) {}

    /// Declares `lane` (the thread's number in its row) and the row, and says how many threads the
    /// kernel needs.
    void open_row(KernelDraft& draft);
    /// Gives the emitter its lanes: the elements in registers, with their guard, or a loop's
    /// vector.
    void open_elements();

    const std::string& row() const { return row_; }
    /// Condition that the row exists; empty where it always does.
    const std::string& row_exists() const { return row_exists_; }
    /// Number in the row of an element in registers, and the condition that there is one; empty
    /// where there always is.
    const std::string& element() const { return element_; }
    const std::string& element_guard() const { return element_guard_; }

    /// Whether a row of this length is held in registers.
    bool in_registers(std::int64_t length) const {
        return form_.elements > 0 && length == longest_;
    }

    using Body = std::function<void(const std::string&)>;
    /// A loop: calls `body` with the number of each of the thread's elements (of a vector of them).
    void over_loop(std::int64_t length, const Body& body);

    using Element = std::function<std::string(const std::string&)>;
    /// The variable that holds the result of `op::join`, a struct of the prelude's, over
    /// `element(k)` for all elements `k` of the row.
    std::string reduce(const std::string& op, const std::string& type, std::int64_t length,
                       const Element& element);

  private:
    IndexMath& math() { return emitter_.math(); }
    void open_warp_or_column(KernelDraft& draft);
    /// "KN_UNROLL for ..." over elements of the thread, where there are several.
    static std::string for_each(int elements);
    /// An array in shared memory, one for each type.
    std::string shared(const std::string& type, int elements);

    Emitter& emitter_;
    Code& code_;
    RowForm form_;
    std::int64_t count_, longest_;
    std::string row_, lane_, row_exists_, element_, element_guard_;
    std::map<std::string, std::string> shared_;
};

}  // namespace kn::cuda

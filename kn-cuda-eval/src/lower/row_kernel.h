// The kernel of a group of reductions over rows, with what surrounds them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lower/row_statistics.h"

namespace kn::cuda {

class RowKernel {
  public:
    RowKernel(Placement& placement, const Group& group, const RowAnalysis& rows,
              const RowForm& form);

    /// Once.
    KernelDraft make();

    /// Whether the largest tensor that is read along rows has its neighbours in other rows.
    bool reads_across();
    /// Whether a reduction could not be seen to be one for each row.
    bool computes_inline() const { return computes_inline_; }

  private:
    const Graph& graph() const { return placement_.graph(); }
    IndexMath& math() { return emitter_.math(); }

    Index place(const std::string& number);
    void store_element(const std::string& number);

    std::string reduced(Value value, const Index& index);
    std::string final_value(Value value, const Index& index,
                            const std::vector<std::string>& statistics);
    Index statistics_index(Value value, const Index& index) const;
    std::vector<std::string> compute_statistics(Value value, const Index& index);
    std::optional<Index> place_in_result(Value value, const std::string& number);
    Index operand_index(Value value, const Index& kept, const std::string& number);
    std::string exponential(Value value, const Index& index, const std::string& x,
                            const std::string& most);

    Placement& placement_;
    const Group& group_;
    const RowAnalysis& rows_;
    RowForm form_;
    Value root_;
    std::vector<RowAnalysis::Axis> parallel_, along_;  // as they lie in memory
    std::int64_t length_;                              // elements along a row of the result
    KernelDraft draft_;
    Code code_;
    Emitter emitter_;
    RowThreads threads_;
    Index row_;  // of the row's first element
    std::size_t row_scope_ = 0;
    bool computes_inline_ = false;
    Value probed_;  // place_in_result asks for it
    Index probed_index_;
    std::map<std::uint32_t, Index> places_;  // of elements in registers
    std::map<std::pair<std::uint32_t, Index>, std::vector<std::string>> statistics_;
    std::map<std::pair<std::uint32_t, Index>, std::string> exponentials_;  // in registers
};

}  // namespace kn::cuda

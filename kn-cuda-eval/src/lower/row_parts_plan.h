// How rows are cut into parts: what the kernels of kn::cuda::lower_row_parts are written from.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lower/column_parts.h"
#include "lower/row_space.h"
#include "planner/rows.h"

namespace kn::cuda {

/// An index as a linear function of digits: index[a] = constants[a] + sum of factors[a][i] * digit
/// i.
struct LinearIndex {
    std::vector<Ints> factors;
    Ints constants;
};

/// The state of a reduction, kernels/row_parts.cu.
struct RowState {
    std::string name;
    std::string number;  ///< the type of its numbers
    int numbers = 1;
    DType dtype = DType::F32;  ///< of its numbers in memory
};

class RowPartsPlan {
  public:
    RowPartsPlan(Placement& placement, const Group& group, const RowAnalysis& rows)
        : placement_(placement), group_(group), rows_(rows), root_(group.outputs.at(0)) {}

    /// Nothing if it can be, else why not, as the end of a sentence. `hopeful`: as if steps gave
    /// what column_rows() then says.
    std::optional<std::string> plan(bool hopeful = false);

    /// Where statistics may come from steps that write what the norms read.
    std::vector<ColumnRows> column_rows() const;

  protected:
    struct Part {
        Value value;
        RowState state;
        RowSpace space;
        LinearIndex element;  // in place: of the reduction's elements, by the root's digits
        LinearIndex kept;     // of its result, by the root's digits
        TensorRef partial;    // the result's shape, numbers of the state, parts
        std::string shared;   // the array of its rows' statistics
        std::optional<ColumnRows> columns;  // where it reads a matrix, and steps have given
        std::vector<GivenParts> given;      // statistics of its parts
    };

    const Graph& graph() const { return placement_.graph(); }
    bool in_place(Value value) const { return rows_.in_place.count(value.index) != 0; }
    /// Of elements of a row.
    const char* count_type() const { return rows_.longest <= INT32_MAX / 2 ? "int" : "long long"; }
    std::int64_t sms() const { return placement_.plan().device.sm_count; }
    Ints row_extents() const {
        Ints result;
        for (const RowDigit& digit : digits_)
            if (!digit.along) result.push_back(digit.extent);
        return result;
    }
    /// The index for these positions of `digits_`.
    static Index evaluate(IndexMath& math, const LinearIndex& linear, const Index& positions);

    Placement& placement_;
    const Group& group_;
    const RowAnalysis& rows_;
    Value root_;
    std::vector<RowDigit> digits_;  // of the root
    std::map<std::uint32_t, LinearIndex> places_;
    std::vector<Part> parts_;
    RowSpace result_;

  private:
    bool hopeful_ = false;

    std::optional<std::string> why_not(Value value) const;
    std::optional<std::string> find_places();
    std::optional<std::string> add_part(Value value);
    std::optional<std::string> plan_result();
    bool is_given(Part& part, const std::vector<RowDigit>& digits) const;
    std::optional<std::string> find_space(Part& part, const std::vector<RowDigit>& digits,
                                          std::size_t bytes) const;
    std::size_t space_rank(const Part& part) const;
    std::optional<std::size_t> find_steps(const Part& part, std::vector<RowDigit>& digits,
                                          std::size_t rank) const;
};

}  // namespace kn::cuda

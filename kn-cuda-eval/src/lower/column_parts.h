// Norms over whole images and neighbouring channels, whose statistics the step gives that writes
// the images: of parts, as lower/row_parts.h has them made by a kernel of their own.
#pragma once

#include <functional>

#include "codegen/emit.h"
#include "lower/row_space.h"
#include "planner/placement.h"
#include "planner/rows.h"

namespace kn::cuda {

constexpr PlannerRule column_parts_rule = {
    "norms beside products",
    "Statistics of norms of images by the convolution or product that writes the images"};

/// The rows of a norm as pieces of a matrix: images of so many rows, groups of so many columns.
struct ColumnRows {
    Value source;  ///< the matrix, a stored value
    std::int64_t image_rows = 0, group_columns = 0;
    /// The digits that number images and groups, outermost first.
    struct Digit {
        std::size_t which;
        std::int64_t extent;
    };
    std::vector<Digit> images, groups;
};

/// Statistics of some of the matrix's columns, where they came with them.
struct GivenParts {
    MatrixParts parts;
    std::int64_t first = 0, count = 0;  ///< columns
};

/// How a norm's elements `x`, numbered by these digits, lie in a matrix; nothing if in no such way.
std::optional<ColumnRows> column_rows(const Placement& placement, Value x,
                                      const std::vector<RowDigit>& digits);

/// Statistics that a row has in one of these, at most.
std::int64_t most_given(const ColumnRows& rows, const std::vector<GivenParts>& given);

/// Writes what adds to `total`, a kn_moments<float>, a row's statistics, shared by `width`
/// neighbours of the warp: all means come first, so that no part waits for the one before it.
/// `positions()`: of the digits.
void join_given(Code& code, Emitter& emitter, const ColumnRows& rows,
                const std::vector<GivenParts>& given, const std::function<Index()>& positions,
                int width);

/// Of all columns of the matrix; nothing where some have none that images and groups are whole
/// numbers of.
std::vector<GivenParts> given_parts(const Placement& placement, const ColumnRows& rows);

/// Whether rows are so few and long that it is worth while.
bool may_have_statistics(const Plan& plan, const RowAnalysis& rows);

/// Asks for statistics of what the norms among the groups read (Placement::wanted_parts).
void want_column_parts(Placement& placement, const std::vector<Group>& groups);

}  // namespace kn::cuda

// Results of a product whose columns meet in pairs behind it, as rotary embeddings have them: each
// element is computed from a column of the product and the one whose number differs in one bit.
#pragma once

#include <optional>
#include <vector>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

struct PairedColumns {
    /// Whole rows of some neighbouring columns, as a value of some shape.
    struct Part {
        Value end;
        std::int64_t first = 0, count = 0;  ///< of the columns
        /// The end's axes that make up rows and columns, outermost first; others have one element.
        std::vector<std::size_t> row_axes, column_axes;
    };
    Value root;                 ///< the product, or elementwise operations of it: [m, n]
    std::int64_t distance = 0;  ///< column c meets column c ^ distance: a power of two
    std::vector<Part> parts;    ///< by their first columns; without columns in common
};

/// What lies at this place in a matrix [m, n], whose rows are n elements apart, if that is whole rows
/// of neighbouring columns; without its end.
std::optional<PairedColumns::Part> whole_rows(const TensorRef& place, std::int64_t m,
                                              std::int64_t n);

/// The order of the end's axes, which has this shape, in which it lies as rows of a matrix.
Ints order_of(const PairedColumns::Part& part, const Ints& shape);

}  // namespace kn::cuda

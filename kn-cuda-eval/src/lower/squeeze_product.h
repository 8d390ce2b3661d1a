// One of the two products of squeeze and excite, as text of its kernel: a warp has eights of
// columns, whose weights it holds in registers (kernels/squeeze.cu).
#pragma once

#include "codegen/emit.h"
#include "lower/squeeze.h"

namespace kn::cuda {

class SqueezeProduct {
  public:
    /// `terms` of `columns`, all of a block; texts name it by one letter.
    SqueezeProduct(Code& code, const Squeeze& problem, const SqueezeTiles& tiles, char name,
                   std::int64_t terms, std::int64_t columns);

    /// Of the block's rows in shared memory, rows_NAME, and from one to the next.
    std::int64_t row_elements() const { return images_ * pitch_; }
    std::int64_t pitch() const { return pitch_; }

    /// Loads the weights. They have a row of so many elements for each column; `column` is that of
    /// the product for the block's column "tile * 8 + row", and rows are read from `first` on.
    void hold(const std::string& pointer, const std::string& column, std::int64_t elements,
              const std::string& first);
    /// What is read behind the ends of rows counts as zeros.
    void clear_ends();
    void keep(const std::string& row, const std::string& term, const std::string& value);
    /// Behind a barrier; `store` is a statement about the sum x of the row "of" and the column
    /// "tile * 8 + column".
    void multiply(std::string store);

  private:
    std::int64_t block() const { return 4 * lanes_; }

    Code& code_;
    std::string name_, type_, vector_;
    std::int64_t threads_, images_, lanes_, terms_, columns_;
    std::int64_t tiles_, rounds_, steps_;  // of columns; of a warp; of k
    std::int64_t pitch_;                   // of rows, in elements
};

}  // namespace kn::cuda

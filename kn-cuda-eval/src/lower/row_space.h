// The elements of rows in the order of memory, and how blocks and threads share them.
//
// Outermost lies what numbers rows (`outer`), then what is along them (`loop`), innermost what one
// vector or several of them hold (`inner`): of a channels-last image its channels, be they of one
// row or of several. A block takes one place of `outer`, some of `loop`, all of `inner`; each of
// its threads one vector of `inner` and every `down`-th place of `loop`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/emit.h"

namespace kn::cuda {

/// (Index along an axis / divisor) % extent.
struct RowDigit {
    std::size_t axis = 0;
    std::int64_t divisor = 1, extent = 1;
    bool along = false;     ///< a row; else it numbers rows
    std::int64_t step = 0;  ///< in memory
};

struct RowSpace {
    std::vector<RowDigit> outer, loop, inner;
    std::size_t rank = 0;  ///< of the indices
    int vector = 1;
    std::int64_t columns = 1;  ///< vectors in `inner`
    std::int64_t down = 1;     ///< places of `loop` that a block's threads take at once
    std::int64_t steps = 1;    ///< that a thread takes
    std::int64_t parts = 1;    ///< of `loop`, one a block

    std::int64_t outer_count() const;
    std::int64_t loop_count() const;
    std::int64_t inner_count() const;
    std::int64_t inner_rows() const;   ///< rows that `inner` has elements of
    std::int64_t inner_along() const;  ///< elements of each
    std::int64_t span() const { return steps * down; }
    bool straight() const { return inner_rows() == 1; }
    int threads() const;
    /// Whether all threads take all their steps.
    bool exact() const;
};

/// How many threads and blocks there should be.
struct RowTeams {
    int threads = 256;         ///< a block, about
    std::int64_t blocks = 1;   ///< about
    std::int64_t steps = 1;    ///< a thread, at least
    std::int64_t numbers = 0;  ///< parts times rows of `inner` at most; 0: any
};

/// Sorts the digits by memory and shares them among threads; nothing where so much lies between the
/// neighbours along a row that a block would not hold it. `vector`: elements at most.
std::optional<RowSpace> row_space(std::vector<RowDigit> digits, std::size_t rank, int vector,
                                  const RowTeams& teams);

/// Adds the digits at these positions to an index.
void add_digits(IndexMath& math, Index& index, const std::vector<RowDigit>& digits,
                const Index& positions);
Ints extents_of(const std::vector<RowDigit>& digits);

/// What stands in front of a loop of loads: whole, or some at a time.
const char* unroll_of(std::int64_t trips);

/// The loop over a thread's elements: its variables, and their index.
class RowLoop {
  public:
    RowLoop(Emitter& emitter, Code& code, const RowSpace& space);

    /// Declares the block's place and the thread's: `part`, `v`, `y`.
    void declare();
    /// `for` over the thread's places, `i` of them; gives the index of the element. Loads go where
    /// this scope is, if they can.
    Index open(std::size_t scope);
    void close();

    /// Place in `outer`, by digit.
    const Index& outer() const { return outer_; }
    /// Number of the row among those of `inner` that the thread's vector has elements of.
    std::string inner_row();
    const std::string& part() const { return part_; }

  private:
    IndexMath& math() { return emitter_.math(); }
    std::string inner_number();

    Emitter& emitter_;
    Code& code_;
    const RowSpace& space_;
    Index outer_;
    std::string part_, column_;
};

}  // namespace kn::cuda

// How the threads of a kernel share the rows of a reduction.
#pragma once

#include <vector>

#include "planner/rows.h"

namespace kn::cuda {

struct RowForm {
    enum class Kind { Warp, Block, Columns } kind = Kind::Warp;
    int threads = 32;    ///< a row
    int elements = 0;    ///< of a row in a thread's registers; 0: loops
    bool chunks = true;  ///< a thread's elements are neighbours
    int vector = 1;      ///< loops: elements a thread reads at once
};

/// Neighbours along a row go to neighbouring threads. `result`: where it is written.
RowForm form_along_rows(const RowAnalysis& rows, const TensorRef& result);

/// Neighbouring rows, `count` in all, go to neighbouring threads.
RowForm form_across_rows(std::int64_t count, std::int64_t length, int sm_count);

/// The axes as they lie in memory, outermost first.
std::vector<RowAnalysis::Axis> sorted_by_memory(const TensorRef& tensor,
                                                std::vector<RowAnalysis::Axis> axes);
Ints extents_of(const std::vector<RowAnalysis::Axis>& axes);

}  // namespace kn::cuda

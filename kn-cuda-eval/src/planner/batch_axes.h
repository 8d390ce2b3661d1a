// Which axis of each value holds the rows of the batch.
//
//     const BatchAxes batch = batch_axes(graph);
//     if (batch.why_not.empty()) ... graph computes each of batch.rows rows by itself
//
// An axis holds the batch if it is cut into batch.rows equal runs, one behind the other, of which
// run i depends on run i of the inputs alone: [1024, 64] and, reshaped, [65536] do. Nothing tells
// the batch's size from others that are equal, as sizes are numbers; nothing has to: what counts is
// that each operation, over the runs of some rows, gives the runs of these rows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::cuda {

using Axis = std::optional<std::int64_t>;

/// How an operation keeps rows apart: over these runs of its operands it gives that run of its
/// result.
struct BatchUse {
    std::int64_t axis = 0;       ///< of the result
    std::vector<Axis> operands;  ///< of each in the order of inputs_of; none: it is wanted whole
};

struct BatchAxes {
    std::int64_t rows = 0;
    std::vector<std::optional<BatchUse>> uses;  ///< by value; none: the same for all rows
    std::string why_not;  ///< why rows are not independent, in a sentence; empty if they are
};

/// Of a static graph whose batch is the first axis of its inputs; inputs with another first axis
/// are the same for all rows. Operations that it does not know count as mixing rows.
BatchAxes batch_axes(const Graph& graph);

}  // namespace kn::cuda

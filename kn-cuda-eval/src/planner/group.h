// What the rules decide and the lowering turns into steps.
//
// Every value of the graph ends in one of three ways:
//  - stored:  it has bytes of its own (graph inputs, outputs, constants, what library steps read or
//  write, results of kernels);
//  - a view:  Permute, Broadcast, Slice, ... of a stored value, expressed by strides;
//  - inlined: computed inside each kernel that needs it, at the index needed. Any operation that
//  codegen/emit.h knows may be inlined, data movement too
//             (Pad, Concat, Gather, Window are index arithmetic there).
// A group is one step: it stores its outputs from stored values and views; what lies between is
// inlined.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kn/cuda_eval/plan.h>

#include "planner/paired_columns.h"

namespace kn::cuda {

struct Group {
    enum class Kind {
        Pointwise,  ///< one thread computes one element (or a vector of them) of each output; small
                    ///< reductions are loops in a thread
        Rows,    ///< reductions over common axes by warps or blocks: softmax, norms, Reduce, with
                 ///< what surrounds them
        MatMul,  ///< cuBLASLt
        Conv,    ///< cuDNN; ConvTranspose too
        Attention,  ///< cuDNN SDPA, or our kernel
        Special,  ///< one operation with a kernel of its own: TopK, Cumulative, Scatter, Recurrent,
                  ///< Dft, ...
    };
    Kind kind = Kind::Pointwise;
    Value anchor;                ///< the operation that decided the kind
    std::vector<Value> outputs;  ///< stored by this step, all of them
    /// Values that exist only inside the step (an epilogue's intermediate results); set by
    /// Grouping::add.
    std::vector<Value> swallowed;
    /// MatMul in our own kernel: the normalisation of its rows, and what lies between both; the role
    /// "a" is what it reads.
    std::vector<Value> in_front;
    /// Library kinds: the part of the pattern each value plays ("x", "w", "bias", "residual", "q",
    /// ...).
    std::map<std::string, Value> roles;
    Epilogue epilogue;           ///< Conv: activation and order; tensors are set when lowered
    bool channels_last = false;  ///< Conv: the layout of x and y that cuDNN gets
    bool in_parts = false;       ///< Rows: few long ones, by parts where their layout allows
    bool own_kernel = false;     ///< MatMul, Conv: our kernel, which takes any elementwise epilogue
    MatmulEpilogue matmul_epilogue = MatmulEpilogue::None;
    /// MatMul in our own kernel: what the outputs are, where there may be several.
    std::shared_ptr<const PairedColumns> paired;
    std::string rule;  ///< the rule that made it
    std::string reason;
};

/// The planner's state while rules run: the graph with its uses, what is stored already, and the
/// groups.
class Grouping {
  public:
    /// `in_slices`: the graph is one of Slices (planner/batch_slices.h), in which each slice reads
    /// its inputs, and writes its outputs, where they lie in those of the whole: rules see no
    /// Concat, its operands as outputs, and parts of inputs as stored.
    Grouping(const Graph& graph, const DeviceProperties& device, const PlanOptions& options,
             bool in_slices = false);

    const Graph& graph() const { return graph_; }
    const DeviceProperties& device() const { return device_; }
    const PlanOptions& options() const { return options_; }

    /// Live operations that read the value (each once), and whether it is a graph output.
    const std::vector<Value>& users(Value value) const;
    bool is_output(Value value) const;
    /// The tensors that outputs are written as, each with its place; `buffer` is the number of the
    /// graph's output.
    const std::vector<std::pair<Value, TensorRef>>& output_places() const { return outputs_; }
    bool has_one_user(Value value) const { return users(value).size() == 1 && !is_output(value); }

    bool is_grouped(
        Value value) const;  ///< computed inside some group already (as output or swallowed)
    bool is_stored(Value value) const;
    /// A slice's part of an input.
    bool is_input_part(Value value) const;
    /// Demands that the value has bytes of its own.
    void store(Value value);
    /// Demands that the value can be read by strides: stores what it is a view of (through Permute,
    /// Broadcast, Slice, Window, BitCast, and Reshape where row-major strides allow), or itself.
    void demand(Value value);
    /// Takes the demand back, for who stores all that others read of the value.
    void forget(Value value);
    /// Says that an output which only renames the elements of `root` is written by whatever
    /// computes `root`, in place; false if `root` is somebody's place already.
    bool write_in_place(Value output, Value root);
    /// Makes a group; `swallowed` are values that exist only inside it (an epilogue's intermediate
    /// results).
    void add(Group group, const std::vector<Value>& swallowed = {});
    void decide(const std::string& rule, bool taken, Value where, const std::string& reason);

    std::vector<Group>& groups() { return groups_; }
    const std::vector<Group>& groups() const { return groups_; }
    const std::vector<Value>& live() const { return live_; }
    const std::vector<Decision>& decisions() const { return decisions_; }

  private:
    const Graph& graph_;
    const DeviceProperties& device_;
    const PlanOptions& options_;
    bool in_slices_;
    std::vector<Value> live_;
    std::vector<std::pair<Value, TensorRef>> outputs_;
    std::vector<std::vector<Value>> users_;
    std::vector<bool> output_, stored_, grouped_, in_place_;
    std::vector<Group> groups_;
    std::vector<Decision> decisions_;
};

/// One idea each, in src/rules/<family>.cpp. Rules run in two phases: first what gets a step of a
/// library or a kernel of its own, then everything else (rows, pointwise), which so knows what is
/// in memory. A phase offers all live values, last value first (so that the end of a pattern, which
/// sees all of it, is met before its parts), to its rules in the order of the table until one has
/// grouped the value; all users of a value are met before it. A rule may store a value by itself
/// (because it is dear and has many users). A value that is neither grouped nor stored in the end
/// is inlined. Not offered: inputs, constants, op::Result (the rule of its source makes it an
/// output), values that are grouped already, and those without elements.
struct Rule {
    PlannerRule info;
    /// Tries to make a group with `value` as the last value of the pattern.
    void (*apply)(Grouping& grouping, Value value);
};
const std::vector<std::vector<Rule>>& rule_phases();

/// Offers all live values to the rules.
void apply_rules(Grouping& grouping);
/// The groups in an order in which each finds stored what it reads.
std::vector<Group> sorted_groups(const Grouping& grouping);
/// Stored values that computing the group's outputs reads, each once.
std::vector<Value> reads_of(const Grouping& grouping, const Group& group);

}  // namespace kn::cuda

// What a name means at some place of a model, and in which graph its value lives.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <kn_onnx.pb.h>

#include <kn/graph/graph.h>

namespace kn::onnx {

namespace pb = kn::onnx_pb;

/// What a name stands for.
struct Slot {
    enum class State {
        Known,
        Absent,    ///< an optional input of a function that its caller left out
        Poisoned,  ///< its node has a problem, which is reported already
    };
    State state = State::Poisoned;
    Value value = {};
    int narrow_bits = 0;  ///< 4 or 2: the i8 or u8 elements stand for integers of so many bits
};

/// Attributes that a function's nodes may refer to, by name; null: given neither by the caller nor
/// by a default.
using AttributeBindings = std::unordered_map<std::string, const pb::AttributeProto*>;

/// One level of names. A scope with the graph of its parent is inlined (a branch that is known to
/// be taken); one with a graph of its own is the body of an operation, whose graph is closed: what
/// it uses from outside is captured.
struct Scope {
    Graph& graph;
    Scope* parent = nullptr;
    const std::unordered_map<std::string, std::int64_t>& opsets;  ///< by domain
    const AttributeBindings* attributes = nullptr;                ///< inside a function
    std::string prefix;  ///< of node names: the calls that lead here
    int depth = 0;
    const google::protobuf::RepeatedPtrField<pb::NodeProto>* nodes = nullptr;
    std::unordered_set<std::string> made =
        {};  ///< all outputs of `nodes`; filled when a message needs it
    std::unordered_map<std::string, Slot> names = {};
    std::vector<Value> captures =
        {};  ///< values of the parent's graph, in the order of the inputs made for them here

    bool is_closed() const { return parent != nullptr && &parent->graph != &graph; }
};

}  // namespace kn::onnx

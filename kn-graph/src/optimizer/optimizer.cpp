#include <kn/graph/optimizer.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>

#include "optimizer/rules.h"

namespace kn {

namespace optimizer {

namespace {

struct Rule {
    OptimizerRule info;
    std::optional<Value> (*apply)(Rewriter&, Value);
};

constexpr Rule rules[] = {
#define X(name, description) {{#name, description}, name},
    KN_OPTIMIZER_RULES(X)
#undef X
};

using RuleSet = std::array<bool, std::size(rules)>;

RuleSet enabled_rules(const OptimizeOptions& options) {
    RuleSet enabled;
    enabled.fill(true);
    for (const std::string& name : options.disabled) {
        const auto* found = std::find_if(std::begin(rules), std::end(rules),
                                         [&](const Rule& rule) { return rule.info.name == name; });
        if (found == std::end(rules))
            throw GraphError("the optimizer has no rule '" + printable(name) + "'");
        enabled[static_cast<std::size_t>(found - std::begin(rules))] = false;
    }
    return enabled;
}

/// A constant, also seen through views: shared by many nodes that have nothing to do with each
/// other.
bool is_constant_view(const Graph& graph, Value v) {
    while (true) {
        const Operation& operation = graph[v].operation;
        if (std::holds_alternative<op::Constant>(operation)) return true;
        const bool view = is_any_of<op::Reshape, op::Broadcast, op::Permute>(operation);
        if (!view) return false;
        v = inputs_of(operation)[0];
    }
}

/// Origins of what `before` needs and `after` does not: the nodes that a rewrite replaced.
void carry_origins(Graph& graph, Value before, Value after) {
    constexpr std::size_t limit = 256;
    // Last values first, so that all that needs a value has been seen before it; with whether
    // `after` needs it.
    std::map<std::uint32_t, bool, std::greater<>> open;
    std::size_t doubtful = 0;  // of the open ones
    const auto add = [&](Value value, bool needed) {
        const auto [it, is_new] = open.try_emplace(value.index, needed);
        if (is_new && !needed) doubtful++;
        if (!is_new && needed && !it->second) {
            it->second = true;
            doubtful--;
        }
    };
    add(after, true);
    add(before, false);
    std::vector<Value> replaced;
    for (std::size_t seen = 0; doubtful > 0; seen++) {
        if (seen == limit) return graph.add_origins(after, std::vector(graph[before].origins));
        const auto [index, needed] = *open.begin();
        open.erase(open.begin());
        const Value value = graph.value_at(index);
        if (!needed) {
            doubtful--;
            replaced.push_back(value);
        }
        for (const Value& input : inputs_of(graph[value].operation))
            if (!is_constant_view(graph, input)) add(input, needed);
    }
    for (auto value = replaced.rbegin(); value != replaced.rend(); ++value)
        graph.add_origins(after, std::vector(graph[*value].origins));
}

class Pass {
  public:
    Pass(const Graph& source, Session& session, const RuleSet& enabled)
        : source_(source),
          session_(session),
          enabled_(enabled),
          map_(source),
          rewriter_(target_, session) {
        target_.share_fresh_symbols(source);
    }

    /// Whether any rule fired.
    bool run() {
        for (const Constraint& constraint : source_.constraints())
            target_.add_constraint(constraint);
        const std::vector<Value> live = source_.live();
        target_.reserve(live.size() + live.size() / 4);  // rewrites leave what they replaced
        std::vector<std::size_t> uses(source_.size(), 0);
        for (const Value& value : live)
            for (const Value& input : inputs_of(source_[value].operation)) ++uses[input.index];
        for (const NamedValue& output : source_.outputs()) ++uses[output.value.index];
        for (const Value& value : live) {
            target_.set_origins(source_[value].origins);
            const Value copy = rewritten(copied(value));
            map_.set(value, copy);
            rewriter_.count_uses(copy, uses[value.index]);
        }
        target_.set_origins({});
        for (const NamedValue& output : source_.outputs())
            target_.output(output.name, map_(output.value));
#ifndef NDEBUG
        target_.verify();
#endif
        return fired_;
    }

    Graph take_graph() { return std::move(target_); }
    const ValueMap& map() const { return map_; }

  private:
    Value copied(Value value) {
        const Node& node = source_[value];
        Operation operation = map_inputs(node.operation, [&](Value v) { return map_(v); });
        if (const auto* input = std::get_if<op::Input>(&operation))
            return target_.input(input->name, input->dtype, input->shape);
        if (auto* constant = std::get_if<op::Constant>(&operation))
            constant->data = frozen(constant->data);
        if (auto* branch = std::get_if<op::If>(&operation)) {
            branch->then_body = optimized(branch->then_body);
            branch->else_body = optimized(branch->else_body);
        }
        if (auto* loop = std::get_if<op::Loop>(&operation)) loop->body = optimized(loop->body);
        return target_.add(std::move(operation));
    }

    std::shared_ptr<const ConstantData> frozen(const std::shared_ptr<const ConstantData>& data) {
        if (data->frozen || !session_.frozen.count(data.get())) return data;
        auto& copy = session_.frozen_copies[data.get()];
        if (!copy)
            copy = std::make_shared<const ConstantData>(
                ConstantData{data->tensor, data->name, data->recipe, true});
        return copy;
    }

    std::shared_ptr<const Graph> optimized(const std::shared_ptr<const Graph>& body) {
        auto& result = session_.bodies[body.get()];
        if (!result) {
            result = std::make_shared<const Graph>(optimize(*body, session_.options));
            session_.keep.push_back(body);
            const auto made = result;
            session_.bodies[made.get()] = made;  // may move `result`
            return made;
        }
        return result;
    }

    Value rewritten(Value value) {
        // A rule may enable another; the bound only guards against rules that undo each other.
        for (int round = 0; round < 100; ++round) {
            const std::optional<Value> next = first_rewrite(value);
            if (!next) return value;
            value = *next;
        }
        return value;
    }

    std::optional<Value> first_rewrite(Value value) {
        for (std::size_t i = 0; i < std::size(rules); ++i) {
            if (!enabled_[i]) continue;
            rewriter_.start_rule();
            const std::size_t constraints = target_.constraints().size();
            std::optional<Value> next;
            try {
                next = rules[i].apply(rewriter_, value);
            } catch (const GraphError&) {
                next.reset();  // what the rule tried cannot be shown to fit
            }
            const bool taken = next && *next != value &&
                               target_.type(*next) == target_.type(value) &&
                               target_.constraints().size() == constraints;
            // A rewrite may demand nothing that the graph did not.
            target_.truncate_constraints(constraints);
            if (!taken) continue;
            if (session_.options.trace) session_.options.trace(rules[i].info.name, describe(value));
            rewriter_.rule_fired();
            carry_origins(target_, value, *next);
            fired_ = true;
            return next;
        }
        return std::nullopt;
    }

    std::string describe(Value value) const {
        const Node& node = target_[value];
        std::string text = to_string(node.operation);
        for (const std::string& origin : node.origins) text += " " + printable(origin);
        return text;
    }

    const Graph& source_;
    Session& session_;
    const RuleSet& enabled_;
    Graph target_;
    ValueMap map_;
    Rewriter rewriter_;
    bool fired_ = false;
};

}  // namespace

}  // namespace optimizer

std::span<const OptimizerRule> optimizer_rules() {
    static const std::vector<OptimizerRule> infos = [] {
        std::vector<OptimizerRule> list;
        for (const optimizer::Rule& rule : optimizer::rules) list.push_back(rule.info);
        return list;
    }();
    return infos;
}

Optimized optimize_with_map(const Graph& graph, const OptimizeOptions& options) {
    const optimizer::RuleSet enabled = optimizer::enabled_rules(options);
    optimizer::Session session{options, {}, {}, {}, {}, {}, false};
    Optimized result{graph.clone(), ValueMap(graph)};
    for (std::size_t i = 0; i < graph.size(); ++i)
        result.map.set(graph.value_at(i), result.graph.value_at(i));
    // Every pass copies what is live, so the last one, in which no rule fires, leaves nothing dead
    // behind but what rules tried.
    constexpr int max_passes = 100;
    for (int pass_number = 0; pass_number < max_passes; ++pass_number) {
        optimizer::Pass pass(result.graph, session, enabled);
        const bool fired = pass.run();
        ValueMap composed(graph);
        for (std::size_t i = 0; i < graph.size(); ++i)
            if (const auto middle = result.map.find(graph.value_at(i)))
                if (const auto last = pass.map().find(*middle))
                    composed.set(graph.value_at(i), *last);
        result.map = std::move(composed);
        result.graph = pass.take_graph();
        if (!fired && session.late) break;
        if (!fired) session.late = true;
    }
    return result;
}

Graph optimize(const Graph& graph, const OptimizeOptions& options) {
    return optimize_with_map(graph, options).graph;
}

}  // namespace kn

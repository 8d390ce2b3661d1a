#include "rules/squeeze_pattern.h"

#include <algorithm>
#include <map>
#include <set>

#include "lower/squeeze.h"

namespace kn::cuda {

namespace {

constexpr std::size_t kMostValues = 64;

/// Axes behind the first two have one element.
bool is_row(const Shape& shape) {
    for (std::size_t i = 2; i < shape.rank(); ++i)
        if (!(shape[i] == Dim(1))) return false;
    return shape.rank() >= 2;
}

class Search {
  public:
    Search(const Grouping& grouping, Value root) : grouping_(grouping), root_(root) {}

    /// Goes from the result through elementwise operations, what is broadcast over positions, and
    /// two products down to the mean of an image.
    bool run() {
        const auto mean = find_mean();
        if (!mean) return false;
        const auto& reduce = std::get<op::Reduce>(graph()[*mean].operation);
        parts.mean = *mean;
        parts.image = reduce.x;
        while (graph().get_if<op::Cast>(parts.image) && grouping_.has_one_user(parts.image))
            parts.image = graph().get_if<op::Cast>(parts.image)->x;
        if (grouping_.is_grouped(parts.image) && !grouping_.is_stored(parts.image)) return false;
        return collect(root_) && check();
    }

    SqueezePattern parts;

  private:
    const Graph& graph() const { return grouping_.graph(); }

    bool is_inner(Value value) const {
        return !grouping_.is_grouped(value) && !grouping_.is_stored(value) &&
               !grouping_.is_output(value);
    }

    /// The last mean of an image like the result that goes into it.
    std::optional<Value> find_mean() const {
        const auto later = [](Value a, Value b) { return a.index > b.index; };
        std::set<Value, decltype(later)> open(later);
        open.insert(root_);
        for (std::size_t seen = 0; !open.empty() && seen < kMostValues; ++seen) {
            const Value value = *open.begin();
            open.erase(open.begin());
            if (value != root_ && !is_inner(value)) continue;
            const Operation& operation = graph()[value].operation;
            if (const auto* reduce = std::get_if<op::Reduce>(&operation)) {
                const Shape& shape = graph().shape(reduce->x);
                if (shape == graph().shape(root_) && reduce->axes.size() + 2 == shape.rank() &&
                    std::ranges::min(reduce->axes) == 2)
                    return value;
            } else if (is_wide(operation) || is_narrow(operation) ||
                       small_product(graph(), value)) {
                for (const Value& x : inputs_of(operation)) open.insert(x);
            }
        }
        return std::nullopt;
    }

    static bool is_wide(const Operation& operation) {
        return is_elementwise(operation) || std::holds_alternative<op::Broadcast>(operation);
    }
    static bool is_narrow(const Operation& operation) {
        return is_elementwise(operation) || is_any_of<op::Reshape, op::Slice>(operation);
    }

    /// Whether the value depends on the image; if so it is one of those that are swallowed.
    bool collect(Value value) {
        if (value == parts.image) return true;
        if (value.index < parts.image.index) return false;
        if (const auto found = depends_.find(value.index); found != depends_.end())
            return found->second;
        if (depends_.size() > 4 * kMostValues) return false;
        bool depends = false;
        for (const Value& x : inputs_of(graph()[value].operation)) depends |= collect(x);
        depends_[value.index] = depends;
        if (depends) inside_.push_back(value);
        return depends;
    }

    bool is_inside(Value value) const { return std::ranges::find(inside_, value) != inside_.end(); }

    bool check() {
        const Shape& shape = graph().shape(root_);
        int reductions = 0;
        std::vector<Value> products;
        for (const Value& value : inside_) {
            const Operation& operation = graph()[value].operation;
            if (value != root_) {
                if (!is_inner(value)) return false;
                for (const Value& user : grouping_.users(value))
                    if (!is_inside(user)) return false;
                parts.swallowed.push_back(value);
            }
            const DType dtype = graph().dtype(value);
            if (dtype != DType::F32 && !is_half(dtype)) return false;
            if (value == parts.mean)
                ++reductions;
            else if (small_product(graph(), value))
                products.push_back(value);
            else if (is_row(graph().shape(value))
                         ? !is_narrow(operation)
                         : !is_wide(operation) || !(graph().shape(value) == shape))
                return false;
            else
                add_others(value);
            const auto* broadcast = std::get_if<op::Broadcast>(&operation);
            if (broadcast && !is_row(graph().shape(value)) &&
                std::ranges::find(parts.heads, broadcast->x) == parts.heads.end())
                parts.heads.push_back(broadcast->x);
        }
        if (reductions != 1 || products.size() != 2 || parts.heads.empty()) return false;
        // Operands come before what is made of them.
        parts.first = products[0];
        parts.second = products[1];
        for (const Value& head : parts.heads)
            if (!is_only_through(parts.second, head)) return false;
        return is_row_of(parts.first, parts.second) && is_row_of(parts.mean, parts.first);
    }

    /// Whether a product multiplies what is made of `end`, element by element.
    bool is_row_of(Value end, Value product) const {
        const Value rows = small_product(graph(), product)->rows;
        const auto shifts = shifts_of(graph(), rows, end);
        return shifts && *shifts == std::vector<std::int64_t>{0} && is_only_through(end, rows) &&
               graph().shape(rows)[1] == graph().shape(end)[1];
    }

    /// Whether all that depends on the image in `value` does so through `end`.
    bool is_only_through(Value end, Value value) const {
        if (value == end || !is_inside(value)) return value != parts.image;
        if (value == parts.mean || value == parts.first || value == parts.second) return false;
        return std::ranges::all_of(inputs_of(graph()[value].operation),
                                   [&](const Value& x) { return is_only_through(end, x); });
    }

    void add_others(Value value) {
        for (const Value& x : inputs_of(graph()[value].operation)) {
            if (x == parts.image || is_inside(x)) continue;
            if (std::ranges::find(parts.others, x) == parts.others.end()) parts.others.push_back(x);
        }
    }

    const Grouping& grouping_;
    Value root_;
    std::map<std::uint32_t, bool> depends_;
    std::vector<Value> inside_;
};

}  // namespace

std::optional<SqueezePattern> find_squeeze(const Grouping& grouping, Value end) {
    const Graph& graph = grouping.graph();
    if (graph.shape(end).rank() < 3 || !is_elementwise(graph[end].operation)) return std::nullopt;
    Search search(grouping, end);
    if (!search.run()) return std::nullopt;
    return search.parts;
}

void add_roles(Group& group, const SqueezePattern& parts) {
    group.roles.insert({{"squeezed", parts.image},
                        {"mean", parts.mean},
                        {"producta", parts.first},
                        {"productb", parts.second}});
    char letter = 'a';
    for (const Value& head : parts.heads) group.roles[std::string("head") + letter++] = head;
}

void demand_operands(Grouping& grouping, const SqueezePattern& parts) {
    const Graph& graph = grouping.graph();
    for (const Value& other : parts.others) {
        const auto* broadcast = graph.get_if<op::Broadcast>(other);
        const Value x = broadcast ? broadcast->x : other;
        if (!graph.get_if<op::Constant>(x)) grouping.demand(x);
    }
}

}  // namespace kn::cuda

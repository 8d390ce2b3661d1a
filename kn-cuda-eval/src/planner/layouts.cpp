#include <algorithm>
#include <set>

#include "lower/library.h"
#include "planner/axes.h"

namespace kn::cuda {

namespace {

// Votes for the order of each value, in bytes that another order would move.
class Layouts {
  public:
    explicit Layouts(const Grouping& grouping) : grouping_(grouping), graph_(grouping.graph()) {
        for (const Value& value : grouping.live()) {
            if (!grouping.is_stored(value)) continue;
            const std::size_t rank = graph_.shape(value).rank();
            order_[value.index] = row_major(rank);
            const Operation& operation = graph_[value].operation;
            if (rank < 3 || grouping.is_output(value) || grouping.is_input_part(value) ||
                is_any_of<op::Input, op::Constant>(operation))
                fix(value);
        }
        // A value that is written where an output lies has the output's order.
        for (const auto& [output, place] : grouping.output_places())
            if (auto root = order_at_root(grouping, output, row_major(place.shape.size()))) {
                fix(root->first);
                order_[root->first.index] = root->second;
            }
    }

    std::unordered_map<std::uint32_t, AxisOrder> run() {
        for (const Group& group : grouping_.groups()) add_wishes(group);
        for (int round = 0; round < 6; round++) {
            bool changed = false;
            for (const Value& value : grouping_.live()) changed |= decide(value);
            if (!changed) break;
        }
        return order_;
    }

  private:
    void fix(Value value) {
        fixed_.insert(value.index);
        decided_.insert(value.index);
    }

    double bytes(Value value) const {
        return static_cast<double>(checked_size(graph_.shape(value).to_ints())) *
               static_cast<double>(size_of(graph_.dtype(value)));
    }

    // `value` should be dense in `order`.
    void wish(Value value, const AxisOrder& order, double weight) {
        const auto root = order_at_root(grouping_, value, order);
        if (root) wishes_[root->first.index].emplace_back(root->second, weight * bytes(value));
    }

    void add_wishes(const Group& group) {
        const std::size_t rank = graph_.shape(group.anchor).rank();
        const bool convolves =
            graph_.get_if<op::Conv>(group.anchor) || graph_.get_if<op::ConvTranspose>(group.anchor);
        if (group.kind == Group::Kind::Conv) {
            const AxisOrder order =
                group.channels_last ? channels_last_order(rank) : row_major(rank);
            for (const auto& [role, value] : group.roles)
                if (role == "x" || role == "x also" || role == "y" || role == "z" ||
                    role == "residual")
                    wish(value, order, role == "y" || role == "z" ? 4 : 2);
        } else if (group.kind == Group::Kind::MatMul || group.kind == Group::Kind::Attention) {
            for (const auto& [role, value] : group.roles)
                wish(value, row_major(graph_.shape(value).rank()), 1);
            // Attention writes any order; a product its rows.
            if (group.paired)
                for (const auto& part : group.paired->parts)
                    wish(part.end, order_of(part, graph_.shape(part.end).to_ints()), 4);
            else if (group.kind == Group::Kind::MatMul)
                wish(group.outputs[0], row_major(rank), 4);
        } else if (group.kind == Group::Kind::Special && !convolves) {
            for (const Value& value : group.outputs)
                wish(value, row_major(graph_.shape(value).rank()), 2);
        } else if (group.kind == Group::Kind::Special) {
            links_.push_back(
                {group.outputs[0], inputs_of(graph_[group.anchor].operation)[0], row_major(rank)});
            if (!grouping_.is_stored(links_.back().read)) links_.pop_back();
        } else {
            if (const auto image = group.roles.find("squeezed"); image != group.roles.end())
                wish(image->second, channels_last_order(graph_.shape(image->second).rank()), 2);
            for (AxisLink& link : axis_links(grouping_, group)) links_.push_back(std::move(link));
        }
    }

    bool decide(Value value) {
        if (!grouping_.is_stored(value) || fixed_.count(value.index)) return false;
        std::vector<std::pair<AxisOrder, double>> votes = wishes_[value.index];
        for (const AxisLink& link : links_) {
            if (link.output == value && decided_.count(link.read.index))
                votes.emplace_back(order_of_output(link, order_.at(link.read.index)),
                                   std::min(bytes(link.read), bytes(link.output)));
            if (link.read == value && decided_.count(link.output.index))
                votes.emplace_back(order_of_read(link, order_.at(link.output.index)),
                                   std::min(bytes(link.read), bytes(link.output)));
        }
        const Ints shape = graph_.shape(value).to_ints();
        AxisOrder& current = order_.at(value.index);
        const auto same = [&](AxisOrder a, AxisOrder b) {
            const auto single = [&](std::int64_t axis) {
                return shape[static_cast<std::size_t>(axis)] == 1;
            };
            std::erase_if(a, single);
            std::erase_if(b, single);
            return a == b;
        };
        const auto total = [&](const AxisOrder& order) {
            double sum = 0;
            for (const auto& [other, weight] : votes)
                if (same(other, order)) sum += weight;
            return sum;
        };
        AxisOrder best = current;
        double most = total(current);
        for (const auto& [order, weight] : votes)
            if (const double sum = total(order); sum > most) {
                best = order;
                most = sum;
            }
        const bool first = !votes.empty() && decided_.insert(value.index).second;
        const bool changed = first || best != current;
        current = std::move(best);
        return changed;
    }

    const Grouping& grouping_;
    const Graph& graph_;
    std::unordered_map<std::uint32_t, AxisOrder> order_;
    std::set<std::uint32_t> fixed_;
    std::set<std::uint32_t> decided_;  // those that had votes; the others have no say yet
    std::unordered_map<std::uint32_t, std::vector<std::pair<AxisOrder, double>>> wishes_;
    std::vector<AxisLink> links_;
};

}  // namespace

std::unordered_map<std::uint32_t, AxisOrder> choose_layouts(const Grouping& grouping) {
    return Layouts(grouping).run();
}

}  // namespace kn::cuda

#include "rules/paired_pattern.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>

#include "planner/views.h"

namespace kn::cuda {

namespace {

using Part = PairedColumns::Part;

bool is_computed(const Operation& operation) {
    return is_elementwise(operation) || is_any_of<op::Concat, op::Reshape, op::Permute>(operation);
}

class Search {
  public:
    Search(const Grouping& grouping, Value root)
        : grouping_(grouping), graph_(grouping.graph()), root_(root) {
        const Ints shape = graph_.shape(root).to_ints();
        m_ = shape[0];
        n_ = shape[1];
        TensorRef place;
        place.shape = shape;
        place.strides = {n_, 1};
        places_[root.index] = place;
        split(root);
        if (reads_all_) slices_ = {root};
        for (const Value& slice : slices_) follow(slice);
    }

    std::optional<PairedPattern> run() {
        found_.columns.root = root_;
        for (const Value& slice : slices_) {
            auto part = part_of(slice);
            if (!part) continue;
            for (const Part& other : found_.columns.parts)
                if (part->first < other.first + other.count &&
                    other.first < part->first + part->count)
                    refuse("columns are read twice");
            found_.columns.parts.push_back(std::move(*part));
        }
        if (!meets_) return std::nullopt;
        std::ranges::sort(found_.columns.parts, {}, &Part::first);
        for (const Value& other : found_.others)
            if (needs_root(other)) refuse("what meets them is computed from the product, too");
        for (const Value& value : behind_) {
            const bool end = std::ranges::any_of(
                found_.columns.parts, [&](const Part& part) { return part.end == value; });
            if (!end) found_.inner.push_back(value);
        }
        found_.columns.distance = distance_;
        return std::move(found_);
    }

  private:
    struct Readers {
        std::vector<Value> whole;  ///< views of all of the part
        std::vector<Value> ends;   ///< stored, computed from it
        bool as_it_is = false;     ///< somebody reads the part itself,
        bool lost = false;         ///< or what is computed from it, and is not stored
    };

    bool is_behind(Value value) const { return std::ranges::count(behind_, value) > 0; }

    /// Values are younger than their operands.
    bool needs_root(Value value) {
        if (value.index <= root_.index) return value == root_;
        if (!seen_.insert(value.index).second) return false;
        return std::ranges::any_of(inputs_of(graph_[value].operation),
                                   [&](const Value& operand) { return needs_root(operand); });
    }

    void refuse(const std::string& why) {
        if (found_.why_not.empty()) found_.why_not = why;
    }

    /// The place of what is a view of a place, and is no other group's.
    std::optional<TensorRef> view_at(Value value, Value of) const {
        if (grouping_.is_grouped(value) || viewed(graph_, value) != of) return std::nullopt;
        return view_of(graph_, value, places_.at(of.index));
    }

    /// The slices of whole rows that are read of the matrix.
    void split(Value value) {
        for (const Value& user : grouping_.users(value)) {
            const auto place = view_at(user, value);
            const auto part = place ? whole_rows(*place, m_, n_) : std::nullopt;
            const bool all = part && part->count == n_;
            if (!part || (all && grouping_.is_stored(user))) {
                reads_all_ = true;
                continue;
            }
            places_[user.index] = *place;
            if (all)
                split(user);
            else
                slices_.push_back(user);
        }
    }

    void follow(Value slice) {
        Readers& readers = readers_[slice.index];
        if (slice != root_ && grouping_.is_stored(slice)) return;
        const auto whole = whole_rows(places_.at(slice.index), m_, n_);
        const auto computed = [&](const auto& self, Value value) -> void {
            if (is_behind(value)) return;
            behind_.push_back(value);
            if (grouping_.is_stored(value)) return readers.ends.push_back(value);
            for (const Value& user : grouping_.users(value))
                if (is_computed(graph_[user].operation) && !grouping_.is_grouped(user))
                    self(self, user);
                else
                    readers.lost = true;
        };
        const auto view = [&](const auto& self, Value value) -> void {
            const auto own = whole_rows(places_.at(value.index), m_, n_);
            if (own && own->first == whole->first && own->count == whole->count)
                readers.whole.push_back(value);
            for (const Value& user : grouping_.users(value)) {
                const auto place = view_at(user, value);
                if (place && !grouping_.is_stored(user)) {
                    places_[user.index] = *place;
                    self(self, user);
                } else if (is_computed(graph_[user].operation) && !grouping_.is_grouped(user)) {
                    computed(computed, user);
                } else {
                    readers.as_it_is = true;
                }
            }
        };
        view(view, slice);
    }

    std::optional<Part> part_of(Value slice) {
        const Readers& readers = readers_[slice.index];
        if (readers.ends.empty() && !readers.lost) {
            Part part = *whole_rows(places_.at(slice.index), m_, n_);
            part.end = slice;
            return part;
        }
        std::optional<Part> found;
        for (const Value& end : readers.ends)
            for (const Value& view : readers.whole)
                if (const auto part = part_at(end, view); part && !found) found = part;
        if (readers.lost || readers.as_it_is || readers.ends.size() > 1) {
            refuse("something else reads what meets behind the product");
            return std::nullopt;
        }
        if (!found) refuse("what is computed behind the product lies otherwise");
        return found;
    }

    /// The end as what lies where a view of the part does.
    std::optional<Part> part_at(Value end, Value view) {
        TensorRef place = places_.at(view.index);
        const Ints shape = graph_.shape(end).to_ints();
        if (checked_size(shape) != checked_size(place.shape)) return std::nullopt;
        const auto strides = reshape_strides(place.shape, place.strides, shape);
        if (!strides) return std::nullopt;
        place.shape = shape;
        place.strides = *strides;
        const std::optional<Part> part = whole_rows(place, m_, n_);
        if (!part) return std::nullopt;
        const std::size_t others = found_.others.size();
        part_ = *part;
        part_.end = end;
        if (is_made_of_pairs(end, place)) return part_;
        found_.others.resize(others);
        return std::nullopt;
    }

    /// Whether what has this place is computed from columns there, or their partners.
    bool is_made_of_pairs(Value value, const TensorRef& place) {
        if (const auto read = places_.find(value.index); read != places_.end())
            return is_pair(read->second, place);
        if (!is_behind(value)) {
            found_.others.push_back(value);
            return true;
        }
        const Operation& operation = graph_[value].operation;
        if (is_elementwise(operation))
            return std::ranges::all_of(inputs_of(operation), [&](const Value& operand) {
                return is_made_of_pairs(operand, place);
            });
        if (const auto* concat = std::get_if<op::Concat>(&operation)) {
            TensorRef part = place;
            const auto axis = static_cast<std::size_t>(concat->axis);
            for (const Value& operand : concat->inputs) {
                part.shape = graph_.shape(operand).to_ints();
                if (!is_made_of_pairs(operand, part)) return false;
                part.offset += part.shape[axis] * part.strides[axis];
            }
            return true;
        }
        const auto inner = unview_of(graph_, value, place);
        return inner && is_made_of_pairs(*viewed(graph_, value), *inner);
    }

    /// Whether `read` is `place`, or all of it a distance away that is one bit of columns' numbers,
    /// in the same part.
    bool is_pair(const TensorRef& read, const TensorRef& place) {
        if (read.shape != place.shape) return false;
        for (std::size_t i = 0; i < read.shape.size(); ++i)
            if (read.shape[i] != 1 && read.strides[i] != place.strides[i]) return false;
        const std::int64_t away = read.offset - place.offset;
        if (away == 0) return true;
        const std::int64_t distance = std::abs(away), both = 2 * distance;
        if (part_.first % both != 0 || part_.count % both != 0) return false;
        if (!std::has_single_bit(static_cast<std::uint64_t>(distance)) || n_ % both != 0 ||
            (distance_ != 0 && distance != distance_)) {
            meets_ = true;
            refuse("columns that meet are not one power of two apart");
            return false;
        }
        // Of the columns' numbers without what is a multiple of both.
        std::int64_t low = place.offset % both, high = low;
        for (std::size_t i = 0; i < place.shape.size(); ++i)
            if (place.shape[i] != 1 && place.strides[i] % both != 0)
                high += (place.shape[i] - 1) * place.strides[i];
        const bool upper = away < 0;
        if (low < (upper ? distance : 0) || high >= (upper ? both : distance)) return false;
        meets_ = true;
        distance_ = distance;
        return true;
    }

    const Grouping& grouping_;
    const Graph& graph_;
    Value root_;
    std::int64_t m_ = 0, n_ = 0, distance_ = 0;
    std::unordered_map<std::uint32_t, TensorRef> places_;  ///< of the matrix and its views in it
    std::vector<Value> slices_;
    bool reads_all_ = false, meets_ = false;
    std::unordered_map<std::uint32_t, Readers> readers_;
    std::vector<Value> behind_;               ///< what is computed from it
    Part part_;                               ///< that is looked at
    std::unordered_set<std::uint32_t> seen_;  ///< that do not need the matrix
    PairedPattern found_;
};

}  // namespace

std::optional<PairedPattern> find_paired(const Grouping& grouping, Value root) {
    return Search(grouping, root).run();
}

}  // namespace kn::cuda

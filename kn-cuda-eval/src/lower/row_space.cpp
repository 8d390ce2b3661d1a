#include "lower/row_space.h"

#include <algorithm>

#include <fmt/core.h>

#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kMostColumns = 1024;
constexpr std::int64_t kFewestParts = 8;
constexpr std::int64_t kMostAhead = 8;  // loads of a tensor

std::int64_t count_of(const std::vector<RowDigit>& digits) {
    return checked_size(extents_of(digits));
}

std::int64_t count_of(const std::vector<RowDigit>& digits, bool along) {
    std::int64_t count = 1;
    for (const RowDigit& digit : digits)
        if (digit.along == along) count *= digit.extent;
    return count;
}

}  // namespace

Ints extents_of(const std::vector<RowDigit>& digits) {
    Ints result;
    for (const RowDigit& digit : digits) result.push_back(digit.extent);
    return result;
}

std::int64_t RowSpace::outer_count() const { return count_of(outer); }
std::int64_t RowSpace::loop_count() const { return count_of(loop); }
std::int64_t RowSpace::inner_count() const { return count_of(inner); }
std::int64_t RowSpace::inner_rows() const { return count_of(inner, false); }
std::int64_t RowSpace::inner_along() const { return count_of(inner, true); }
int RowSpace::threads() const { return static_cast<int>(ceil_div(columns * down, 32) * 32); }
bool RowSpace::exact() const { return loop_count() % span() == 0 && columns * down == threads(); }

std::optional<RowSpace> row_space(std::vector<RowDigit> digits, std::size_t rank, int vector,
                                  const RowTeams& teams) {
    std::stable_sort(digits.begin(), digits.end(),
                     [](const RowDigit& a, const RowDigit& b) { return a.step > b.step; });
    RowSpace space;
    space.rank = rank;
    auto next = digits.begin();
    for (; next != digits.end() && !next->along; ++next) space.outer.push_back(*next);
    for (; next != digits.end() && next->along; ++next) space.loop.push_back(*next);
    space.inner.assign(next, digits.end());
    if (space.loop.empty()) return std::nullopt;
    if (space.inner.empty()) {
        RowDigit& last = space.loop.back();
        while (vector > 1 && last.extent % vector != 0) vector /= 2;
        RowDigit lanes = last;
        lanes.extent = vector;
        last.divisor *= vector;
        last.extent /= vector;
        space.inner = {lanes};
    }
    const std::int64_t inner = space.inner_count();
    while (vector > 1 && inner % vector != 0) vector /= 2;
    space.vector = vector;
    space.columns = inner / vector;
    if (space.columns > kMostColumns) return std::nullopt;
    const std::int64_t loop = space.loop_count();
    while (space.down * 2 * space.columns <= teams.threads && space.down * 2 <= loop)
        space.down *= 2;
    std::int64_t parts = std::max<std::int64_t>(teams.blocks / space.outer_count(), 1);
    // Rather some more blocks than threads that cannot have all their loads on their way.
    parts = std::clamp(loop / (space.down * kMostAhead), parts, 4 * parts);
    if (teams.numbers > 0)
        parts = std::min(parts, std::max(teams.numbers / space.inner_rows(), kFewestParts));
    const std::int64_t steps =
        std::max((loop + parts * space.down - 1) / (parts * space.down), teams.steps);
    // Whole steps for all threads where nearly as many do: no conditions between loads.
    space.steps = steps;
    for (std::int64_t other = steps; other * 3 >= steps * 2; --other)
        if (loop % (other * space.down) == 0) {
            space.steps = other;
            break;
        }
    if (loop % space.span() != 0)
        for (std::int64_t other = steps; other * 2 <= steps * 3; ++other)
            if (loop % (other * space.down) == 0) {
                space.steps = other;
                break;
            }
    space.parts = (loop + space.span() - 1) / space.span();
    return space;
}

const char* unroll_of(std::int64_t trips) { return trips <= 16 ? "KN_UNROLL" : "KN_UNROLL_SOME"; }

void add_digits(IndexMath& math, Index& index, const std::vector<RowDigit>& digits,
                const Index& positions) {
    for (std::size_t i = 0; i < digits.size(); ++i) {
        std::string& at = index[digits[i].axis];
        at = math.add(at, math.mul(positions[i], digits[i].divisor));
    }
}

RowLoop::RowLoop(Emitter& emitter, Code& code, const RowSpace& space)
    : emitter_(emitter), code_(code), space_(space) {}

void RowLoop::declare() {
    const char* type = math().type();
    code_.line(fmt::format("const {} block = blockIdx.x;", type));
    const std::int64_t outer = space_.outer_count();
    const std::string block = math().variable("block", outer * space_.parts);
    const Index place = math().split(block, {outer, space_.parts});
    outer_ = math().split(place[0], extents_of(space_.outer));
    part_ = place[1];
    code_.line("const int thread = threadIdx.x;");
    if (space_.columns == 1) {
        code_.line("const int y = thread;");
    } else {
        code_.line(fmt::format("const int v = thread % {};", space_.columns));
        code_.line(fmt::format("const int y = thread / {};", space_.columns));
    }
    column_ = math().variable("v", space_.columns);
}

Index RowLoop::open(std::size_t scope) {
    code_.open(
        fmt::format("{} for (int i = 0; i < {}; ++i)", unroll_of(space_.steps), space_.steps));
    emitter_.push_scope();
    const std::int64_t loop = space_.loop_count();
    const std::string definition = fmt::format("const {} k = ({}) * {} + i * {} + y;",
                                               math().type(), part_, space_.span(), space_.down);
    code_.line(definition);
    if (space_.exact() && space_.steps <= kMostAhead)
        emitter_.set_ahead(Emitter::Ahead{scope, "k", "i", space_.steps, definition});
    if (!space_.exact()) {
        const std::string idle = space_.columns * space_.down == space_.threads()
                                     ? ""
                                     : fmt::format(" || y >= {}", space_.down);
        code_.line(fmt::format("if (k >= {}{}) break;", loop, idle));
    }
    const std::string k = math().variable("k", loop);
    Index index(space_.rank, "0");
    add_digits(math(), index, space_.outer, outer_);
    add_digits(math(), index, space_.loop, math().split(k, extents_of(space_.loop)));
    add_digits(math(), index, space_.inner, math().split(inner_number(), extents_of(space_.inner)));
    return index;
}

void RowLoop::close() {
    emitter_.set_ahead(std::nullopt);
    emitter_.pop_scope();
    code_.close();
}

std::string RowLoop::inner_number() {
    const std::string first = math().mul(column_, space_.vector);
    return space_.vector == 1 ? first : math().add(first, "j");
}

std::string RowLoop::inner_row() {
    const Index digits = math().split(inner_number(), extents_of(space_.inner));
    Index rows;
    Ints extents;
    for (std::size_t i = 0; i < digits.size(); ++i)
        if (!space_.inner[i].along) {
            rows.push_back(digits[i]);
            extents.push_back(space_.inner[i].extent);
        }
    return rows.empty() ? "0" : math().join(rows, extents);
}

}  // namespace kn::cuda

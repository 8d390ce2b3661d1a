#include "lower/row_threads.h"

#include <algorithm>

#include <fmt/core.h>

#include "planner/ceil_div.h"

namespace kn::cuda {

void RowThreads::open_row(KernelDraft& draft) {
    if (form_.kind == RowForm::Kind::Block) {
        code_.line("const int lane = threadIdx.x;");
        row_ = math().variable("row", count_);
        if (count_ > 1) code_.line(fmt::format("const {} row = blockIdx.x;", math().type()));
        draft.grid = {static_cast<unsigned>(count_)};
        draft.block = {static_cast<unsigned>(form_.threads)};
    } else {
        open_warp_or_column(draft);
    }
    // Of the lanes that have elements: the others' loads and stores are guarded.
    std::int64_t lanes = form_.threads;
    if (form_.elements > 0 && (form_.chunks || form_.elements == 1))
        lanes = std::min(lanes, std::max<std::int64_t>(longest_ / form_.elements, 2));
    lane_ = math().variable("lane", lanes);
    if (lane_ != "0") math().mark("lane");
}

void RowThreads::open_warp_or_column(KernelDraft& draft) {
    const char* const type = math().type();
    std::int64_t rows = 0;  // a block
    std::string own;
    if (form_.kind == RowForm::Kind::Warp) {
        const int block = std::max(form_.threads, 128);
        rows = block / form_.threads;
        code_.line(fmt::format("const int lane = threadIdx.x % {};", form_.threads));
        own = fmt::format("threadIdx.x / {}", form_.threads);
        draft.block = {static_cast<unsigned>(block)};
    } else {
        rows = 32;
        code_.line("const int lane = threadIdx.y;");
        own = "threadIdx.x";
        draft.block = {32, static_cast<unsigned>(form_.threads)};
    }
    draft.grid = {static_cast<unsigned>(ceil_div(count_, rows))};
    row_ = math().variable("row", count_);
    const std::string number = fmt::format("({})blockIdx.x * {} + {}", type, rows, own);
    if (count_ % rows == 0) {
        code_.line(fmt::format("const {} row = {};", type, number));
        return;
    }
    // Threads beyond the last row take part in shuffles and barriers.
    code_.line(fmt::format("const {} row_or_more = {};", type, number));
    code_.line(fmt::format("const {0} row = row_or_more < {1} ? row_or_more : {2};", type, count_,
                           count_ - 1));
    row_exists_ = fmt::format("row_or_more < {}", count_);
}

void RowThreads::open_elements() {
    emitter_.set_lanes(form_.elements > 0 ? form_.elements : form_.vector);
    if (form_.elements == 0) return;
    const bool all_full = std::int64_t{form_.threads} * form_.elements <= longest_;
    std::string exists;
    if (form_.elements == 1) {
        element_ = lane_;
        exists = fmt::format("lane < {}", longest_);
    } else if (form_.chunks) {
        element_ = math().add(math().mul(lane_, form_.elements), "j");
        exists = fmt::format("lane * {} < {}", form_.elements, longest_);
    } else {
        element_ = math().add(math().mul("j", form_.threads), lane_);
        exists = fmt::format("j * {} + lane < {}", form_.threads, longest_);
    }
    if (!all_full) element_guard_ = exists;
    emitter_.set_guard(element_guard_);
}

void RowThreads::over_loop(std::int64_t length, const Body& body) {
    const int lanes = emitter_.lanes();
    const int step = form_.elements == 0 && length % lanes == 0 ? lanes : 1;
    const std::string guard = emitter_.guard();
    emitter_.set_guard("");
    code_.open(fmt::format("for ({} k = {}; k < {}; k += {})", math().type(), lane_, length / step,
                           form_.threads));
    emitter_.push_scope();
    std::string k = math().variable("k", length / step);
    if (k == "k") math().mark("k");
    if (step > 1) k = math().add(math().mul(k, step), "j");
    if (step == 1 && lanes > 1) code_.line("const int j = 0;");
    body(k);
    emitter_.pop_scope();
    code_.close();
    emitter_.set_guard(guard);
}

std::string RowThreads::reduce(const std::string& op, const std::string& type, std::int64_t length,
                               const Element& element) {
    const std::string total = code_.fresh("r");
    code_.line(fmt::format("{} {} = {}::start<{}>();", type, total, op, type));
    const auto join = [&](int elements, const std::string& term) {
        code_.line(
            fmt::format("{}{} = {}::join({}, {});", for_each(elements), total, op, total, term));
    };
    if (in_registers(length)) {
        const std::string x = element(element_);
        const std::string guard = emitter_.guard();
        join(form_.elements,
             guard.empty() ? x : fmt::format("({}) ? {} : {}::start<{}>()", guard, x, op, type));
    } else if (length > 0) {
        over_loop(length, [&](const std::string& k) {
            const std::string x = element(k);
            join(form_.elements == 0 && math().varies(k) ? form_.vector : 1, x);
        });
    }
    const int threads = form_.threads;
    if (threads == 1) return total;
    std::string text;
    switch (form_.kind) {
        case RowForm::Kind::Warp:
            text = fmt::format("kn_reduce_warp<{}, {}>({})", op, threads, total);
            break;
        case RowForm::Kind::Block:
            text = fmt::format("kn_reduce_block<{}, {}>({}, {}, lane)", op, threads, total,
                               shared(type, threads / 32));
            break;
        case RowForm::Kind::Columns:
            text = fmt::format("kn_reduce_columns<{}, 32, {}>({}, {}, threadIdx.x, lane)", op,
                               threads, total, shared(type, threads * 32));
            break;
    }
    code_.line(fmt::format("{} = {};", total, text));
    return total;
}

std::string RowThreads::for_each(int elements) {
    return elements == 1 ? "" : fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) ", elements);
}

std::string RowThreads::shared(const std::string& type, int elements) {
    auto [found, is_new] = shared_.try_emplace(type, "");
    if (is_new) {
        found->second = code_.fresh("s");
        code_.line(fmt::format("KN_SHARED {} {}[{}];", type, found->second, elements));
    }
    return found->second;
}

}  // namespace kn::cuda

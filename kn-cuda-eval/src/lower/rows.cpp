// Reductions over rows by warps, blocks, or columns of threads, with what surrounds them.
//
// A row is a set of elements that share a reduction's result. Threads that work on one row hold its
// elements in registers where they fit ("register form": lanes of the emitter), so that softmax or
// a norm reads memory once; otherwise they run over the row again for each statistic and for the
// result. The form is chosen in row_form, the kernel written in row_kernel, row_threads,
// row_statistics (what is computed of a row) and row_values (what that makes of an element). Few
// long rows are another matter: row_parts.
#include <algorithm>

#include "lower/column_parts.h"
#include "lower/lower.h"
#include "lower/row_kernel.h"
#include "lower/row_parts.h"

namespace kn::cuda {

void lower_rows(Placement& placement, const Group& whole) {
    Group group = whole;
    const Value root = group.outputs.at(0);
    const std::function<bool(Value)> is_leaf = [&](Value value) {
        return placement.is_stored(value) && std::ranges::count(group.outputs, value) == 0;
    };
    const RowAnalysis rows = analyse_rows(placement.graph(), root, is_leaf);
    if (checked_size(placement.graph().shape(root).to_ints()) == 0) return;
    if (rows.reductions.empty() || rows.longest == 0) return lower_pointwise(placement, group);
    if (group.in_parts || may_have_statistics(placement.plan(), rows)) {
        const auto why = lower_row_parts(placement, group, rows);
        if (!why) return;
        if (group.in_parts) group.reason += "; not in parts: " + *why;
    }
    RowForm form = form_along_rows(rows, placement.stored(root));
    RowKernel straight(placement, group, rows, form);
    KernelDraft draft = straight.make();
    if (straight.computes_inline() && form.elements > 0) {
        // The numbers of elements in registers reach beyond the row; those of loops do not.
        form.elements = 0;
        draft = RowKernel(placement, group, rows, form).make();
    }
    const std::int64_t count = checked_size(extents_of(rows.parallel));
    if (straight.reads_across() && count > 1) {
        const int sms = placement.plan().device.sm_count;
        draft =
            RowKernel(placement, group, rows, form_across_rows(count, rows.longest, sms)).make();
    }
    add_kernel_step(placement, group, draft);
}

}  // namespace kn::cuda

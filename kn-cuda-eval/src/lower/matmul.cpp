#include <algorithm>

#include "lower/conv.h"
#include "lower/lower.h"
#include "lower/matrix.h"

namespace kn::cuda {

namespace {

// Operands where cuBLASLt can read them; a copy if strides do not suit.
class MatMulLowering {
  public:
    MatMulLowering(Placement& placement, const Group& group)
        : placement_(placement), group_(group), graph_(placement.graph()) {}

    void run() {
        const TensorRef& y = placement_.stored(group_.outputs[0]);
        TensorRef d = y;
        if (!is_row_matrix(d)) d = placement_.scratch(y.dtype, y.shape, "product");
        choose_form(d);
        emit(d);
        if (d.buffer == y.buffer) return;
        placement_.plan().steps.back().produces.clear();
        lower_copy(placement_, d, y, "the product's layout is another");
        placement_.plan().steps.back().produces = group_.outputs;
    }

  private:
    Value role(const std::string& name) const { return group_.roles.at(name); }
    bool has(const std::string& name) const { return group_.roles.count(name) != 0; }

    static bool is_row_matrix(const TensorRef& t) {
        const auto view = matrix_view(t.shape, t.strides);
        return view && !view->transpose && (view->batch == 1 || view->batch_stride > 0);
    }

    TensorRef readable(Value value, bool rows_only) {
        if (const auto view = placement_.view(value)) {
            const auto matrix = matrix_view(view->shape, view->strides);
            if (matrix && !(rows_only && matrix->transpose)) return *view;
        }
        return placement_.copy_of(value, row_major(graph_.shape(value).rank()));
    }

    // One product over all rows where b is the same for the whole batch, else a batch of products.
    void choose_form(const TensorRef& d) {
        a_ = readable(role("a"), false);
        b_ = readable(role("b"), false);
        if (has("residual")) c_ = readable(role("residual"), true);
        const MatrixView b = *matrix_view(b_.shape, b_.strides);
        const auto flat_a = flat_matrix_view(a_.shape, a_.strides);
        const auto flat_d = flat_matrix_view(d.shape, d.strides);
        const auto flat_c = c_ ? flat_matrix_view(c_->shape, c_->strides) : flat_d;
        flat_ = (b.batch == 1 || b.batch_stride == 0) && flat_a && flat_d && !flat_d->transpose &&
                flat_c && !flat_c->transpose;
    }

    MatrixView view_of(const TensorRef& tensor) const {
        return *(flat_ ? flat_matrix_view(tensor.shape, tensor.strides)
                       : matrix_view(tensor.shape, tensor.strides));
    }

    void emit(const TensorRef& d) {
        const Plan& plan = placement_.plan();
        MatMulWork work;
        MatmulDesc& desc = work.desc;
        const std::size_t rank = d.shape.size();
        desc.n = d.shape[rank - 1];
        desc.k = a_.shape[rank - 1];
        std::int64_t rows = 1;
        for (std::size_t i = 0; i + 1 < rank; i++) rows *= d.shape[i];
        desc.m = flat_ ? rows : d.shape[rank - 2];
        desc.batch = flat_ ? 1 : rows / desc.m;
        const MatrixView a = view_of(a_), out = view_of(d);
        const MatrixView b = *matrix_view(b_.shape, b_.strides);
        desc.transpose_a = a.transpose;
        desc.transpose_b = b.transpose;
        desc.lda = a.leading;
        desc.ldb = b.leading;
        desc.ldc = desc.ldd = out.leading;
        desc.stride_a = flat_ ? 0 : a.batch_stride;
        desc.stride_b = flat_ ? 0 : b.batch_stride;
        desc.stride_c = desc.stride_d = flat_ ? 0 : out.batch_stride;
        desc.a_type = data_type(a_.dtype).value();
        desc.b_type = data_type(b_.dtype).value();
        desc.d_type = data_type(d.dtype).value();
        desc.compute = compute(d.dtype);
        desc.epilogue = group_.matmul_epilogue;
        desc.bias = has("bias");

        Step step = step_of(graph_, group_, "matmul");
        step.operands = {{a_, Access::Read, "a"}, {b_, Access::Read, "b"}};
        if (c_) {
            const MatrixView c = view_of(*c_);
            desc.ldc = c.leading;
            desc.stride_c = flat_ ? 0 : c.batch_stride;
            work.beta = 1;
            step.operands.push_back({*c_, Access::Read, "c"});
        }
        if (desc.bias) step.operands.push_back({bias(), Access::Read, "bias"});
        step.operands.push_back({d, Access::Write, "d"});
        desc.alignment = 256;
        for (const Operand& operand : step.operands)
            desc.alignment = std::min(desc.alignment, alignment_of(plan, operand.tensor));
        step.operands.push_back(workspace_operand(placement_, workspace_bytes(desc)));
        step.work = work;
        step.flops = 2 * desc.batch * desc.m * desc.n * desc.k;
        placement_.plan().steps.push_back(std::move(step));
    }

    MatmulCompute compute(DType dtype) const {
        if (dtype == DType::F64) return MatmulCompute::F64;
        if (is_half(dtype) || !uses_tensor_cores(placement_.plan().options, dtype))
            return MatmulCompute::F32;
        return MatmulCompute::Tf32;
    }

    TensorRef bias() {
        const Value value = role("bias");
        const auto view = placement_.view(value);
        const std::size_t last = graph_.shape(value).rank() - 1;
        if (view && (view->shape[last] == 1 || view->strides[last] == 1)) return *view;
        return placement_.copy_of(value, row_major(last + 1));
    }

    // Room for partial sums of a product split along k, the more the smaller the result is.
    std::size_t workspace_bytes(const MatmulDesc& desc) const {
        const auto result = static_cast<std::size_t>(desc.batch * desc.m * desc.n) * 4;
        const std::size_t megabyte = std::size_t{1} << 20;
        const std::size_t wanted = std::clamp(16 * result, megabyte, 32 * megabyte);
        return std::min(wanted, placement_.plan().options.workspace_bytes);
    }

    Placement& placement_;
    const Group& group_;
    const Graph& graph_;
    TensorRef a_, b_;
    std::optional<TensorRef> c_;
    bool flat_ = false;
};

}  // namespace

void lower_matmul(Placement& placement, const Group& group) {
    MatMulLowering(placement, group).run();
}

}  // namespace kn::cuda

#include <algorithm>

#include "cpu/cell_activation.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"

namespace kn::cpu {

namespace {

/// c [m, n] (rows ldc apart) += a [m, k] times the transpose of b [n, k], in panels on the threads.
template <class C>
void add_product(EvalContext& ctx, std::int64_t m, std::int64_t n, std::int64_t k, const C* a,
                 const C* b, C* c, std::int64_t ldc) {
    constexpr std::int64_t kPanel = 64;
    const bool by_rows = m > n;
    const std::int64_t length = by_rows ? m : n;
    const double cost = 0.03 * static_cast<double>(kPanel * (by_rows ? n : m) * k) + 1;
    ctx.parallel((length + kPanel - 1) / kPanel, cost, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t from = begin * kPanel;
        const std::int64_t count = std::min(end * kPanel, length) - from;
        const std::int64_t row = by_rows ? from : 0;
        const std::int64_t column = by_rows ? 0 : from;
        gemm<C>(by_rows ? count : m, by_rows ? n : count, k, 1, {a + row * k, k, 1},
                {b + column * k, 1, k}, 1, c + row * ldc + column, ldc);
    });
}

template <class T>
class Cell {
    using C = Compute<T>;

  public:
    Cell(const op::Recurrent& op, EvalContext& ctx)
        : op_(op), ctx_(ctx), x_(operand(op.x)), w_(operand(op.w)), r_(operand(op.r)) {
        if (op.bias) bias_ = operand(*op.bias);
        if (op.peephole) peephole_ = operand(*op.peephole);
        steps_ = x_.dim(0);
        batch_ = x_.dim(1);
        input_ = x_.dim(2);
        hidden_ = r_.dim(1);
        gates_ = op.kind == CellKind::Lstm ? 4 : op.kind == CellKind::Gru ? 3 : 1;
        for (std::size_t i = 0; i < op.activations.size(); ++i)
            functions_.push_back({op.activations[i], op.alphas[i], op.betas[i]});
        h_ = initial(op.h0);
        c_ = initial(op.c0);
        read_lengths();
    }

    Arrays run() {
        project_input();
        Array all = ctx_.result(0);
        T* out = all.mutable_data<T>();
        for (std::int64_t s = 0; s < steps_; ++s) {
            const std::int64_t t = op_.reverse ? steps_ - 1 - s : s;
            recur(projected_.data() + t * batch_ * gates_ * hidden_);
            for (std::int64_t b = 0; b < batch_; ++b) {
                const bool active = t < lengths_[static_cast<std::size_t>(b)];
                T* row = out + (t * batch_ + b) * hidden_;
                C* gates = projected_.data() + (t * batch_ + b) * gates_ * hidden_;
                if (active) update(gates, b);
                for (std::int64_t j = 0; j < hidden_; ++j)
                    row[j] =
                        narrow<T>(active ? h_[static_cast<std::size_t>(b * hidden_ + j)] : C(0));
            }
        }
        Arrays results{all, state(h_, 1)};
        if (op_.kind == CellKind::Lstm) results.push_back(state(c_, 2));
        return results;
    }

  private:
    /// Row-major, in the compute type.
    Array operand(Value value) const { return widened(ctx_.contiguous(value), ctx_); }

    std::vector<C> initial(const std::optional<Value>& value) {
        const auto size = static_cast<std::size_t>(batch_ * hidden_);
        if (!value) return std::vector<C>(size);
        const Array start = operand(*value);
        return std::vector<C>(start.data<C>(), start.data<C>() + size);
    }

    void read_lengths() {
        lengths_.assign(static_cast<std::size_t>(batch_), steps_);
        if (!op_.lengths) return;
        const Array given = ctx_.contiguous(*op_.lengths);
        for (std::size_t b = 0; b < lengths_.size(); ++b) {
            lengths_[b] = given.data<std::int32_t>()[b];
            if (lengths_[b] < 0 || lengths_[b] > steps_)
                ctx_.fail("length " + std::to_string(lengths_[b]) + " of sequence " +
                          std::to_string(b) + " is not within 0.." + std::to_string(steps_));
        }
    }

    /// With linear_before_reset the recurrent bias of the new state's gate comes in before the
    /// reset.
    bool keeps_bias_apart(std::int64_t gate) const { return op_.linear_before_reset && gate == 2; }

    /// All steps' x w^T + bias at once.
    void project_input() {
        const std::int64_t width = gates_ * hidden_;
        projected_.assign(static_cast<std::size_t>(steps_ * batch_ * width), C(0));
        if (bias_) {
            const C* bias = bias_->data<C>();
            for (std::int64_t r = 0; r < steps_ * batch_; ++r)
                for (std::int64_t j = 0; j < width; ++j)
                    projected_[static_cast<std::size_t>(r * width + j)] =
                        bias[j] + (keeps_bias_apart(j / hidden_) ? C(0) : bias[width + j]);
        }
        add_product(ctx_, steps_ * batch_, width, input_, x_.data<C>(), w_.data<C>(),
                    projected_.data(), width);
    }

    /// Adds h r^T to one step's gates [batch, gates * hidden].
    void recur(C* gates) {
        const std::int64_t width = gates_ * hidden_;
        if (op_.kind != CellKind::Gru)
            return add_product(ctx_, batch_, width, hidden_, h_.data(), r_.data<C>(), gates, width);
        const C* r_new = r_.data<C>() + 2 * hidden_ * hidden_;
        add_product(ctx_, batch_, 2 * hidden_, hidden_, h_.data(), r_.data<C>(), gates, width);
        for (std::int64_t b = 0; b < batch_; ++b) activate(0, gates + b * width, 2 * hidden_);
        // The new state's gate sees the old state through the reset gate: after the product, or
        // before.
        std::vector<C> seen(static_cast<std::size_t>(batch_ * hidden_));
        std::vector<C> through(op_.linear_before_reset ? seen.size() : 0);
        for (std::int64_t b = 0; b < batch_; ++b)
            for (std::int64_t j = 0; j < hidden_; ++j) {
                const auto at = static_cast<std::size_t>(b * hidden_ + j);
                const C reset = gates[b * width + hidden_ + j];
                seen[at] = op_.linear_before_reset ? h_[at] : reset * h_[at];
                if (op_.linear_before_reset && bias_)
                    through[at] = bias_->data<C>()[width + 2 * hidden_ + j];
            }
        if (!op_.linear_before_reset)
            return add_product(ctx_, batch_, hidden_, hidden_, seen.data(), r_new,
                               gates + 2 * hidden_, width);
        add_product(ctx_, batch_, hidden_, hidden_, seen.data(), r_new, through.data(), hidden_);
        for (std::int64_t b = 0; b < batch_; ++b)
            for (std::int64_t j = 0; j < hidden_; ++j)
                gates[b * width + 2 * hidden_ + j] +=
                    gates[b * width + hidden_ + j] *
                    through[static_cast<std::size_t>(b * hidden_ + j)];
    }

    void activate(std::size_t function, C* data, std::int64_t count) const {
        if (op_.clip && function < 2) {
            const C limit = static_cast<C>(*op_.clip);
            for (std::int64_t i = 0; i < count; ++i) data[i] = std::clamp(data[i], -limit, limit);
        }
        apply(functions_[function], data, count);
    }

    /// The new state of sequence b from its gates, which lack only the activations (but for the
    /// GRU's first two).
    void update(C* gates, std::int64_t b) {
        C* h = h_.data() + b * hidden_;
        switch (op_.kind) {
            case CellKind::Rnn:
                activate(0, gates, hidden_);
                std::copy_n(gates, hidden_, h);
                break;
            case CellKind::Gru: {
                C* fresh = gates + 2 * hidden_;
                activate(1, fresh, hidden_);
                for (std::int64_t j = 0; j < hidden_; ++j)
                    h[j] = (1 - gates[j]) * fresh[j] + gates[j] * h[j];
                break;
            }
            case CellKind::Lstm: update_lstm(gates, h, c_.data() + b * hidden_); break;
        }
    }

    void update_lstm(C* in, C* h, C* c) {
        C* out = in + hidden_;
        C* forget = in + 2 * hidden_;
        C* fresh = in + 3 * hidden_;
        const C* p = peephole_ ? peephole_->data<C>() : nullptr;
        if (p)
            for (std::int64_t j = 0; j < hidden_; ++j) {
                in[j] += p[j] * c[j];
                forget[j] += p[2 * hidden_ + j] * c[j];
            }
        activate(0, in, hidden_);
        if (op_.input_forget)
            for (std::int64_t j = 0; j < hidden_; ++j) forget[j] = 1 - in[j];
        else
            activate(0, forget, hidden_);
        activate(1, fresh, hidden_);
        for (std::int64_t j = 0; j < hidden_; ++j) c[j] = forget[j] * c[j] + in[j] * fresh[j];
        if (p)
            for (std::int64_t j = 0; j < hidden_; ++j) out[j] += p[hidden_ + j] * c[j];
        activate(0, out, hidden_);
        std::copy_n(c, hidden_, h);
        activate(2, h, hidden_);
        for (std::int64_t j = 0; j < hidden_; ++j) h[j] *= out[j];
    }

    Array state(const std::vector<C>& values, std::size_t index) const {
        Array result = ctx_.result(index);
        T* out = result.mutable_data<T>();
        for (std::size_t i = 0; i < values.size(); ++i) out[i] = narrow<T>(values[i]);
        return result;
    }

    const op::Recurrent& op_;
    EvalContext& ctx_;
    Array x_, w_, r_;
    std::optional<Array> bias_, peephole_;
    std::vector<CellFunction> functions_;
    std::vector<C> h_, c_, projected_;
    Ints lengths_;
    std::int64_t steps_ = 0, batch_ = 0, input_ = 0, hidden_ = 0, gates_ = 0;
};

}  // namespace

Arrays eval(const op::Recurrent& op, EvalContext& ctx) {
    return dispatch_float(ctx.result_dtype(), [&]<class T>() { return Cell<T>(op, ctx).run(); });
}

}  // namespace kn::cpu

#include <cstring>

#include "cpu/lanes.h"

namespace kn::cpu {

namespace {

bool read_flag(const Array& flag, const EvalContext& ctx) {
    if (flag.size() != 1)
        ctx.fail("a condition must have one element, not " + std::to_string(flag.size()));
    return *flag.data<bool>();
}

/// A size of a result that no iteration made; 0 if it has a symbol that only an iteration would
/// have bound.
std::int64_t size_or_zero(const Dim& dim, const EvalContext& ctx) {
    try {
        return ctx.eval(dim);
    } catch (const GraphError&) {
        return 0;
    }
}

Array empty_scan(const Type& type, std::size_t index, const EvalContext& ctx) {
    Ints shape{0};
    for (std::size_t axis = 1; axis < type.shape.rank(); ++axis)
        shape.push_back(size_or_zero(type.shape[axis], ctx));
    return ctx.allocate(ctx.result_dtype(index), std::move(shape));
}

/// The slices, one for each iteration, along a new axis 0.
Array stack(const Arrays& slices, const EvalContext& ctx) {
    Ints shape = slices[0].shape();
    shape.insert(shape.begin(), static_cast<std::int64_t>(slices.size()));
    Array result = ctx.allocate(slices[0].dtype(), std::move(shape));
    std::byte* out = result.mutable_bytes();
    for (std::size_t i = 0; i < slices.size(); ++i) {
        if (slices[i].shape() != slices[0].shape())
            ctx.fail("iteration " + std::to_string(i) + " gives " +
                     Shape::of(slices[i].shape()).to_string() + " to stack, iteration 0 gave " +
                     Shape::of(slices[0].shape()).to_string());
        copy_to(slices[i], out + i * slices[i].byte_size(), ctx);
    }
    return result;
}

Array scalar_array(const EvalContext& ctx, DType dtype, std::int64_t value) {
    Array result = ctx.allocate(dtype, {});
    if (dtype == DType::Bool)
        *result.mutable_data<bool>() = value != 0;
    else
        *result.mutable_data<std::int64_t>() = value;
    return result;
}

/// A body may declare a number as a tensor of one element.
Array shaped_like(const Array& scalar, const Graph& body, std::size_t input) {
    return *scalar.reshaped(Ints(body.shape(body.inputs()[input].value).rank(), 1));
}

}  // namespace

Arrays eval(const op::If& op, EvalContext& ctx) {
    const auto& body = read_flag(ctx.operand(op.condition), ctx) ? op.then_body : op.else_body;
    Arrays inputs;
    for (const Value capture : op.captures) inputs.push_back(ctx.operand(capture));
    Arrays results = ctx.run(body, std::move(inputs));
    ctx.bind_results(op.results, results);
    return results;
}

Arrays eval(const op::Loop& op, EvalContext& ctx) {
    const std::size_t carried_count = op.carried.size();
    std::int64_t trips = std::numeric_limits<std::int64_t>::max();
    if (op.trip_count) trips = *ctx.operand(*op.trip_count).data<std::int64_t>();
    bool condition = !op.condition || read_flag(ctx.operand(*op.condition), ctx);
    Arrays carried;
    for (const Value value : op.carried) carried.push_back(ctx.operand(value));
    std::vector<Arrays> scanned(op.results.size() - carried_count);

    for (std::int64_t i = 0; i < trips && condition; ++i) {
        if (i >= ctx.options().max_loop_iterations)
            ctx.fail("the loop goes on after " + std::to_string(i) + " iterations, the limit");
        Arrays inputs{shaped_like(scalar_array(ctx, DType::I64, i), *op.body, 0),
                      shaped_like(scalar_array(ctx, DType::Bool, 1), *op.body, 1)};
        for (Array& value : carried) inputs.push_back(std::move(value));
        for (const Value capture : op.captures) inputs.push_back(ctx.operand(capture));
        Arrays outputs = ctx.run(op.body, std::move(inputs));
        condition = read_flag(outputs[0], ctx);
        for (std::size_t k = 0; k < op.results.size(); ++k) {
            if (k < carried_count)
                carried[k] = std::move(outputs[1 + k]);
            else
                scanned[k - carried_count].push_back(std::move(outputs[1 + k]));
        }
    }

    Arrays results = std::move(carried);
    for (std::size_t k = 0; k < scanned.size(); ++k) {
        const std::size_t index = carried_count + k;
        results.push_back(scanned[k].empty() ? empty_scan(op.results[index], index, ctx)
                                             : stack(scanned[k], ctx));
    }
    ctx.bind_results(op.results, results);
    return results;
}

}  // namespace kn::cpu

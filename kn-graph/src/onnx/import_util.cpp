#include "onnx/import_util.h"

namespace kn::onnx {

std::vector<Dim> read_dims(Var x, const std::string& prefix, std::int64_t minimum) {
    Graph& graph = *x.graph;
    if (x.rank() > 1 || !x.shape().is_static())
        throw GraphError(fmt::format("sizes come as {}, a vector of known length is needed",
                                     x.shape().to_string()));
    std::vector<std::string> symbols;
    std::vector<Dim> dims;
    const std::int64_t count = x.shape().size().value();
    for (std::int64_t i = 0; i < count; ++i) {
        symbols.push_back(graph.fresh_symbol(prefix));
        dims.push_back(Dim::symbol(symbols.back()));
    }
    if (count > 0) (void)graph.add(op::ReadDims{x, std::move(symbols), minimum});
    return dims;
}

std::vector<Dim> numeric_dims(Node& node, std::size_t i, const std::string& prefix) {
    const Var x = node.input(i);
    if (is_int(x.dtype())) return node.input_dims(i);
    if (const auto known = node.known_tensor(i)) {
        const Tensor whole = known->cast(DType::I64);
        const auto values = whole.data<std::int64_t>();
        return {values.begin(), values.end()};
    }
    return read_dims(cast(x, DType::I64), prefix);
}

Var iota_along(Graph& graph, const Dim& size, std::size_t axis, std::size_t rank) {
    return along_axis(iota(graph, size), axis, rank);
}

Var along_axis(Var x, std::size_t axis, std::size_t rank) {
    std::vector<Dim> dims(rank, Dim(1));
    dims[axis] = x.shape().size();
    return reshape(x, Shape(std::move(dims)));
}

}  // namespace kn::onnx

// What an importer sees of one ONNX node: inputs, attributes, the opset; and how it reports
// trouble.
//
//     std::vector<Var> import_celu(Node& node) {
//         const Var x = node.input(0);
//         const double alpha = node.attr_float("alpha", 1.0);
//         const Var bent = alpha * (exp(x / alpha) - 1.0);
//         return {maximum(x, scalar_like(x, 0)) + minimum(bent, scalar_like(x, 0))};
//     }
//
// A row in the table of its family (import_*.cpp) makes it known. Whatever input or attribute the
// importer did not ask for and the node has, is reported as unsupported; so ask for everything the
// schema of that opset version defines, and check the value where only one is supported.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <kn/graph/builder.h>

namespace kn::onnx {

class Node {
  public:
    virtual ~Node() = default;

    /// The graph under construction.
    virtual Graph& graph() = 0;
    virtual const std::string& op_type() const = 0;
    /// The since-version of the table row that was chosen is not enough where one importer serves
    /// several: the model's opset for the node's domain.
    virtual std::int64_t opset() const = 0;

    // ---- inputs ----
    virtual std::size_t input_count() const = 0;  ///< listed ones, absent (empty-named) included
    virtual bool has_input(std::size_t i) const = 0;
    virtual Var input(std::size_t i) = 0;  ///< broken file if absent
    virtual std::optional<Var> optional_input(std::size_t i) = 0;
    virtual std::vector<Var> all_inputs() = 0;  ///< variadic; absent ones are an error

    /// The elements, if they are known at load time (constant, or folded to one).
    virtual std::optional<Tensor> known_tensor(std::size_t i) = 0;
    /// The elements of an integer tensor of rank 0 or 1 as Dims. If only the data decide them, they
    /// are read at run time: fresh symbols, each at least `minimum` (the tensor's own shape must be
    /// static then, else unsupported). Use it for sizes.
    virtual std::vector<Dim> input_dims(std::size_t i, std::int64_t minimum = 0) = 0;
    /// The same without fresh symbols: nothing if an element is unknown.
    virtual std::optional<std::vector<Dim>> known_dims(std::size_t i) = 0;
    /// The elements of an integer tensor of rank 0 or 1, which must be numbers at load time
    /// (axes, counts): otherwise a graph input that decides them is named in the error, and the
    /// caller may load again with that input's value fixed (LoadOptions::values).
    virtual Ints input_ints(std::size_t i) = 0;
    /// A float scalar or vector that must be known at load time; likewise.
    virtual std::vector<double> input_floats(std::size_t i) = 0;

    // ---- attributes ----
    virtual bool has_attr(const std::string& name) = 0;          ///< does not count as reading it
    virtual std::int64_t attr_int(const std::string& name) = 0;  ///< required
    virtual std::int64_t attr_int(const std::string& name, std::int64_t otherwise) = 0;
    virtual double attr_float(const std::string& name, double otherwise) = 0;
    virtual std::string attr_string(const std::string& name, const std::string& otherwise) = 0;
    virtual std::optional<Ints> attr_ints(const std::string& name) = 0;
    virtual std::optional<std::vector<double>> attr_floats(const std::string& name) = 0;
    virtual std::optional<std::vector<std::string>> attr_strings(const std::string& name) = 0;
    virtual std::optional<Tensor> attr_tensor(const std::string& name) = 0;
    /// An ONNX dtype number as a DType; unsupported if kn has none.
    virtual std::optional<DType> attr_dtype(const std::string& name) = 0;
    /// Marks an attribute as read that does not matter for inference.
    virtual void ignore_attr(const std::string& name) = 0;

    // ---- outputs ----
    virtual std::size_t output_count() const = 0;        ///< listed ones
    virtual bool wants_output(std::size_t i) const = 0;  ///< listed and not empty-named

    // ---- trouble: both throw; the message gets node name and op type by itself ----
    [[noreturn]] virtual void broken(const std::string& reason) = 0;
    [[noreturn]] virtual void unsupported(const std::string& reason) = 0;
};

/// Gives the node's outputs in order; trailing unwanted ones may be left out, an unwanted one
/// before a wanted one may be any Var.
using Import = std::vector<Var> (*)(Node& node);

/// One row: an importer for `op` in `domain` ("" is ai.onnx) from opset version `since` on, until a
/// newer row of that op. Versions before the first row are unsupported.
struct ImportRow {
    const char* domain;
    const char* op;
    int since;
    Import import;
};

// One table a family, each defined in import_<family>.cpp.
std::vector<ImportRow> elementwise_rows();
std::vector<ImportRow> activation_rows();
std::vector<ImportRow> shape_rows();
std::vector<ImportRow> index_rows();
std::vector<ImportRow> reduction_rows();
std::vector<ImportRow> linear_rows();
std::vector<ImportRow> conv_rows();
std::vector<ImportRow> pool_rows();
std::vector<ImportRow> norm_rows();
std::vector<ImportRow> resize_rows();
std::vector<ImportRow> recurrent_rows();
std::vector<ImportRow> attention_rows();
std::vector<ImportRow> quantize_rows();
std::vector<ImportRow> signal_rows();
std::vector<ImportRow> contrib_rows();

}  // namespace kn::onnx

// What a product on the tensor cores does with its sums: the functions that its kernel's text
// calls.
#pragma once

#include <optional>
#include <string>

#include "codegen/emit.h"
#include "codegen/tensor_product.h"
#include "planner/group.h"

namespace kn::cuda {

/// y[m, n] = sum over k of x[m, k] w[n, k]; a convolution's m are its output positions.
struct ProductSizes {
    std::int64_t m = 0, n = 0, k = 0;
};
ProductSizes product_sizes(const Graph& graph, Value product);

/// Those of a convolution with two spatial axes whose result is `y`; where its image lies is left
/// open.
ProductWindows windows_of(const Graph& graph, const op::Conv& conv, Value y);

/// Whether all pixels of x [N, C, H, W] are one step apart, so that they are rows of a matrix.
bool is_dense_image(const TensorRef& x);

/// Elements from row to row, where [m, n] or [N, C, H, W] are rows of n or C neighbours, equally
/// far apart, that the copy engine can take.
std::optional<std::int64_t> row_stride_of(const Plan& plan, const TensorRef& tensor);

class ProductEpilogue {
  public:
    ProductEpilogue(Placement& placement, const Group& group);

    /// TensorProduct::halves, from the shapes of the group's anchor and of its result.
    int halves() const { return halves_; }
    /// Neighbouring columns that a thread takes at once, where results are not staged.
    int lanes() const { return lanes_; }
    /// The kernel's body around kn_product(factors, ...), behind `code`: what may be fetched in
    /// advance, and store.
    void write_direct(KernelDraft& draft, const std::string& factors, Code code = {},
                      const std::optional<Value>& also = {});
    /// The same with statistics of what is stored (TensorProduct::norm_rows), as `parts`.
    void write_direct_with(KernelDraft& draft, const std::string& factors, const TensorRef& parts,
                           const std::optional<Value>& also);

    /// Of what the epilogue reads, a tensor like y; and whether y, and that, can go through shared
    /// memory by the copy engine (ProductTiles::staged).
    std::optional<Value> before() const;
    bool can_be_staged() const;
    /// Where staged results go: y, or a tensor from which they have to be copied there.
    TensorRef staged_result();
    /// A function of two neighbours of the product, which become two of y, in the place of those of
    /// `before`: what kn_product calls where results are staged. `also`: another product that is in
    /// the same sums, to which it is added.
    void write_finish(Code& code, KernelOperands& operands, const std::string& name,
                      const std::optional<Value>& before, const std::optional<Value>& also = {});
    int y_bytes() const { return static_cast<int>(size_of(graph_.dtype(end_))); }
    /// The names of the maps of y, which is staged_result(), and of before().
    std::string staged_maps(KernelDraft& draft, const TensorProduct& product, const TensorRef& y);
    /// The body for that: two neighbours of the product become two of y, in the place of those of
    /// before().
    void write_staged(KernelDraft& draft, const std::string& factors, const TensorProduct& product,
                      const TensorRef& y, const std::optional<Value>& also = {});

  private:
    void write_store(KernelDraft& draft, const std::string& factors, Code code,
                     const std::string& parts, const std::optional<Value>& also);
    bool is_like_result(const TensorRef& tensor) const;
    std::optional<std::string> place_in_rows(Emitter& emitter, const Emitter::Load& load) const;
    Index index_of(Emitter& emitter, int lanes) const;
    std::string sums_of(Emitter& emitter, const Index& result, const Index& at) const;

    Placement& placement_;
    const Group& group_;
    const Graph& graph_;
    bool conv_;
    ProductSizes sizes_;
    Value end_;
    std::int64_t columns_;  ///< of the result
    int halves_;
    int lanes_ = 1;
};

}  // namespace kn::cuda

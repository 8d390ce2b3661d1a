// Every rule: its function's name, its description. Each function is in a file of this folder; a
// missing one is a link error.
#pragma once

#include "optimizer/rewriter.h"

namespace kn::optimizer {

// clang-format off
// X(name, description)
#define KN_OPTIMIZER_RULES(X) \
    X(if_constant,          "If whose condition is a constant: the branch itself") \
    X(known_sizes,          "integers that follow from sizes: the sizes themselves") \
    X(no_op,                "views and casts that change nothing vanish") \
    X(reshape_chain, \
      "Reshape of Reshape, Permute that only moves axes of size 1: one Reshape") \
    X(permute_chain,        "Permute of Permute: one Permute") \
    X(broadcast_chain,      "Broadcast comes after Broadcast, Reshape, Permute, Slice") \
    X(slice_chain,          "Slice of Slice: one Slice") \
    X(cast_chain,           "Cast of an exact Cast: one Cast") \
    X(elementwise_before_broadcast, \
      "elementwise operations act before their operands are broadcast") \
    X(constant_folding,     "operations on constants are computed once") \
    X(view_sinking, \
      "Reshape and Permute move behind elementwise operations and slices, where they meet others") \
    X(reduce_before_permute, "Reduce of Permute: Permute of Reduce") \
    X(concat_parts, \
      "Concat of Concat is flat; Slice of Concat takes from the part; neighbouring slices join") \
    X(gather_to_slice,      "Gather of one fixed position: a Slice") \
    X(neutral_elements,     "x*1, x/1, x-0, --x, x and true, select with a known condition: x") \
    X(strength_reduction, \
      "x^2: square, x^0.5: sqrt, 1/sqrt: rsqrt, x/4: x*0.25, a*(1/b): a/b, a + -b: a - b") \
    X(clamp_fusion,         "chains of min and max with constants: one max and one min") \
    X(affine_merge,         "(x*a)*b: x*(a*b), (x+a)+b: x+(a+b) for constants a, b") \
    X(sigmoid_family, \
      "1/(1+exp(-x)): sigmoid, x*sigmoid(x): silu, log(1+exp(x)): softplus, " \
      "x*tanh(softplus(x)): mish") \
    X(gelu_forms,           "x/2*(1+erf(x/sqrt 2)): gelu, its tanh form: gelu_tanh") \
    X(layer_norm,           "(x-mean)/sqrt(mean((x-mean)^2)+eps): Norm") \
    X(rms_norm,             "x/sqrt(mean(x^2)+eps): Norm") \
    X(unit_scale, \
      "a Norm scaled by ones and shifted by zeros: the Norm " \
      "(group norms written as instance norms)") \
    X(softmax_form,         "exp(x-max)/sum(exp(x-max)): Softmax") \
    X(half_casts, \
      "Norm and Softmax in f32 between casts from and to a half type: in that half type") \
    X(attention,            "softmax(scale*q*k^T + mask)*v: Attention") \
    X(attention_scale,      "factors of q and k move into Attention's scale") \
    X(attention_heads,      "k and v repeated for groups of heads: Attention reads each once") \
    X(attention_causal, \
      "a constant mask that hides only what comes later, or nothing: causal Attention, no mask") \
    X(affine_into_weights, \
      "scale and bias per channel behind Conv, ConvTranspose, MatMul: into the weights")
// clang-format on

#define X(name, description) std::optional<Value> name(Rewriter& r, Value v);
KN_OPTIMIZER_RULES(X)
#undef X

}  // namespace kn::optimizer

// A graph in another arithmetic: the same network with its floats in another type.
//
//     kn::Graph reference = kn::to_precision(graph, kn::DType::F64);   // everything in double
//     kn::Graph half = kn::to_precision(graph, kn::DType::F16);        // as a GPU computes it
//
// F64: every float is a double; inputs are widened at the edge, outputs stay double, so that their
// digits can be compared.
//
// F16, BF16: float32 values become halves, with casts at the edges, so that inputs and outputs keep
// their types. Matrix products, convolutions, attention and recurrent layers take and give halves
// (they accumulate in float32, as ops.h says). What loses too much or overflows stays float32:
// sums, products and running sums, exponentials, logarithms, powers, reciprocals and square roots
// with what feeds on them alone; angles and positions, that is, floats computed from integers and
// constants only; bodies of If and Loop. A model that is half already keeps its types, and so do
// doubles.
#pragma once

#include <kn/graph/graph.h>

namespace kn {

/// `dtype`: F64, F16 or BF16; F32 gives a copy. Apply it after `optimize`, which recognises the
/// patterns whose inside is safe in float32. Throws GraphError for other types.
KN_API Graph to_precision(const Graph& graph, DType dtype);

/// What a GPU computes in TF32, to be run on the CPU: float32 operands of MatMul, Conv,
/// ConvTranspose and (decomposed) Attention are rounded to TF32's 10 bits of mantissa, to the
/// nearest; sums and everything else are float32. Recurrent layers and bodies of If and Loop stay
/// exact.
KN_API Graph to_tf32(const Graph& graph);

}  // namespace kn

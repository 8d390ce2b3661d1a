// Scaled dot-product attention and rotary position embedding as the importers of ai.onnx and
// com.microsoft need them.
#pragma once

#include "onnx/node.h"

namespace kn::onnx {

/// What of the scores is asked for besides the result.
enum class ScoresOutput { None, Raw, Capped, Masked, Softmax };

struct AttentionCall {
    Var q;                            ///< [B, H, S, D]
    Var k;                            ///< [B, G, T, D], H a multiple of G
    Var v;                            ///< [B, G, T, E]
    std::optional<Var> allowed = {};  ///< bool, broadcasts to [B, H, S, T]: which keys a query sees
    std::optional<Var> bias = {};     ///< of q's dtype, broadcasts likewise: added to the scores
    CausalMask causal = CausalMask::None;
    double scale = 1;
    double softcap = 0;  ///< scores become softcap * tanh(scores / softcap); 0: they do not
    std::optional<DType> softmax_dtype = {};
    ScoresOutput scores = ScoresOutput::None;
};

struct AttentionOutput {
    Var y;                      ///< [B, H, S, E]
    std::optional<Var> scores;  ///< [B, H, S, T]
};

/// A row that may see nothing becomes 0. Gives op::Attention where that can express it.
AttentionOutput build_attention(const AttentionCall& call);

/// The scale attribute, or 1 / sqrt(head size).
double read_scale(Node& node, Var q, const char* name = "scale");

/// Both masks must hold; either may be absent.
std::optional<Var> both(std::optional<Var> a, std::optional<Var> b);

/// Positions 0.. of queries [S, 1] and keys [1, T] as i64.
Var query_positions(Graph& graph, const Dim& length);
Var key_positions(Graph& graph, const Dim& length);

/// [B, S, heads * D] <-> [B, heads, S, D]
Var split_heads(Var x, std::int64_t heads);
Var merge_heads(Var x);

/// Rotates pairs of the first `2 * cos.shape[-1]` elements of x's last axis; cos and sin broadcast
/// to x's leading axes. interleaved: pairs (2i, 2i+1), else (i, i + half).
Var rotate(Var x, Var cos, Var sin, bool interleaved);

}  // namespace kn::onnx

// The attributes of operations that are one of a few choices; ops.h says what each does.
#pragma once

#include <cstdint>

namespace kn {

enum class ReduceOp : std::uint8_t { Sum, Mean, Prod, Max, Min };
enum class PadMode : std::uint8_t { Constant, Reflect, Edge, Wrap };
enum class ScatterReduction : std::uint8_t { None, Add, Mul, Max, Min };
enum class NormKind : std::uint8_t { MeanVariance, MeanSquare };
enum class CausalMask : std::uint8_t { None, TopLeft, BottomRight };
enum class ResizeMode : std::uint8_t { Nearest, Linear, Cubic };
enum class ResizeCoordinates : std::uint8_t {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    TfCropAndResize,
};
enum class NearestMode : std::uint8_t { RoundPreferFloor, RoundPreferCeil, Floor, Ceil };
enum class GridPadding : std::uint8_t { Zeros, Border, Reflection };
enum class CellKind : std::uint8_t { Lstm, Gru, Rnn };
enum class CellActivation : std::uint8_t {
    Sigmoid,
    Tanh,
    Relu,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
};

}  // namespace kn

// Convolutions and attention by our own kernels, against the CPU.
#include <cmath>
#include <limits>

#include <kn/graph/precision.h>

#include "lower/special.h"
#include "special_check.h"

namespace kn::cuda::test {
namespace {

using kn::test::all_floats;
using kn::test::all_strides;
using kn::test::tolerance;

TEST(DirectConv, GroupsStridesAndTypes) {
    for (const DType dtype : {DType::F32, DType::F64, DType::F16, DType::I32, DType::U8})
        for (const std::int64_t groups : {1, 2}) {
            SCOPED_TRACE(std::string(name_of(dtype)) + " groups " + std::to_string(groups));
            Case c;
            const Var x = c.operand(random(dtype, {2, 4, 7, 6}, 1, -3, 4), Strides::Transposed);
            const Var w = c.input(random(dtype, {6, 4 / groups, 3, 2}, 2, -3, 4));
            const Var y = conv(
                x, w, {},
                {.strides = {2, 1}, .dilations = {1, 2}, .pads = {1, 0, 2, 1}, .groups = groups});
            expect_as_cpu(c, {y}, "conv_direct", tolerance(dtype));
        }
}

TEST(DirectConv, OneAndThreeAxes) {
    Case one;
    const Var x1 = one.input(random(DType::F32, {2, 3, 20}, 3));
    const Var w1 = one.input(random(DType::F32, {17, 3, 5}, 4));
    expect_as_cpu(one, {conv(x1, w1, {}, {.strides = {3}, .pads = {2, 2}})}, "conv_direct", 4e-6);
    Case three;
    const Var x3 = three.input(random(DType::F64, {1, 2, 4, 5, 6}, 5));
    const Var w3 = three.input(random(DType::F64, {3, 2, 2, 3, 3}, 6));
    expect_as_cpu(three, {conv(x3, w3, {}, {.pads = {0, 1, 1, 1, 1, 1}})}, "conv_direct", 1e-13);
}

TEST(DirectConv, TransposeGroupsAndPads) {
    for (const DType dtype : {DType::F32, DType::F64, DType::BF16})
        for (const std::int64_t groups : {1, 3}) {
            SCOPED_TRACE(std::string(name_of(dtype)) + " groups " + std::to_string(groups));
            Case c;
            const Var x = c.input(random(dtype, {2, 6, 4, 5}, 7));
            const Var w = c.input(random(dtype, {6, 9 / groups, 3, 4}, 8));
            const Var y = conv_transpose(x, w, {},
                                         {.strides = {2, 3},
                                          .dilations = {2, 1},
                                          .pads = {1, 0, 0, 2},
                                          .groups = groups,
                                          .output_padding = {1, 0}});
            expect_as_cpu(c, {y}, "conv_transpose_direct", tolerance(dtype));
        }
}

TEST(DirectConv, EpilogueInDouble) {
    Case c;
    const Var x = c.input(random(DType::F64, {1, 4, 5, 5}, 9));
    const Var w = c.graph.constant(random(DType::F64, {8, 4, 3, 3}, 10));
    const Var b = c.graph.constant(random(DType::F64, {8}, 11));
    const Var y = silu(conv(x, w, b, {.pads = {1, 1, 1, 1}}));
    expect_as_cpu(c, {y}, "conv_direct", 1e-13);
}

struct Depthwise {
    std::int64_t channels, size, stride, dilation, pad;
};

TEST(DepthwiseConv, BothLayoutsWithWhatFollows) {
    unsigned seed = 60;
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16})
        for (const bool channels_last : {true, false})
            for (const Depthwise& d :
                 {Depthwise{16, 3, 1, 1, 1}, Depthwise{12, 5, 2, 1, 2}, Depthwise{3, 3, 1, 2, 1}}) {
                SCOPED_TRACE(std::string(name_of(dtype)) + " size " + std::to_string(d.size) +
                             (channels_last ? " channels last" : ""));
                Case c;
                const Ints nhwc = {2, 11, 10, d.channels};
                const Ints nchw = {2, d.channels, 11, 10};
                Var x = c.input(random(dtype, channels_last ? nhwc : nchw, ++seed));
                if (channels_last) x = permute(x, {0, 3, 1, 2});
                const Var w =
                    c.graph.constant(random(dtype, {d.channels, 1, d.size, d.size}, ++seed));
                const Var b = c.graph.constant(random(dtype, {d.channels}, ++seed));
                Var y = silu(conv(x, w, b,
                                  {.strides = {d.stride, d.stride},
                                   .dilations = {d.dilation, d.dilation},
                                   .pads = {d.pad, d.pad, d.pad, d.pad},
                                   .groups = d.channels}));
                if (d.stride == 1 && d.dilation == 1) y = y + x;
                if (channels_last) y = permute(y, {0, 2, 3, 1});
                const Plan made = expect_as_cpu(c, {y}, "conv_depthwise", tolerance(dtype));
                EXPECT_EQ(made.steps.size(), 1u) << made.to_string();
                expect_compiles(made);
            }
}

TEST(DepthwiseConv, OneAxisAndWeightsThatAreNotConstant) {
    Case one;
    const Var x = one.input(random(DType::F32, {2, 6, 30}, 80));
    const Var w = one.input(random(DType::F32, {6, 1, 7}, 81));
    expect_as_cpu(one, {conv(x, w, {}, {.pads = {3, 3}, .groups = 6})}, "conv_depthwise", 4e-6);
    Case three;
    const Var x3 = three.input(random(DType::F32, {1, 4, 5, 6, 7}, 82));
    const Var w3 = three.input(random(DType::F32, {4, 1, 2, 3, 2}, 83));
    expect_as_cpu(three, {conv(x3, w3, {}, {.strides = {1, 2, 1}, .groups = 4})}, "conv_depthwise",
                  4e-6);
}

TEST(DirectAttention, WidthsMasksAndGroups) {
    unsigned seed = 20;
    for (const DType dtype : all_floats)
        for (const std::int64_t width : {8, 40, 72, 130})
            for (const kn::CausalMask causal :
                 {kn::CausalMask::None, kn::CausalMask::TopLeft, kn::CausalMask::BottomRight}) {
                if (dtype != DType::F32 && (width != 72 || causal == kn::CausalMask::TopLeft))
                    continue;
                SCOPED_TRACE(std::string(name_of(dtype)) + " width " + std::to_string(width) +
                             " causal " + std::to_string(static_cast<int>(causal)));
                Case c;
                const Var q =
                    c.operand(random(dtype, {2, 4, 19, width}, ++seed), Strides::Transposed);
                const Var k = c.input(random(dtype, {2, 2, 75, width}, ++seed));
                const Var v =
                    c.operand(random(dtype, {2, 2, 75, width + 3}, ++seed), Strides::Sliced);
                expect_as_cpu(c, {attention(q, k, v, {}, 0, causal)}, "attention",
                              tolerance(dtype));
            }
}

TEST(DirectAttention, Masks) {
    for (const bool added : {true, false})
        for (const Ints& shape : {Ints{1, 1, 1, 70}, Ints{2, 1, 70, 70}, Ints{1, 3, 70, 70}}) {
            SCOPED_TRACE(added ? "added" : "bool");
            Case c;
            const Var q = c.input(random(DType::F32, {2, 3, 70, 16}, 30));
            const Var k = c.input(random(DType::F32, {2, 3, 70, 16}, 31));
            const Var v = c.input(random(DType::F32, {2, 3, 70, 16}, 32));
            const Var mask = added ? c.input(random(DType::F32, shape, 33, -3, 3))
                                   : c.input(random(DType::I32, shape, 34, 0, 2).cast(DType::Bool));
            expect_as_cpu(c, {attention(q, k, v, mask)}, "attention", 4e-6);
        }
}

double rms_error(const Tensor& got, const Tensor& exact) {
    const Tensor wide = got.cast(DType::F64);
    double square = 0;
    for (std::int64_t i = 0; i < exact.size(); ++i) {
        const double error = wide.data<double>()[i] - exact.data<double>()[i];
        square += error * error;
    }
    return std::sqrt(square / static_cast<double>(exact.size()));
}

TEST(DirectAttention, ProductsAreAsExactAsFma) {
    for (const std::int64_t width : {40, 64}) {
        Graph graph;
        std::vector<Tensor> inputs;
        std::vector<Var> parts;
        for (unsigned i = 0; i < 3; ++i) {
            inputs.push_back(random(DType::F32, {1, 2, 130, width}, 50 + i, -3, 3));
            parts.push_back(
                graph.input("x" + std::to_string(i), DType::F32, Shape::of(inputs.back().shape())));
        }
        graph.output("y", attention(parts[0], parts[1], parts[2]));
        const Tensor exact = cpu::run(to_precision(graph, DType::F64), inputs).at(0);
        const auto error_of = [&](bool by_products) {
            forced_attention_products() = by_products;
            const Plan made = plan_without_libraries(graph);
            forced_attention_products().reset();
            return rms_error(run_plan_on_host(made, inputs).at(0), exact);
        };
        EXPECT_LT(error_of(true), 2 * error_of(false)) << "width " << width;
    }
}

TEST(DirectAttention, FewQueriesSplitTheKeys) {
    for (const DType dtype : {DType::F32, DType::BF16})
        for (const std::int64_t queries : {1, 5}) {
            SCOPED_TRACE(std::string(name_of(dtype)) + " queries " + std::to_string(queries));
            Case c;
            const Var q = c.input(random(dtype, {1, 4, queries, 24}, 38));
            const Var k = c.input(random(dtype, {1, 2, 1000, 24}, 39));
            const Var v = c.input(random(dtype, {1, 2, 1000, 20}, 40));
            const Var mask =
                c.input(random(DType::I32, {1, 1, 1, 1000}, 41, 0, 2).cast(DType::Bool));
            const Var y = attention(q, k, v, mask, 0, kn::CausalMask::BottomRight);
            // TopLeft: all but the first part see nothing.
            const Var z = attention(q, k, v, {}, 0, kn::CausalMask::TopLeft);
            const Plan made = expect_as_cpu(c, {y, z}, "attention_merge", tolerance(dtype));
            expect_compiles(made);
        }
}

TEST(DirectAttention, RowsThatSeeNothingAreNan) {
    Case c;
    const Var q = c.input(random(DType::F32, {1, 1, 6, 8}, 35));
    const Var k = c.input(random(DType::F32, {1, 1, 4, 8}, 36));
    const Var v = c.input(random(DType::F32, {1, 1, 4, 8}, 37));
    Tensor mask = Tensor::zeros(DType::F32, {1, 1, 6, 4});
    for (int t = 0; t < 4; ++t)
        mask.mutable_data<float>()[12 + t] = -std::numeric_limits<float>::infinity();
    // BottomRight leaves nothing to the first two rows, the mask nothing to the fourth.
    const Var y = attention(q, k, v, c.input(mask), 0, kn::CausalMask::BottomRight);
    expect_as_cpu(c, {y}, "attention", 4e-6);
}

}  // namespace
}  // namespace kn::cuda::test

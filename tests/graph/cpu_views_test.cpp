// Views, joins and padding, also views of views; leaves; what run-time sizes may not be.
#include <fmt/core.h>

#include "cpu_support.h"

namespace kn::test {
namespace {

TEST(CpuViews, ReshapeOfEveryLayout) {
    const Tensor x = random(DType::I32, {4, 6, 10}, 1, 0, 1000);
    for (Strides strides : all_strides)
        for (const Ints& shape : std::vector<Ints>{{240},
                                                   {24, 10},
                                                   {4, 60},
                                                   {2, 2, 3, 2, 5, 2},
                                                   {4, 1, 6, 10, 1},
                                                   {10, 24},
                                                   {8, 30}}) {
            Case c;
            const Tensor y = c.run(reshape(c.operand(x, strides), Shape::of(shape)));
            ASSERT_EQ(y.shape(), shape);
            for (std::int64_t i = 0; i < x.size(); ++i)
                ASSERT_EQ(y.at(i), x.at(i)) << Shape::of(shape).to_string();
        }
}

TEST(CpuViews, PermutesOfAllSizesOfElement) {
    for (DType dtype : {DType::Bool, DType::I8, DType::F16, DType::F32, DType::F64, DType::I64})
        for (const Ints& perm :
             std::vector<Ints>{{0, 2, 1}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}, {1, 2, 0}})
            for (Strides strides : all_strides) {
                const Tensor x = random(dtype, {5, 19, 34}, 2, 0, 2);
                Case c;
                const Tensor y = c.run(permute(c.operand(x, strides), perm));
                Ints shape;
                for (std::int64_t axis : perm)
                    shape.push_back(x.shape()[static_cast<std::size_t>(axis)]);
                expect_each(y, shape, 0, [&](const Ints& i) {
                    Ints from(3);
                    for (std::size_t a = 0; a < 3; ++a)
                        from[static_cast<std::size_t>(perm[a])] = i[a];
                    return at(x, from);
                });
            }
}

TEST(CpuViews, SlicesWithSteps) {
    const Tensor x = random(DType::F32, {7, 9}, 3);
    Case c;
    const Var v = c.input(x);
    const Value y = c.graph.add(op::Slice{v, {6, 1}, {-2, 3}, {3, 3}});
    expect_each(c.run(c.graph.var(y)), {3, 3}, 0, [&](const Ints& i) {
        return at(x, {6 - 2 * i[0], 1 + 3 * i[1]});
    });
}

TEST(CpuViews, SlicesOutsideAreRefused) {
    Graph g;
    const Var x = g.input("x", DType::F32, {Dim::symbol("n")});
    g.output("y", slice(x, 0, 2, 4));
    EXPECT_THROW(cpu::run(g, {Tensor::zeros(DType::F32, {3})}), GraphError);
    EXPECT_EQ(cpu::run(g, {Tensor::zeros(DType::F32, {4})})[0].shape(), Ints{2});
}

TEST(CpuViews, WindowOfFlippedAxis) {
    const Tensor x = random(DType::F32, {3, 12}, 4);
    Case c;
    const Tensor y = c.run(window(c.operand(x, Strides::Flipped), {1, 0}, {4, 2}, {2, 1}, {2, 1}));
    expect_each(y, {2, 3, 4, 2}, 0, [&](const Ints& i) {
        return at(x, {i[0] + i[3], i[1] * 2 + i[2] * 2});
    });
}

TEST(CpuViews, BroadcastOfEveryLayout) {
    const Tensor x = random(DType::F16, {3, 1, 5}, 5);
    for (Strides strides : all_strides) {
        Case c;
        const Tensor y = c.run(broadcast_to(c.operand(x, strides), {2, 3, 4, 5}));
        expect_each(y, {2, 3, 4, 5}, 0, [&](const Ints& i) { return at(x, {i[1], 0, i[3]}); });
    }
}

TEST(CpuConcat, PartsWithStridesAlongEveryAxis) {
    for (std::int64_t axis : {0, 1, 2}) {
        Ints a = {3, 4, 5}, b = a, e = a;
        b[static_cast<std::size_t>(axis)] = 2;
        e[static_cast<std::size_t>(axis)] = 0;
        const Tensor x = random(DType::F32, a, 1), y = random(DType::F32, b, 2);
        for (Strides strides : all_strides) {
            Case c;
            const Tensor z = c.run(concat(
                {c.operand(x, strides), c.input(Tensor(DType::F32, e)), c.operand(y, strides)},
                axis));
            Ints shape = a;
            shape[static_cast<std::size_t>(axis)] += 2;
            expect_each(z, shape, 0, [&](Ints i) {
                auto& position = i[static_cast<std::size_t>(axis)];
                if (position < a[static_cast<std::size_t>(axis)]) return at(x, i);
                position -= a[static_cast<std::size_t>(axis)];
                return at(y, i);
            });
        }
    }
}

TEST(CpuPad, AllModesAndStrides) {
    const Ints before = {2, 0, 3}, after = {1, 4, 2};
    const Tensor x = random(DType::F32, {3, 5, 4}, 1);
    for (PadMode mode : {PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap})
        for (Strides strides : all_strides) {
            SCOPED_TRACE(fmt::format("mode {} strides {}", static_cast<int>(mode),
                                     static_cast<int>(strides)));
            Case c;
            const Var v = c.operand(x, strides);
            const std::vector<Dim> low(before.begin(), before.end()),
                high(after.begin(), after.end());
            const Tensor y =
                c.run(mode == PadMode::Constant ? pad(v, low, high, 7.5) : pad(v, low, high, mode));
            expect_each(y, {6, 9, 9}, 0, [&](const Ints& i) {
                Ints from = i;
                for (std::size_t a = 0; a < 3; ++a) {
                    const std::int64_t n = x.shape()[a];
                    std::int64_t& p = from[a];
                    p -= before[a];
                    if (p >= 0 && p < n) continue;
                    if (mode == PadMode::Constant) return 7.5;
                    if (mode == PadMode::Edge) p = p < 0 ? 0 : n - 1;
                    if (mode == PadMode::Reflect) p = p < 0 ? -p : 2 * n - 2 - p;
                    if (mode == PadMode::Wrap) p = (p + n) % n;
                }
                return at(x, from);
            });
        }
}

TEST(CpuPad, WrapRepeatsAndHalvesKeepTheirBits) {
    Case wrap;
    const Tensor y =
        wrap.run(pad(wrap.input(random(DType::I8, {3}, 1, -9, 9)), {7}, {8}, PadMode::Wrap));
    for (std::int64_t i = 0; i + 3 < 18; ++i) EXPECT_EQ(y.at(i), y.at(i + 3));
    Case half_pad;
    const Tensor z =
        half_pad.run(pad(half_pad.input(random(DType::BF16, {2, 2}, 1)), {0, 1}, {0, 0}, 1.5));
    EXPECT_EQ(z.at(0), 1.5);
}

TEST(CpuLeaves, IotaShapeValuesAndBitCasts) {
    Graph g;
    const Dim n = Dim::symbol("n");
    (void)g.input("x", DType::F32, {n});
    g.output("iota", iota(g, n + 1));
    g.output("shape", shape_value(g, {n, 2 * n + 1}));
    g.output("bits", bit_cast(g.find_input("x") ? g.var(*g.find_input("x")) : Var{}, DType::I32));
    const auto y = cpu::run(g, {Tensor::from_span<float>({3}, std::vector<float>{1, -2, 0})});
    expect_each(y[0], {4}, 0, [](const Ints& i) { return static_cast<double>(i[0]); });
    expect_each(y[1], {2}, 0, [](const Ints& i) { return i[0] == 0 ? 3.0 : 7.0; });
    EXPECT_EQ(y[2].int_at(0), 0x3f800000);
}

}  // namespace
}  // namespace kn::test

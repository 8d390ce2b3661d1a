// Errors, element types, shapes and tensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include <kn/graph/error.h>
#include <kn/graph/random.h>
#include <kn/graph/scalar_ops.h>
#include <kn/graph/tensor.h>

namespace kn {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// The value of a binary16 pattern from its definition.
double decode_half(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const int fraction = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign *
           (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
}

std::string message_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const GraphError& error) {
        return error.what();
    }
    return "no GraphError";
}

TEST(Printable, EscapesWhatATerminalWouldObey) {
    EXPECT_EQ(printable("a\nb\x1b[0m\x7f"), "a\\x0Ab\\x1B[0m\\x7F");
    EXPECT_EQ(printable("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82"),
              "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");
    EXPECT_EQ(printable("\xc3"), "\\xC3") << "cut short";
    EXPECT_EQ(printable("\xc0\xaf"), "\\xC0\\xAF") << "overlong";
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xED\\xA0\\x80") << "surrogate";
    EXPECT_EQ(printable("\xc2\x9b"), "\\xC2\\x9B") << "C1 control character";
    EXPECT_EQ(printable(std::string(1000, 'x')), std::string(200, 'x') + "...");
    EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
}

TEST(Internal, CheckNamesPlaceAndCondition) {
    try {
        KN_CHECK(1 == 2, "detail");
        FAIL() << "nothing was thrown";
    } catch (const InternalError& error) {
        EXPECT_NE(std::string(error.what()).find("tensor_test.cpp"), std::string::npos)
            << error.what();
        EXPECT_NE(std::string(error.what()).find("1 == 2"), std::string::npos) << error.what();
    }
}

TEST(DType, NamesAndSizes) {
    EXPECT_EQ(name_of(DType::BF16), "bf16");
    EXPECT_EQ(dtype_from_name("u16"), DType::U16);
    EXPECT_EQ(dtype_from_name("f8"), std::nullopt);
    EXPECT_EQ(size_of(DType::Bool), 1u);
    EXPECT_EQ(size_of(DType::F64), 8u);
    EXPECT_EQ(dtype_of<half>(), DType::F16);
}

TEST(DType, EveryHalfSurvivesTheRoundTrip) {
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        const half h{static_cast<std::uint16_t>(bits)};
        const float x = to_float(h);
        if (std::isnan(decode_half(h.bits))) {
            ASSERT_TRUE(std::isnan(x) && std::isnan(to_float(to_half(x)))) << bits;
        } else {
            ASSERT_EQ(x, decode_half(h.bits)) << bits;
            ASSERT_EQ(to_half(x).bits, bits);
        }
    }
}

TEST(DType, HalfRoundsToNearestEven) {
    for (unsigned bits = 0; bits < 0x7bff; ++bits) {
        const double low = decode_half(static_cast<std::uint16_t>(bits));
        const double high = decode_half(static_cast<std::uint16_t>(bits + 1));
        const auto middle = static_cast<float>((low + high) / 2);  // exact
        ASSERT_EQ(to_half(middle).bits, bits + (bits & 1)) << bits;
        ASSERT_EQ(to_half(std::nextafter(middle, 0.f)).bits, bits) << bits;
        ASSERT_EQ(to_half(std::nextafter(middle, inf)).bits, bits + 1) << bits;
    }
    EXPECT_EQ(to_half(65520.f).bits, 0x7c00) << "overflow is infinity";
    EXPECT_EQ(to_half(65519.f).bits, 0x7bff);
}

TEST(DType, Bfloat16RoundsToNearestEvenAndKeepsNaN) {
    EXPECT_EQ(to_bfloat16(1.0f).bits, 0x3f80);
    EXPECT_EQ(to_bfloat16(1.00390625f).bits, 0x3f80) << "tie to even, down";
    EXPECT_EQ(to_bfloat16(1.01171875f).bits, 0x3f82) << "tie to even, up";
    EXPECT_EQ(to_bfloat16(inf).bits, 0x7f80);
    EXPECT_TRUE(std::isnan(to_float(to_bfloat16(nan))));
    EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))))
        << "payload in the low half";
    EXPECT_EQ(to_float(bfloat16{0xbf80}), -1.0f);
}

TEST(Shape, TextSizesAndAxes) {
    const Shape shape = {2, 3, 4};
    EXPECT_EQ(shape.to_string(), "[2, 3, 4]");
    EXPECT_EQ(shape.size(), Dim(24));
    EXPECT_EQ(Shape{}.size(), Dim(1));
    EXPECT_EQ(shape.without(Ints{1}), (Shape{2, 4}));
    EXPECT_EQ(shape.slice(1, 3), (Shape{3, 4}));
    EXPECT_EQ(normalize_axis(-1, 3), 2u);
    EXPECT_EQ(message_of([] { (void)normalize_axis(3, 3, "softmax axis"); }),
              "softmax axis 3 is out of range for rank 3");
    EXPECT_EQ((Shape{std::int64_t{1} << 62, 8, 0}).size(), Dim(0)) << "a zero beats an overflow";
    EXPECT_THROW((void)checked_size(Ints{std::int64_t{1} << 62, 2}), GraphError);
    EXPECT_THROW((void)checked_size(Ints{3, -1}), GraphError);
    EXPECT_EQ(checked_size(Ints{std::int64_t{1} << 62, 8, 0}), 0);
}

TEST(Shape, SymbolsAreNamedWhereANumberIsNeeded) {
    const Shape shape = {Dim::symbol("batch"), 3};
    EXPECT_FALSE(shape.is_static());
    EXPECT_EQ(shape.eval({{"batch", 5}}), (Ints{5, 3}));
    EXPECT_EQ(shape.substitute({{"batch", 5}}), (Shape{5, 3}));
    EXPECT_NE(message_of([&] { (void)shape.to_ints(); }).find("batch"), std::string::npos);
}

TEST(Tensor, CopiesAreValues) {
    Tensor a = Tensor::from_span<float>({2}, std::vector<float>{1, 2});
    const Tensor b = a;
    EXPECT_EQ(a.bytes().data(), b.bytes().data()) << "shared until written";
    a.mutable_data<float>()[0] = 7;
    EXPECT_EQ(b.at(0), 1);
    EXPECT_EQ(a.at(0), 7);
    const std::byte* own = a.bytes().data();
    a.mutable_data<float>()[1] = 8;
    EXPECT_EQ(a.bytes().data(), own) << "sole owner writes in place";
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(own) % 64, 0u);
}

TEST(Tensor, WrappedMemoryIsNeverWritten) {
    auto memory = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3});
    const std::weak_ptr<std::vector<float>> watch = memory;
    Tensor t = Tensor::wrap(DType::F32, {3}, std::as_bytes(std::span(*memory)), memory);
    EXPECT_EQ(t.data<float>().data(), memory->data());
    memory.reset();
    EXPECT_FALSE(watch.expired());
    t.mutable_data<float>()[0] = 9;
    EXPECT_TRUE(watch.expired()) << "the copy lets go of the owner";
    EXPECT_EQ(t.at(0), 9);
    alignas(8) const char raw[16] = {};
    const Tensor odd =
        Tensor::wrap(DType::I32, {2}, std::as_bytes(std::span(raw).subspan(1, 8)), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(odd.bytes().data()) % 4, 0u);
}

TEST(Tensor, BadSizesAreRefusedBeforeAllocation) {
    EXPECT_THROW(Tensor(DType::F32, {-1}), GraphError);
    EXPECT_THROW(Tensor(DType::F64, {std::int64_t{1} << 61}), GraphError);
    EXPECT_THROW(Tensor(DType::F64, {std::int64_t{1} << 40, std::int64_t{1} << 40}), GraphError);
    const std::vector<float> two = {1, 2};
    EXPECT_NE(message_of([&] { (void)Tensor::from_span<float>({3}, two); }).find("12 bytes"),
              std::string::npos);
    EXPECT_THROW((void)Tensor::wrap(DType::F32, {3}, std::as_bytes(std::span(two)), nullptr),
                 GraphError);
    EXPECT_THROW((void)Tensor::from_span<float>({2}, two).reshaped({3}), GraphError);
    EXPECT_THROW((void)Tensor::from_span<float>({2}, two).data<double>(), GraphError);
    EXPECT_THROW((void)Tensor::from_span<float>({2}, two).at(2), GraphError);
    EXPECT_EQ(Tensor().type_string(), "f32[0]");
    EXPECT_EQ(Tensor(DType::F64, {std::int64_t{1} << 61, 0}).size(), 0);
}

// Whole tensors are converted by loops of their own.
TEST(Tensor, CastsEachElementAsAlone) {
    Random random(11);
    Tensor x(DType::F32, {100'003});
    for (float& element : x.mutable_data<float>())
        element = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    const Tensor halves = x.cast(DType::F16), bfloats = x.cast(DType::BF16);
    const Tensor wide = halves.cast(DType::F32);
    for (std::size_t i = 0; i < 100'003; ++i) {
        const float element = x.data<float>()[i];
        ASSERT_EQ(halves.data<half>()[i], to_half(element)) << element;
        ASSERT_EQ(bfloats.data<bfloat16>()[i], to_bfloat16(element)) << element;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(wide.data<float>()[i]),
                  std::bit_cast<std::uint32_t>(to_float(to_half(element))))
            << element;
    }
}

TEST(Tensor, CastSaturatesWrapsAndRoundsOnce) {
    const Tensor f =
        Tensor::from_span<float>({6}, std::vector<float>{nan, inf, -inf, 300.7f, -1.9f, 3e9f});
    EXPECT_EQ(f.cast(DType::U8).int_at(0), 0);
    EXPECT_EQ(f.cast(DType::U8).int_at(1), 255);
    EXPECT_EQ(f.cast(DType::U8).int_at(2), 0);
    EXPECT_EQ(f.cast(DType::U8).int_at(3), 255);
    EXPECT_EQ(f.cast(DType::U8).int_at(4), 0);
    EXPECT_EQ(f.cast(DType::I8).int_at(2), -128);
    EXPECT_EQ(f.cast(DType::I32).int_at(4), -1);
    EXPECT_EQ(f.cast(DType::I32).int_at(5), std::numeric_limits<std::int32_t>::max());
    EXPECT_EQ(f.cast(DType::I64).int_at(1), std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(f.cast(DType::Bool).int_at(0), 1) << "NaN is not 0";
    EXPECT_EQ(Tensor::scalar<std::int32_t>(300).cast(DType::U8).int_at(0), 44) << "integers wrap";
    EXPECT_EQ(Tensor::scalar<std::int32_t>(256).cast(DType::Bool).int_at(0), 1);
    // Just above the midpoint of two halves: a detour over float would round down to even.
    const double above = 1 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40);
    EXPECT_EQ(Tensor::scalar(above).cast(DType::F16).at(0), 1 + std::ldexp(1.0, -10));
    const std::int64_t big = (std::int64_t{1} << 62) + (std::int64_t{1} << 54) + 1;
    EXPECT_EQ(Tensor::scalar(big).cast(DType::BF16).at(0),
              std::ldexp(1.0, 62) + std::ldexp(1.0, 55));
    EXPECT_EQ(Tensor::scalar(1e300).cast(DType::BF16).at(0), INFINITY);
}

TEST(ScalarRows, AreTheTable) {
    EXPECT_EQ(row_of(UnaryOp::IsInf).name, "IsInf");
    EXPECT_EQ(row_of(BinaryOp::LessEqual).text, "less_equal");
    EXPECT_EQ(row_of(BinaryOp::LessEqual).gives, Gives::Bool);
    EXPECT_EQ(row_of(BinaryOp::Add).expression, "kn_add(a, b)");
    EXPECT_TRUE(accepts(Accepts::Signed, DType::BF16));
    EXPECT_FALSE(accepts(Accepts::Signed, DType::U8));
    EXPECT_FALSE(accepts(Accepts::Numeric, DType::Bool));
}

// Elements that are made when they are asked for: by any of the ways to ask, once, from several
// threads.
TEST(Tensor, CastsLater) {
    std::vector<float> values(100000);
    for (std::size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i) / 7;
    const Tensor tensor = Tensor::from_span<float>({1000, 100}, values),
                 now = tensor.cast(DType::F16);
    const auto equals_now = [&](std::span<const std::byte> bytes) {
        return std::ranges::equal(bytes, now.bytes());
    };
    const Tensor later = tensor.cast_later(DType::F16), copy = later,
                 flat = later.reshaped({100000});
    EXPECT_EQ(later.type_string(), now.type_string());
    EXPECT_EQ(copy.identity(), later.identity());
    EXPECT_NE(tensor.cast_later(DType::F16).identity(), later.identity());
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (int i = 0; i < 4; i++) threads.emplace_back([&] { right += equals_now(flat.bytes()); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right, 4);
    EXPECT_TRUE(equals_now(later.bytes()));
    EXPECT_EQ(later.identity(), later.storage().get());

    Tensor written = tensor.cast_later(DType::F16);
    const Tensor kept = written;
    written.mutable_bytes()[0] = std::byte{1};
    EXPECT_TRUE(equals_now(kept.bytes()));
    EXPECT_FALSE(equals_now(written.bytes()));
    EXPECT_EQ(tensor.cast_later(DType::F32).identity(), tensor.identity());
    EXPECT_EQ(tensor.cast_later(DType::F64).at(99999), values.back());
    EXPECT_EQ(tensor.cast_later(DType::F16).cast_later(DType::F32).at(99999), now.at(99999));
    EXPECT_EQ(Tensor::scalar(2.5f).cast_later(DType::I32).at(0), 2);
}

}  // namespace
}  // namespace kn

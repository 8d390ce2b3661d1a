// The tokenizer, the generator and Unicode against recorded numbers of transformers, PyTorch and
// Python.
#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/torch_random.h"
#include "common/unicode.h"
#include "stable_diffusion/clip_tokenizer.h"

namespace sd {
namespace {

TEST(ClipTokenizer, IdsAreThoseOfTransformers) {
    std::ifstream file(KN_TEST_DATA "/tiny_sd/tokenizer.json");
    const auto recorded = nlohmann::json::parse(file);
    const ClipTokenizer tokenizer(KN_TINY_SD "/tokenizer");
    ASSERT_GE(recorded["cases"].size(), 20u);
    for (const auto& row : recorded["cases"])
        EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>()).ids,
                  row["ids"].get<std::vector<std::int64_t>>())
            << row["text"];
}

TEST(ClipTokenizer, FormCSpecialTokensAndWhatIsCut) {
    const ClipTokenizer tokenizer(KN_TINY_SD "/tokenizer");
    EXPECT_EQ(tokenizer.encode("cafe\u0301 E\u0301").ids, tokenizer.encode("caf\u00e9 \u00e9").ids);
    EXPECT_THAT(tokenizer.encode("red <|startoftext|>ring").ids, testing::Contains(150).Times(2));
    EXPECT_EQ(tokenizer.encode("a red ring").cut, "");
    std::string text;
    for (int i = 0; i < 74; i++) text += "red ";
    EXPECT_EQ(tokenizer.encode(text + "ring").cut, "");
    EXPECT_EQ(tokenizer.encode(text + "Ring Blue  moon").cut, "blue moon");
    EXPECT_THROW(tokenizer.encode("\xff"), std::runtime_error);
}

TEST(TorchRandom, NumbersAreThoseOfPyTorch) {
    // torch.randn(5), (20), (3) of torch.Generator().manual_seed(1234567890123)
    common::TorchRandom random(1234567890123);
    std::vector<float> five(5), twenty(20), three(3);
    random.normal(five);
    EXPECT_NEAR(five[0], 0.612099, 1e-6);
    EXPECT_NEAR(five[1], -0.930138, 1e-6);
    random.normal(twenty);
    EXPECT_NEAR(twenty[0], 0.615793, 1e-6);
    EXPECT_NEAR(twenty[2], 1.207256, 1e-6);
    EXPECT_NEAR(twenty[19], 0.516930, 1e-6);
}

TEST(Unicode, FormCAndLowerCase) {
    EXPECT_EQ(common::normal_form_c("A\u030a\u0323"), "\u1ea0\u030a");
    EXPECT_EQ(common::normal_form_c("\u1112\u1161\u11ab"), "\ud55c");
    EXPECT_EQ(common::normal_form_c("\u2126"), "\u03a9");
    EXPECT_EQ(common::lower_case("\u00dc\u0130\u03a3"), "\u00fci\u0307\u03c3");
    EXPECT_FALSE(common::is_utf8("\xc0\x80"));
    EXPECT_FALSE(common::is_utf8("\xed\xa0\x80"));
}

}  // namespace
}  // namespace sd

// The samplers against numbers from diffusers (make_schedules.py says how they were made).
#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/diffusion/scheduler.h"

namespace diffusion {
namespace {

using Json = nlohmann::json;

std::vector<float> series(double a, double b) {
    std::vector<float> out;
    for (int i = 0; i < 8; i++) out.push_back(static_cast<float>(1.5 * std::sin(a + b * i)));
    return out;
}
std::vector<float> output(std::size_t k) { return series(0.7 + 1.3 * static_cast<double>(k), 2.1); }
std::vector<float> noise(std::size_t j) { return series(0.2 + 0.9 * static_cast<double>(j), 1.7); }

std::string recorded_text() {
    std::ifstream file(KN_TEST_DATA "/stable_diffusion/schedules.json");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    for (std::size_t at; (at = text.find(": -Infinity")) != std::string::npos;)
        text.replace(at, 11, ": \"-Infinity\"");
    return text;
}

Schedule schedule_of(const Json& row) {
    std::optional<std::string> name;
    if (!row["name"].is_null()) name = row["name"].get<std::string>();
    const Config config = parse_config(row["config"].dump(), name, "config");
    return make_schedule(config, row["steps"].get<int>(), row["skipped"].get<std::size_t>());
}

double near(double wanted) { return 1e-4 * std::max(1.0, std::abs(wanted)); }

void check(const Json& row) {
    const Schedule schedule = schedule_of(row);
    ASSERT_EQ(schedule.steps.size(), row["timesteps"].size());
    EXPECT_NEAR(schedule.init_noise_sigma, row["init_noise_sigma"].get<double>(),
                near(schedule.init_noise_sigma));
    EXPECT_NEAR(schedule.start_original, row["add_noise"][0].get<double>(), 1e-5);
    EXPECT_NEAR(schedule.start_noise, row["add_noise"][1].get<double>(),
                near(schedule.start_noise));
    Sampler sampler(schedule);
    std::vector<float> x = noise(0);
    std::size_t draws = 0;
    for (std::size_t k = 0; k < schedule.steps.size(); k++) {
        SCOPED_TRACE("step " + std::to_string(k));
        const double timestep = row["timesteps"][k].get<double>();
        ASSERT_NEAR(schedule.steps[k].timestep, timestep, near(timestep));
        ASSERT_NEAR(schedule.steps[k].input_scale, row["scales"][k].get<double>(), 1e-5);
        sampler.step(k, output(k), x,
                     [&](std::span<float> to) { std::ranges::copy(noise(++draws), to.begin()); });
        for (std::size_t i = 0; i < x.size(); i++) {
            const Json& recorded = row["samples"][k][i];
            if (!recorded.is_number()) return;  // NaN: diffusers divides by zero here
            ASSERT_NEAR(x[i], recorded.get<double>(), near(recorded.get<double>()))
                << "element " << i;
        }
    }
}

TEST(Scheduler, EveryStepIsAsInDiffusers) {
    std::string text = recorded_text();
    for (std::size_t at; (at = text.find("NaN")) != std::string::npos;) text.replace(at, 3, "null");
    const Json rows = Json::parse(text);
    ASSERT_GT(rows.size(), 300u);
    for (const Json& row : rows) {
        SCOPED_TRACE(row["name"].dump() + ", " + row["steps"].dump() + " steps, " +
                     row["skipped"].dump() + " skipped: " + row["config"].dump());
        if (row.contains("error"))
            EXPECT_THROW(schedule_of(row), std::runtime_error);
        else
            check(row);
    }
}

std::string message(const std::string& text, const std::optional<std::string>& name, int steps) {
    try {
        const Config config = parse_config(text, name, "file.json");
        make_schedule(config, steps);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return {};
}

TEST(Scheduler, RefusalsNameWhatIsWrong) {
    using testing::HasSubstr;
    EXPECT_THAT(message("[", {}, 5), HasSubstr("file.json: is not a JSON object"));
    EXPECT_THAT(message("{}", {}, 5), HasSubstr("_class_name"));
    EXPECT_THAT(message(R"({"_class_name": "EDMEulerScheduler"})", {}, 5),
                HasSubstr("EDMEulerScheduler"));
    EXPECT_THAT(message("{}", "midpoint", 5), HasSubstr("'midpoint'"));
    EXPECT_THAT(message(R"({"predict_x0": false})", "unipc", 5), HasSubstr("predict_x0"));
    EXPECT_THAT(message(R"({"disable_corrector": 3})", "unipc", 5), HasSubstr("disable_corrector"));
    EXPECT_THAT(message(R"({"variance_type": "learned_range"})", "ddpm", 5),
                HasSubstr("variance_type 'learned_range'"));
    EXPECT_THAT(message(R"({"thresholding": true})", "deis", 5), HasSubstr("thresholding"));
    EXPECT_THAT(message("{}", "tcd", 51), HasSubstr("at most 50"));
    EXPECT_THAT(message(R"({"beta_schedule": "cosine"})", "ddim", 5),
                HasSubstr("beta_schedule 'cosine'"));
    EXPECT_THAT(message(R"({"prediction_type": 3})", "ddim", 5), HasSubstr("prediction_type"));
    EXPECT_THAT(message(R"({"num_train_timesteps": 1e30})", "ddim", 5),
                HasSubstr("num_train_timesteps"));
    EXPECT_THAT(message(R"({"trained_betas": [0.1]})", "ddim", 5), HasSubstr("trained_betas"));
    EXPECT_THAT(message("{}", "ddim", 0), HasSubstr("from 1 to 1000"));
    EXPECT_THAT(message("{}", "ddim", 1001), HasSubstr("from 1 to 1000"));
    EXPECT_THAT(message("{}", "lcm", 51), HasSubstr("at most 50"));
    EXPECT_THAT(message(R"({"steps_offset": 1})", "ddim", 1000), HasSubstr("timestep 1000"));
}

}  // namespace
}  // namespace diffusion

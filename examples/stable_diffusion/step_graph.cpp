#include "stable_diffusion/step_graph.h"

#include <algorithm>
#include <limits>

#include <kn/graph/builder.h>

namespace sd {

using diffusion::Source;

namespace {

// The order of "numbers"; behind Last, for each slot its weight and whether it is written.
enum Number : std::size_t {
    Timestep,
    InputScale,
    Guidance,
    FromSample,
    FromOutput,
    Clamp,
    OfSample,
    OfSaved,
    OfOutput,
    OfConverted,
    OfNoise,
    SaveSample,
    Last,
};

std::size_t slot_index(Source source) {
    return static_cast<std::size_t>(source) - static_cast<std::size_t>(Source::Slot0);
}

}  // namespace

std::vector<std::string> StepLayout::state() const {
    std::vector<std::string> out = {"sample"};
    if (saved) out.emplace_back("saved");
    for (std::size_t i = 0; i < slots; i++) out.push_back("slot_" + std::to_string(i));
    return out;
}

std::size_t StepLayout::numbers() const { return Last + 2 * slots; }

StepLayout layout_of(const diffusion::Schedule& schedule) {
    StepLayout out;
    for (const diffusion::Step& step : schedule.steps) {
        out.noise = out.noise || step.uses_noise();
        for (const diffusion::Term& term : step.next) {
            out.saved = out.saved || term.source == Source::Saved;
            if (term.source >= Source::Slot0)
                out.slots = std::max(out.slots, slot_index(term.source) + 1);
        }
    }
    return out;
}

bool fits_step_graph(const diffusion::Schedule& schedule) {
    return std::ranges::none_of(schedule.steps,
                                [](const diffusion::Step& step) { return step.threshold; });
}

std::vector<float> step_numbers(const diffusion::Schedule& schedule, const StepLayout& layout,
                                std::size_t i, double guidance) {
    const diffusion::Step& step = schedule.steps[i];
    std::vector<double> out(layout.numbers(), 0.0);
    out[Timestep] = step.timestep;
    out[InputScale] = step.input_scale;
    out[Guidance] = guidance;
    out[FromSample] = step.from_sample;
    out[FromOutput] = step.from_output;
    out[Clamp] = step.clamp.value_or(std::numeric_limits<float>::max());
    out[SaveSample] = step.save_sample;
    for (const diffusion::Term& term : step.next) {
        switch (term.source) {
            case Source::Sample:
                out[OfSample] += term.weight;
                break;
            case Source::Saved:
                out[OfSaved] += term.weight;
                break;
            case Source::Output:
                out[OfOutput] += term.weight;
                break;
            case Source::Converted:
                out[OfConverted] += term.weight;
                break;
            case Source::Noise:
                out[OfNoise] += term.weight;
                break;
            case Source::Slot0:
            case Source::Slot1:
            case Source::Slot2:
            case Source::Slot3:
            case Source::Slot4:
            case Source::Slot5:
                out[Last + slot_index(term.source)] += term.weight;
                break;
        }
    }
    if (step.store && *step.store < layout.slots) out[Last + layout.slots + *step.store] = 1;
    return {out.begin(), out.end()};
}

kn::Graph make_step_graph(const kn::Graph& unet, const std::string& sample_name,
                          const StepLayout& layout, bool guided) {
    using kn::Var;
    const auto sample_value = unet.find_input(sample_name);
    if (!sample_value)
        throw kn::GraphError("the UNet has no input '" + kn::printable(sample_name) + "'");
    kn::Shape shape = unet.shape(*sample_value);
    if (guided) shape[0] = kn::floor_div(shape[0], 2);
    kn::Graph graph;
    std::vector<Var> state;
    for (const std::string& name : layout.state())
        state.push_back(graph.input(name, kn::DType::F32, shape));
    const Var x = state[0];
    const Var numbers =
        graph.input("numbers", kn::DType::F32, {static_cast<std::int64_t>(layout.numbers())});
    const auto number = [&](std::size_t i) {
        const auto at = static_cast<std::int64_t>(i);
        return kn::reshape(kn::slice(numbers, 0, at, at + 1), kn::Shape{});
    };
    const auto is_set = [&](std::size_t i) {
        return kn::greater(number(i), kn::scalar(graph, kn::DType::F32, 0.5));
    };

    const Var scaled = x * number(InputScale);
    std::vector<Var> inputs;
    for (const kn::NamedValue& input : unet.inputs()) {
        const kn::DType dtype = unet.dtype(input.value);
        if (input.name == sample_name)
            inputs.push_back(kn::cast(guided ? kn::concat({scaled, scaled}, 0) : scaled, dtype));
        else if (input.name == "timestep")
            inputs.push_back(
                kn::broadcast_to(kn::cast(number(Timestep), dtype), unet.shape(input.value)));
        else
            inputs.push_back(
                kn::cast(graph.input(input.name, kn::DType::F32, unet.shape(input.value)), dtype));
    }
    Var e = kn::cast(kn::call(unet, inputs).at(0), kn::DType::F32);
    if (guided) {
        const std::vector<Var> halves = kn::split(e, 0, {shape[0], shape[0]});
        e = halves[0] + (halves[1] - halves[0]) * number(Guidance);
    }

    Var converted = x * number(FromSample) + e * number(FromOutput);
    converted = kn::minimum(kn::maximum(converted, -number(Clamp)), number(Clamp));
    Var next = x * number(OfSample) + e * number(OfOutput) + converted * number(OfConverted);
    std::vector<Var> kept;
    std::size_t at = 1;
    if (layout.saved) {
        kept.push_back(kn::select(is_set(SaveSample), x, state[at++]));
        next = next + kept.back() * number(OfSaved);
    }
    for (std::size_t i = 0; i < layout.slots; i++) {
        kept.push_back(kn::select(is_set(Last + layout.slots + i), converted, state[at++]));
        next = next + kept.back() * number(Last + i);
    }
    if (layout.noise) next = next + graph.input("noise", kn::DType::F32, shape) * number(OfNoise);
    std::vector<std::string> names = layout.state();
    graph.output(names[0], next);
    for (std::size_t i = 0; i < kept.size(); i++) graph.output(names[i + 1], kept[i]);
    return graph;
}

}  // namespace sd

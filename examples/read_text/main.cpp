// Reads the line of text in each picture given.
//
//     read_text --model ch_PP-OCRv4_rec_infer.onnx line.png
//
// The model is the recogniser out of the pip package rapidocr-onnxruntime.
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "common/image.h"
#include "read_text/recognizer.h"

namespace {

double milliseconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

void read_all(const std::string& model, const std::vector<std::string>& pictures) {
    auto start = std::chrono::steady_clock::now();
    const kn::Device device = kn::Device::best();
    Recognizer recognizer(model, device);
    std::printf("%s: loaded for %s in %.0f ms\n", model.c_str(), device.to_string().c_str(),
                milliseconds_since(start));
    for (const std::string& picture : pictures) {
        const common::Image image = common::read_png(picture);
        start = std::chrono::steady_clock::now();
        const Reading reading = recognizer.read(image);
        std::printf("%s (%zu x %zu): \"%s\" (confidence %.3f, %.0f ms)\n", picture.c_str(),
                    image.width, image.height, reading.text.c_str(), reading.confidence,
                    milliseconds_since(start));
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Reads the line of text in each picture."};
    std::string model;
    std::vector<std::string> pictures;
    app.add_option("--model", model, "the recogniser's ONNX file")->required();
    app.add_option("pictures", pictures, "PNG files")->required();
    CLI11_PARSE(app, argc, argv);
    try {
        read_all(model, pictures);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "read_text: %s\n", error.what());
        return 1;
    }
    return 0;
}

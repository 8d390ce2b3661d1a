// Reads one line of text out of a picture with a recogniser of the PP-OCR family.
//
//     Recognizer recognizer("ch_PP-OCRv4_rec_infer.onnx", kn::Device::best());
//     Reading reading = recognizer.read(common::read_png("line.png"));
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <kn/kn.h>

#include "common/image.h"

struct Reading {
    std::string text;         ///< UTF-8
    double confidence = 0.0;  ///< mean probability of the characters, 0 where there are none
};

class Recognizer {
  public:
    /// Throws kn::OnnxError; std::runtime_error where the model does not name its characters.
    Recognizer(const std::filesystem::path& model, kn::Device device);

    /// Pictures of any size; the line fills the height. Throws kn::GraphError.
    Reading read(const common::Image& image);

  private:
    Reading decode(const kn::Tensor& probabilities) const;

    kn::Network network_;
    std::vector<std::string> characters_;  // by class; class 0 is the blank
};

/// The picture as the network takes it: f32[1, 3, 48, width] in blue, green, red, from -1 to 1,
/// scaled to 48 rows with the proportions kept, bilinearly, and filled up with 0 to 320 columns.
kn::Tensor network_input(const common::Image& image);

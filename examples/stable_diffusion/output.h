// The files of a run: all of them, or none.
#pragma once

#include <string>

#include "stable_diffusion/options.h"

namespace sd {

/// Refuses what could not be written at the end. Throws std::runtime_error.
void check_outputs(const Options& options);

/// Pictures (FILE.png; a sheet and FILE_N.png where there are several), then the dump. Throws
/// std::runtime_error and leaves nothing behind where one cannot be written. Gives the pictures'
/// paths.
std::vector<std::string> write_outputs(const Options& options, const Request& request,
                                       const Result& result, const common::PngTexts& texts);

/// DIR/step_NN.png, with the folder if need be. Throws std::runtime_error.
void write_progress_image(const std::string& folder, std::size_t step, const common::Image& image);

/// How many pictures stand in a row of a request's sheet.
std::int64_t sheet_columns(const Request& request);

}  // namespace sd

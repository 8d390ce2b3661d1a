// JSON files with errors that name them. Heavy: for few sources.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

namespace sd {

/// Throws std::runtime_error that names the file if it is missing or not a JSON object.
inline nlohmann::json read_json(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    std::error_code error;
    if (!stream || std::filesystem::is_directory(file, error))
        throw std::runtime_error(file.string() + ": cannot be read");
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) throw std::runtime_error(file.string() + ": is not a JSON object");
    return json;
}

}  // namespace sd

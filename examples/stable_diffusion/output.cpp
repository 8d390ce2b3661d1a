#include "stable_diffusion/output.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/core.h>

#include "common/files.h"
#include "stable_diffusion/interrupt.h"

namespace sd {

namespace fs = std::filesystem;

namespace {

void check_folder(const std::string& option, const fs::path& folder) {
    std::error_code ignored;
    fs::path existing = fs::absolute(folder, ignored);
    while (!fs::exists(existing, ignored) && existing.has_parent_path() &&
           existing != existing.parent_path())
        existing = existing.parent_path();
    if (!fs::is_directory(existing, ignored))
        throw std::runtime_error(option + " " + folder.string() + ": " + existing.string() +
                                 " is not a folder");
    if (::access(existing.c_str(), W_OK) != 0)
        throw std::runtime_error(option + " " + folder.string() + ": cannot be written");
}

// Folders that had to be made, the innermost last.
std::vector<fs::path> make_folder(const fs::path& folder) {
    std::vector<fs::path> made;
    std::error_code error;
    fs::path at = fs::absolute(folder, error).lexically_normal();
    if (!at.has_filename()) at = at.parent_path();
    for (fs::path missing = at; !fs::exists(missing, error) && missing.has_relative_path();
         missing = missing.parent_path())
        made.insert(made.begin(), missing);
    fs::create_directories(at, error);
    if (error) throw std::runtime_error(folder.string() + ": cannot be made: " + error.message());
    return made;
}

// Takes back what it was told of, unless all went well.
class Written {
  public:
    ~Written() {
        std::error_code ignored;
        for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) fs::remove(*path, ignored);
    }
    void add(fs::path path) { paths_.push_back(std::move(path)); }
    void keep_all() { paths_.clear(); }

  private:
    std::vector<fs::path> paths_;
};

fs::path numbered(const fs::path& file, std::int64_t index) {
    fs::path out = file;
    out.replace_filename(file.stem().string() + "_" + std::to_string(index) +
                         file.extension().string());
    return out;
}

}  // namespace

void check_outputs(const Options& options) {
    if (const std::string why = common::why_not_writable(options.output); !why.empty())
        throw std::runtime_error("--output " + options.output + ": " + why);
    if (!options.dump.empty()) check_folder("--dump", options.dump);
    if (!options.progress_images.empty())
        check_folder("--progress-images", options.progress_images);
}

std::int64_t sheet_columns(const Request& request) {
    if (request.prompts.size() > 1 && request.count > 1) return request.count;
    return static_cast<std::int64_t>(
        std::ceil(std::sqrt(static_cast<double>(picture_count(request)))));
}

std::vector<std::string> write_outputs(const Options& options, const Request& request,
                                       const Result& result, const common::PngTexts& texts) {
    const WhileWriting guard;
    Written written;
    std::vector<std::string> pictures;
    const auto write = [&](const fs::path& path, const std::function<void()>& action) {
        std::error_code ignored;
        const bool is_new = !fs::exists(path, ignored);
        action();
        if (is_new) written.add(path);
    };
    const std::int64_t count = picture_count(request);
    const common::Image sheet = count > 1 ? contact_sheet(result.image, sheet_columns(request), 8)
                                          : to_image(result.image, 0);
    write(options.output, [&] { common::write_png(options.output, sheet, texts); });
    pictures.push_back(options.output);
    for (std::int64_t i = 0; count > 1 && i < count; i++) {
        common::PngTexts own = texts;
        const std::string& prompt = request.prompts[static_cast<std::size_t>(i / request.count)];
        own.insert(own.begin(), {"prompt", prompt});
        const fs::path path = numbered(options.output, i);
        write(path, [&] { common::write_png(path, to_image(result.image, i), own); });
        pictures.push_back(path.string());
    }
    if (!options.dump.empty()) {
        const fs::path folder = options.dump;
        for (fs::path& made : make_folder(folder)) written.add(std::move(made));
        const auto dump = [&](const std::string& name, const kn::Tensor& tensor) {
            write(folder / name, [&] { kn::write_npy(folder / name, tensor); });
        };
        dump("text_embeddings.npy", result.text_embeddings);
        for (std::size_t i = 0; i < result.latents.size(); i++)
            dump(fmt::format("latents_after_step_{:02}.npy", i), result.latents[i]);
        dump("image.npy", result.image);
    }
    written.keep_all();
    return pictures;
}

void write_progress_image(const std::string& folder, std::size_t step, const common::Image& image) {
    const WhileWriting guard;
    make_folder(folder);
    common::write_png(fs::path(folder) / fmt::format("step_{:02}.png", step), image);
}

}  // namespace sd

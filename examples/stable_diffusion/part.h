// One network of a model folder, taking tensors by name in whatever form its export declares.
//
//     Part unet(folder, "unet", {.device = kn::Device::best()});
//     kn::Tensor e = unet.run({{"sample", x}, ...}).at("out_sample");
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <kn/kn.h>

namespace sd {

using Tensors = std::map<std::string, kn::Tensor>;

class Part {
  public:
    /// FOLDER/NAME/model.onnx. Throws std::runtime_error if it is missing, kn::OnnxError.
    Part(const std::filesystem::path& folder, const std::string& name, kn::NetworkOptions options);

    const std::string& name() const { return name_; }
    /// The file, for messages.
    const std::filesystem::path& file() const { return file_; }
    /// Null if there is none.
    const kn::OnnxInfo::Port* input(const std::string& name) const;
    const kn::OnnxInfo::Port& first_input() const { return network_.info().inputs.front(); }
    /// Size of a dim of an input, if the export fixed it.
    std::optional<std::int64_t> fixed_dim(const kn::OnnxInfo::Port& port, std::size_t axis) const;
    const std::vector<std::string>& output_names() const { return network_.output_names(); }

    /// Inputs as f32 or i64; they are converted to the declared types. Where the export fixed the
    /// batch, the rows go through in portions of it. Outputs are f32, of the batch that
    /// `batch_input` has.
    Tensors run(const Tensors& inputs, const std::string& batch_input);

    /// Whether the network takes this input with these sizes, as far as its graph says.
    bool takes(const std::string& input, const kn::Ints& sizes) const;
    /// The sizes of output 0 for this input, where they follow from it.
    std::optional<kn::Ints> output_sizes(const std::string& input, const kn::Ints& sizes) const;

    const kn::Network& network() const { return network_; }
    std::size_t parameters() const;
    std::size_t peak_bytes() const { return network_.peak_bytes(); }

  private:
    std::optional<kn::Bindings> bindings(const std::string& input, const kn::Ints& sizes) const;
    Tensors run_whole(const Tensors& inputs);
    std::vector<kn::Tensor> run_named(const Tensors& inputs);

    std::string name_;
    std::filesystem::path file_;
    kn::Network network_;
};

/// Rows [from, to) along axis 0; rows of several tensors one after the other.
kn::Tensor rows(const kn::Tensor& tensor, std::int64_t from, std::int64_t to);
kn::Tensor concat_rows(const std::vector<kn::Tensor>& tensors);

}  // namespace sd
